//! The account of one queue: how many frames, and how many bytes, are in which place.
//!
//! Owns the counters of the way out ([`SendStats`]) and the drops that nobody has been told of yet. A
//! frame comes in by [`Account::offer`] and moves on by [`Account::transfer`], which takes it from one
//! place and puts it into another. Nothing else changes a counter, so every frame stays in exactly one
//! place. When a frame moves is decided by the queue and its batches.

use crate::{
    error::Refusal,
    observe::stats::{Dropped, Receipt, SendStats},
    wire::count::Count,
};

/// The counters of one queue.
#[derive(Default)]
pub(super) struct Account {
    stats: SendStats,
    /// How many frames were accepted in the place of another, whose number they have.
    in_place: u64,
    /// Drops since somebody was last told of drops. They are counted in `stats`, too.
    untold: Dropped,
}

/// Where an accepted frame can be.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Place {
    Queued,
    InFlight,
    Written,
    Dropped(SendDrop),
}

/// Why a send queue drops a frame.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum SendDrop {
    Stale,
    Overflow,
    Replaced,
    Incomplete,
    Withdrawn,
    Failed,
    CutOff,
    PeerForgotten,
    Stopped,
}

impl Account {
    /// Counts sends that have been decided. Accepted frames are queued from now on.
    #[inline]
    pub(super) fn offer(&mut self, decided: Result<(), Refusal>, frame: Count) {
        self.stats.offered += frame;
        match decided {
            Ok(()) => {
                self.stats.accepted += frame;
                self.stats.queued += frame;
            }
            Err(refusal) => self.stats.rejected.count(refusal, frame),
        }
    }

    /// Moves frames from one place to another. `Written` and `Dropped` are final.
    pub(super) fn transfer(&mut self, from: Place, to: Place, count: Count) {
        debug_assert!(matches!(from, Place::Queued | Place::InFlight));
        *self.counter(from) -= count;
        *self.counter(to) += count;
        if let Place::Dropped(reason) = to {
            *drop_counter(&mut self.untold, reason) += count;
        }
    }

    /// Counts what is known of written frames when their link has ended.
    pub(super) fn count_receipt(&mut self, receipt: Receipt) {
        self.stats.confirmed += receipt.confirmed;
        self.stats.in_doubt += receipt.in_doubt;
    }

    /// Returns what the queue holds: queued or in flight.
    #[inline]
    pub(super) fn held(&self) -> Count {
        self.stats.queued + self.stats.in_flight
    }

    /// Counts a frame that was accepted in the place of a queued one, which is dropped, and gets its number.
    pub(super) fn replace(&mut self, older: Count, why: SendDrop, newer: Count) {
        self.transfer(Place::Queued, Place::Dropped(why), older);
        self.offer(Ok(()), newer);
        self.in_place += 1;
    }

    /// Returns the number of the next frame that is accepted, unless it takes the place of another.
    #[inline]
    pub(super) fn next_number(&self) -> u64 {
        self.stats.accepted.frames - self.in_place
    }

    #[inline]
    pub(super) fn in_flight(&self) -> Count {
        self.stats.in_flight
    }

    pub(super) fn stats(&self) -> SendStats {
        self.stats
    }

    /// Returns the drops that nobody has been told of yet. The caller tells of them.
    pub(super) fn take_untold(&mut self) -> Dropped {
        std::mem::take(&mut self.untold)
    }

    fn counter(&mut self, place: Place) -> &mut Count {
        match place {
            Place::Queued => &mut self.stats.queued,
            Place::InFlight => &mut self.stats.in_flight,
            Place::Written => &mut self.stats.written,
            Place::Dropped(reason) => drop_counter(&mut self.stats.dropped, reason),
        }
    }
}

