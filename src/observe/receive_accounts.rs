//! Counts received frames, from the moment they have been read whole until they are delivered or
//! dropped.
//!
//! Owns the counters of received frames, over connections and as datagrams. [`ReceiveAccounts::receive`]
//! counts frames as received and returns a [`Delivery`]. Dropping the delivery counts the frames again,
//! as delivered or as dropped for a reason. This happens in `Drop` so that no code path, and no panic,
//! can lose a frame. Delivering the frames is left to the folder `receive`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    observe::stats::{DropReason, ReceiveStats, Undelivered},
    observe::subscribers::Subscribers,
    wire::count::Count,
};

/// The counters of received frames. A transport has one of these. Its mutex is locked when frames
/// are received, and again when they are delivered or dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceiveAccounts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stats: Mutex<ReceiveStats>,
    /// Once this is true, batches that are dropped untouched count as [`NotDelivered::Stopped`].
    stopping: AtomicBool,
    /// Tells subscribers about dropped frames.
    events: Subscribers,
    /// Notified whenever the last frame in delivery is counted as delivered or dropped.
    empty: Notify,
}

impl ReceiveAccounts {
    pub(crate) fn new(events: Subscribers) -> Self {
        ReceiveAccounts(Arc::new(Inner {
            events,
            ..Inner::default()
        }))
    }

    /// Counts frames as received and in delivery.
    pub(crate) fn receive(&self, count: Count) -> Delivery {
        let mut stats = self.0.stats.lock();
        stats.received += count;
        stats.in_delivery += count;
        drop(stats);
        Delivery::new(self.clone(), count)
    }

    /// Counts a connection or a datagram whose bytes are not a frame.
    pub(crate) fn malformed(&self) {
        self.0.stats.lock().malformed += 1;
    }

    /// Counts a connection that was closed because a frame was not complete in time.
    pub(crate) fn timed_out(&self) {
        self.0.stats.lock().timed_out += 1;
    }

    /// Counts a connection that was closed because memory was used up.
    pub(crate) fn given_up(&self) {
        self.0.stats.lock().given_up += 1;
    }

    /// Counts a connection that ended in the middle of a frame.
    pub(crate) fn truncated(&self) {
        self.0.stats.lock().truncated += 1;
    }

    /// Notes that the transport stops. Batches that are dropped untouched from now on count as
    /// [`NotDelivered::Stopped`].
    pub(crate) fn stopping(&self) {
        self.0.stopping.store(true, Relaxed);
    }

