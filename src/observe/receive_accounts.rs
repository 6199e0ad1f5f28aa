//! What becomes of received frames.
//!
//! Owns the counters of the way in. Every frame is counted in when it has been read whole, and out
//! when the [`Delivery`] that it belongs to goes away, by the fate that befell it: nobody has to
//! remember to, on whatever thread and for whatever reason it goes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    observe::event::Events,
    observe::stats::{DropReason, ReceiveStats},
    wire::count::Count,
};

/// The counters of the way in. One for a transport, locked once a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceiveAccounts(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    stats: Mutex<ReceiveStats>,
    /// Whether what is dropped untouched now is dropped because the transport stops.
    stopping: AtomicBool,
    /// Who hears of drops.
    events: Events,
    /// Rings when nothing is in delivery any more.
    empty: Notify,
}

impl ReceiveAccounts {
    pub(crate) fn new(events: Events) -> Self {
        ReceiveAccounts(Arc::new(Book {
            events,
            ..Book::default()
        }))
    }

    /// Counts frames as received; the guard sees to it that they are counted out again.
    pub(crate) fn receive(&self, count: Count) -> Delivery {
        let mut stats = self.0.stats.lock();
        stats.received += count;
        stats.in_delivery += count;
        drop(stats);
        Delivery::of(self.clone(), count)
    }

    pub(crate) fn malformed(&self) {
        self.0.stats.lock().malformed += 1;
    }

    pub(crate) fn timed_out(&self) {
        self.0.stats.lock().timed_out += 1;
    }

    pub(crate) fn truncated(&self) {
        self.0.stats.lock().truncated += 1;
    }

    pub(crate) fn stopping(&self) {
        self.0.stopping.store(true, Relaxed);
    }

    /// Waits until nothing is in delivery. What comes in meanwhile is waited for as well.
    pub(crate) async fn drained(&self) {
        loop {
            let empty = self.0.empty.notified();
            if self.stats().in_delivery.is_zero() {
                return;
            }
            empty.await;
        }
    }

    pub(crate) fn stats(&self) -> ReceiveStats {
        *self.0.stats.lock()
    }
}

/// Received frames that have not met their fate yet. They meet it in `Drop`.
#[derive(Debug)]
pub(crate) struct Delivery {
    accounts: ReceiveAccounts,
    left: Count,
    taken: Count,
    discard: Option<DropReason>,
    /// What else is to be given back with them.
    charge: Option<Charge>,
}

impl Delivery {
    /// Of frames that the accounts has counted as in delivery.
    fn of(accounts: ReceiveAccounts, left: Count) -> Self {
        Delivery {
            accounts,
            left,
            taken: Count::ZERO,
            discard: None,
            charge: None,
        }
    }

    /// The frames that have not been taken.
    pub(crate) fn left(&self) -> Count {
        self.left
    }

    /// Notes that the actor took a frame.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        let frame = Count::one(bytes);
        self.left -= frame;
        self.taken += frame;
    }

    /// Parts with so many of the frames that have not been taken.
    pub(crate) fn split_off(&mut self, count: Count) -> Delivery {
        self.left -= count;
        Delivery::of(self.accounts.clone(), count)
    }

    /// Lets the frames go undelivered.
    pub(crate) fn discard(mut self, reason: DropReason) {
        self.discard = Some(reason);
    }

    pub(crate) fn charge(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }
}

impl Delivery {
    /// What became of the frames that were not taken: none if they count as delivered.
    fn fate(&self) -> Option<DropReason> {
        if self.discard.is_some() {
            return self.discard;
        }
        if !self.taken.is_zero() && !std::thread::panicking() {
            return None;
        }
        match self.accounts.0.stopping.load(Relaxed) {
            true => Some(DropReason::Stopped),
            false => Some(DropReason::ActorGone),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let (left, fate) = (self.left, self.fate());
        let book = &self.accounts.0;
        let mut stats = book.stats.lock();
        stats.in_delivery -= left + self.taken;
        stats.delivered += self.taken;
        let counter = match fate {
            None => &mut stats.delivered,
            Some(DropReason::NoGroup) => &mut stats.dropped.no_group,
            Some(DropReason::Overflow) => &mut stats.dropped.overflow,
            Some(DropReason::Stopped) => &mut stats.dropped.stopped,
            Some(_) => &mut stats.dropped.actor_gone,
        };
        *counter += left;
        let empty = stats.in_delivery.is_zero();
        drop(stats);
        if empty {
            book.empty.notify_waiters();
        }
        if let Some(reason) = fate
            && !left.is_zero()
        {
            book.events.tell_undelivered(reason, left);
        }
    }
}

/// Bytes that a group holds against its bound, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<Mutex<usize>>,
    bytes: usize,
}

impl Charge {
    /// Takes as much of what is left below `max` as `fits` makes use of, which is told what that is.
    pub(crate) fn take(
        held: &Arc<Mutex<usize>>,
        max: usize,
        fits: impl FnOnce(usize) -> usize,
    ) -> Charge {
        let mut sum = held.lock();
        let bytes = fits(max - *sum);
        *sum += bytes;
        let held = held.clone();
        Charge { held, bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.held.lock() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_exact_and_given_back() {
        let held = Arc::default();
        let first = Charge::take(&held, 100, |room| room - 40);
        let _second = Charge::take(&held, 100, |room| {
            assert_eq!(room, 40);
            room
        });
        drop(first);
        assert_eq!(*held.lock(), 40);
    }
}