fn drop_counter(dropped: &mut Dropped, reason: SendDrop) -> &mut Count {
    match reason {
        SendDrop::Stale => &mut dropped.stale,
        SendDrop::Overflow => &mut dropped.overflow,
        SendDrop::Replaced => &mut dropped.replaced,
        SendDrop::Incomplete => &mut dropped.incomplete,
        SendDrop::Withdrawn => &mut dropped.withdrawn,
        SendDrop::Failed => &mut dropped.failed,
        SendDrop::CutOff => &mut dropped.cut_off,
        SendDrop::PeerForgotten => &mut dropped.peer_forgotten,
        SendDrop::Stopped => &mut dropped.stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stats, error::QueueLimit};

    const FRAME: Count = Count {
        frames: 1,
        bytes: 20,
    };

    fn balanced(account: &Account) -> SendStats {
        let udp = account.stats();
        let stats = Stats {
            udp,
            ..Stats::default()
        };
        stats.balance().expect("every frame is in one place");
        udp
    }

    #[test]
    fn an_accepted_frame_is_queued_and_a_rejected_one_is_not() {
        let mut account = Account::default();
        account.offer(Ok(()), FRAME);
        account.offer(Err(Refusal::Full(QueueLimit::Bytes)), FRAME);
        account.offer(Err(Refusal::Stopped), FRAME);
        let stats = balanced(&account);
        assert_eq!(stats.offered.frames, 3);
        assert_eq!((stats.accepted, stats.queued), (FRAME, FRAME));
        let rejected = stats.rejected;
        assert_eq!((rejected.full_bytes, rejected.stopped), (FRAME, FRAME));
    }

    #[test]
    fn every_transfer_keeps_the_balance() {
        let ends = [
            Place::Written,
            Place::Dropped(SendDrop::Stale),
            Place::Dropped(SendDrop::Overflow),
            Place::Dropped(SendDrop::Replaced),
            Place::Dropped(SendDrop::Incomplete),
            Place::Dropped(SendDrop::Failed),
            Place::Dropped(SendDrop::CutOff),
            Place::Dropped(SendDrop::PeerForgotten),
            Place::Dropped(SendDrop::Stopped),
        ];
        let mut account = Account::default();
        for end in ends {
            account.offer(Ok(()), FRAME);
            account.transfer(Place::Queued, Place::InFlight, FRAME);
            assert_eq!((account.held(), account.in_flight()), (FRAME, FRAME));
            balanced(&account);
            account.transfer(Place::InFlight, Place::Queued, FRAME);
            assert_eq!((account.held(), account.in_flight()), (FRAME, Count::ZERO));
            account.transfer(Place::Queued, end, FRAME);
            assert!(account.held().is_zero());
        }
        let stats = balanced(&account);
        let dropped = stats.dropped;
        assert_eq!(stats.written, FRAME);
        assert_eq!((dropped.stale, dropped.overflow), (FRAME, FRAME));
        assert_eq!((dropped.failed, dropped.stopped), (FRAME, FRAME));
        assert_eq!((dropped.replaced, dropped.incomplete), (FRAME, FRAME));
        assert_eq!((dropped.cut_off, dropped.peer_forgotten), (FRAME, FRAME));
    }

    #[test]
    fn a_frame_in_the_place_of_another_has_its_number() {
        let mut account = Account::default();
        account.offer(Ok(()), FRAME);
        account.replace(FRAME, SendDrop::Replaced, Count::one(30));
        assert_eq!(account.next_number(), 1);
        let stats = balanced(&account);
        assert_eq!((stats.accepted.frames, stats.queued), (2, Count::one(30)));
        assert_eq!(stats.dropped.replaced, FRAME);
    }

    #[test]
    fn each_drop_is_told_once() {
        let mut account = Account::default();
        account.offer(Ok(()), FRAME);
        account.transfer(Place::Queued, Place::Dropped(SendDrop::Stale), FRAME);
        let told = account.take_untold();
        assert_eq!(told.stale, FRAME);
        assert_eq!(account.take_untold(), Dropped::default());
        assert_eq!(balanced(&account).dropped.stale, FRAME, "counted once");
    }
}