    /// Waits until no frame is in delivery, including frames that are received meanwhile.
    pub(crate) async fn drained(&self) {
        loop {
            // Created before the check, so that a notification between the two is not missed.
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

/// Why received frames were not delivered.
///
/// [`DropReason`] also has reasons that only sent frames have. This enum has none of those, so matches on
/// it need no default arm, and a new reason cannot be counted as an old one.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum NotDelivered {
    /// No actor serves the group.
    NoGroup,
    /// The group held as many bytes as allowed.
    Overflow,
    /// The group's actor, or the actor that had read the frames, ended before the frames were taken.
    ActorGone,
    /// The transport stopped.
    Stopped,
}

impl NotDelivered {
    fn reason(self) -> DropReason {
        match self {
            NotDelivered::NoGroup => DropReason::NoGroup,
            NotDelivered::Overflow => DropReason::Overflow,
            NotDelivered::ActorGone => DropReason::ActorGone,
            NotDelivered::Stopped => DropReason::Stopped,
        }
    }

    fn counter(self, dropped: &mut Undelivered) -> &mut Count {
        match self {
            NotDelivered::NoGroup => &mut dropped.no_group,
            NotDelivered::Overflow => &mut dropped.overflow,
            NotDelivered::ActorGone => &mut dropped.actor_gone,
            NotDelivered::Stopped => &mut dropped.stopped,
        }
    }
}

/// Received frames that are neither delivered nor dropped yet. Dropping this counts them as one or the
/// other.
#[derive(Debug)]
pub(crate) struct Delivery {
    accounts: ReceiveAccounts,
    /// Frames that the actor has not taken.
    left: Count,
    taken: Count,
    /// Why the frames left are dropped, if that is decided already.
    discarded: Option<NotDelivered>,
}

impl Delivery {
    /// Makes a delivery of frames that the caller has counted as in delivery.
    fn new(accounts: ReceiveAccounts, left: Count) -> Self {
        Delivery {
            accounts,
            left,
            taken: Count::ZERO,
            discarded: None,
        }
    }

    /// Returns the frames that have not been taken.
    pub(crate) fn left(&self) -> Count {
        self.left
    }

    /// Notes that the actor took a frame of `bytes` bytes.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        let frame = Count::one(bytes);
        self.left -= frame;
        self.taken += frame;
    }

    /// Moves `count` of the frames that have not been taken into a delivery of their own.
    pub(crate) fn split_off(&mut self, count: Count) -> Delivery {
        self.left -= count;
        Delivery::new(self.accounts.clone(), count)
    }

    /// Drops the frames undelivered.
    pub(crate) fn discard(mut self, why: NotDelivered) {
        self.discarded = Some(why);
    }

    /// Returns why the frames left were not delivered, or `None` if they count as delivered.
    ///
    /// They count as delivered if the actor took at least one frame and then dropped the batch without a
    /// panic.
    fn not_delivered(&self) -> Option<NotDelivered> {
        if self.discarded.is_some() {
            return self.discarded;
        }
        if !self.taken.is_zero() && !std::thread::panicking() {
            return None;
        }
        match self.accounts.0.stopping.load(Relaxed) {
            true => Some(NotDelivered::Stopped),
            false => Some(NotDelivered::ActorGone),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let (left, not_delivered) = (self.left, self.not_delivered());
        let inner = &self.accounts.0;
        let mut stats = inner.stats.lock();
        stats.in_delivery -= left + self.taken;
        stats.delivered += self.taken;
        let counter = match not_delivered {
            None => &mut stats.delivered,
            Some(why) => why.counter(&mut stats.dropped),
        };
        *counter += left;
        let empty = stats.in_delivery.is_zero();
        drop(stats);
        if empty {
            inner.empty.notify_waiters();
        }
        if let Some(why) = not_delivered
            && !left.is_zero()
        {
            inner.events.tell_undelivered(why.reason(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [NotDelivered; 4] = [
        NotDelivered::NoGroup,
        NotDelivered::Overflow,
        NotDelivered::ActorGone,
        NotDelivered::Stopped,
    ];

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for why in REASONS {
            let accounts = ReceiveAccounts::default();
            accounts.receive(Count::new(2, 20)).discard(why);
            let mut stats = accounts.stats();
            assert_eq!(*why.counter(&mut stats.dropped), Count::new(2, 20));
            assert_eq!(stats.dropped.total(), stats.received, "{why:?}");
        }
    }

    #[test]
    fn a_split_off_part_is_counted_apart_from_the_others() {
        let accounts = ReceiveAccounts::default();
        let mut delivery = accounts.receive(Count::new(3, 30));
        let beyond = delivery.split_off(Count::new(1, 10));
        assert_eq!(delivery.left(), Count::new(2, 20));
        beyond.discard(NotDelivered::Overflow);
        delivery.take(10);
        drop(delivery);
        let stats = accounts.stats();
        assert_eq!(stats.dropped.overflow, Count::new(1, 10));
        assert_eq!(stats.delivered, Count::new(2, 20));
        assert!(stats.in_delivery.is_zero());
    }

    #[test]
    fn a_batch_dropped_untouched_after_the_transport_stopped_counts_as_stopped() {
        let accounts = ReceiveAccounts::default();
        let delivery = accounts.receive(Count::one(10));
        accounts.stopping();
        drop(delivery);
        assert_eq!(accounts.stats().dropped.stopped, Count::one(10));
    }
}
