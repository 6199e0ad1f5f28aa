//! The counters of received frames, from the moment they have been read whole until they are delivered
//! or dropped.
//!
//! Owns the counters, over connections and as datagrams. An [`Intake`](super::intake::Intake) counts
//! frames as received. Each frame then ends in it, dropped, or in a
//! [`Delivery`](super::delivery::Delivery). Delivering the frames is left to the folder `receive`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    ids::GroupId,
    observe::{
        reporter::Reporter,
        stats::{DropReason, ReceiveStats, Undelivered},
    },
    wire::count::Count,
};

/// The counters of received frames. A transport has one of these. Its mutex is locked once or twice for
/// each round of groups that a connection hands over, and once for each batch that a handler is done
/// with.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceiveAccounts {
    all: Arc<Inner>,
    /// For the frames of one connection: cancelled when a later incarnation of their sender has come.
    /// `None` if the sender is not known. Shared, because each batch has a handle: cloning a token and
    /// dropping it locks it, once each.
    superseded: Option<Arc<CancellationToken>>,
    /// For the frames of one connection: grows by one with each, if they are numbered.
    next: Option<Arc<AtomicU64>>,
}

#[derive(Debug, Default)]
struct Inner {
    stats: Mutex<ReceiveStats>,
    /// Once this is true, frames that nobody decided on count as [`NotDelivered::Stopped`].
    stopping: AtomicBool,
    /// Is told of dropped frames.
    reporter: Reporter,
    /// Notified whenever the last frame in delivery is counted as delivered or dropped.
    empty: Notify,
}

impl ReceiveAccounts {
    pub(crate) fn new(reporter: Reporter) -> Self {
        let all = Inner {
            reporter,
            ..Inner::default()
        };
        ReceiveAccounts {
            all: Arc::new(all),
            superseded: None,
            next: None,
        }
    }

    /// Returns a handle to the same counters for the frames of a known sender, given what is cancelled when
    /// a later incarnation of it has come.
    pub(crate) fn until_superseded(&self, superseded: CancellationToken) -> Self {
        ReceiveAccounts {
            all: self.all.clone(),
            superseded: Some(Arc::new(superseded)),
            next: None,
        }
    }

    /// Returns a handle for frames that are numbered, given what is to grow with each of them.
    pub(crate) fn numbered(&self, next: Arc<AtomicU64>) -> Self {
        ReceiveAccounts {
            next: Some(next),
            ..self.clone()
        }
    }

    /// Counts frames as received and in delivery.
    pub(super) fn receive(&self, count: Count) {
        let mut stats = self.all.stats.lock();
        stats.received += count;
        stats.in_delivery += count;
        if let Some(next) = &self.next {
            next.fetch_add(count.frames, Relaxed);
            stats.numbered += count.frames;
            stats.announced = stats.announced.wrapping_add(count.frames);
        }
    }

    /// Counts a part that is numbered as a frame, and is none for the other counters.
    pub(crate) fn receive_part(&self) {
        if let Some(next) = &self.next {
            let mut stats = self.all.stats.lock();
            next.fetch_add(1, Relaxed);
            stats.numbered += 1;
            stats.announced = stats.announced.wrapping_add(1);
        }
    }

    /// Counts frames in delivery as delivered, and others as dropped.
    pub(super) fn settle(&self, delivered: Count, dropped: &[(NotDelivered, Count)]) {
        let mut stats = self.all.stats.lock();
        stats.in_delivery -= delivered;
        stats.delivered += delivered;
        for &(why, count) in dropped {
            stats.in_delivery -= count;
            *why.counter(&mut stats.dropped) += count;
        }
        let empty = stats.in_delivery.is_zero();
        drop(stats);
        if empty {
            self.all.empty.notify_waiters();
        }
    }

    /// Reports dropped frames from one sender. `group` is `None` if they are of several.
    pub(super) fn tell_dropped(
        &self,
        from: SocketAddr,
        group: Option<GroupId>,
        why: NotDelivered,
        count: Count,
    ) {
        let reporter = &self.all.reporter;
        reporter.undelivered(from, group, why.reason(), count);
    }

    /// Returns why frames are dropped that nobody decided on: because the actor that had them ended, or
    /// the transport.
    fn abandoned(&self) -> NotDelivered {
        match self.all.stopping.load(Relaxed) {
            true => NotDelivered::Stopped,
            false => NotDelivered::ActorGone,
        }
    }

    /// Returns why frames are dropped that nobody decided on, and that no handler had.
    pub(super) fn not_handled(&self) -> NotDelivered {
        match &self.superseded {
            Some(superseded) if superseded.is_cancelled() => NotDelivered::Superseded,
            _ => self.abandoned(),
        }
    }

    /// Counts numbered frames that will not come.
    pub(crate) fn missing(&self, frames: u64) {
        let mut stats = self.all.stats.lock();
        // Whoever makes up nodes can make up numbers, too.
        stats.missing = stats.missing.wrapping_add(frames);
        stats.announced = stats.announced.wrapping_add(frames);
    }

    /// Counts a connection or a datagram whose bytes are not a frame.
    pub(crate) fn malformed(&self) {
        self.all.stats.lock().malformed += 1;
    }

    /// Counts a connection that was closed because a frame was not complete in time.
    pub(crate) fn timed_out(&self) {
        self.all.stats.lock().timed_out += 1;
    }

    /// Counts a connection that was closed because memory was used up.
    pub(crate) fn given_up(&self) {
        self.all.stats.lock().given_up += 1;
    }

    /// Counts a connection that ended in the middle of a frame.
    pub(crate) fn truncated(&self) {
        self.all.stats.lock().truncated += 1;
    }

    /// Notes that the transport stops. Frames that nobody decided on count as
    /// [`NotDelivered::Stopped`] from now on.
    pub(crate) fn stopping(&self) {
        self.all.stopping.store(true, Relaxed);
    }

    /// Waits until no frame is in delivery, including frames that are received meanwhile.
    pub(crate) async fn drained(&self) {
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let empty = self.all.empty.notified();
            if self.stats().in_delivery.is_zero() {
                return;
            }
            empty.await;
        }
    }

    /// Returns what is told of lost frames and connections.
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.all.reporter
    }

    pub(crate) fn stats(&self) -> ReceiveStats {
        *self.all.stats.lock()
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
    /// The group's actor, or the actor that had read the frames, ended before a handler had them.
    ActorGone,
    /// It is a message of which not all parts came.
    Incomplete,
    /// A later incarnation of the sender has come.
    Superseded,
    /// The transport stopped.
    Stopped,
}

impl NotDelivered {
    /// All reasons, each at the position that it has as a number.
    pub(super) const ALL: [NotDelivered; 6] = [
        NotDelivered::NoGroup,
        NotDelivered::Overflow,
        NotDelivered::ActorGone,
        NotDelivered::Incomplete,
        NotDelivered::Superseded,
        NotDelivered::Stopped,
    ];

    fn reason(self) -> DropReason {
        match self {
            NotDelivered::NoGroup => DropReason::NoGroup,
            NotDelivered::Overflow => DropReason::Overflow,
            NotDelivered::ActorGone => DropReason::ActorGone,
            NotDelivered::Incomplete => DropReason::Incomplete,
            NotDelivered::Superseded => DropReason::Superseded,
            NotDelivered::Stopped => DropReason::Stopped,
        }
    }

    pub(super) fn counter(self, dropped: &mut Undelivered) -> &mut Count {
        match self {
            NotDelivered::NoGroup => &mut dropped.no_group,
            NotDelivered::Overflow => &mut dropped.overflow,
            NotDelivered::ActorGone => &mut dropped.actor_gone,
            NotDelivered::Incomplete => &mut dropped.incomplete,
            NotDelivered::Superseded => &mut dropped.superseded,
            NotDelivered::Stopped => &mut dropped.stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::Stats;

    /// Returns the counters, after checking that they balance.
    fn balanced(accounts: &ReceiveAccounts) -> ReceiveStats {
        let inbound = accounts.stats();
        let stats = Stats {
            inbound,
            ..Stats::default()
        };
        stats.balance().expect("every frame is in one place");
        inbound
    }

    #[test]
    fn what_is_numbered_moves_its_sender_on() {
        let accounts = ReceiveAccounts::default();
        let next = Arc::new(AtomicU64::new(5));
        accounts.receive_part();
        assert_eq!(balanced(&accounts).announced, 0, "not numbered");
        let numbered = accounts.numbered(next.clone());
        numbered.receive(Count::new(2, 20));
        numbered.receive_part();
        numbered.missing(4);
        assert_eq!(next.load(Relaxed), 5 + 3);
        let stats = balanced(&accounts);
        assert_eq!(stats.received, Count::new(2, 20), "a part is no frame");
        assert_eq!((stats.numbered, stats.missing, stats.announced), (3, 4, 7));
    }

    #[test]
    fn what_nobody_handled_is_superseded_only_once_a_later_incarnation_has_come() {
        let accounts = ReceiveAccounts::default();
        assert_eq!(accounts.not_handled(), NotDelivered::ActorGone);
        let later = CancellationToken::new();
        let of_sender = accounts.until_superseded(later.clone());
        assert_eq!(of_sender.not_handled(), NotDelivered::ActorGone);
        accounts.stopping();
        assert_eq!(of_sender.not_handled(), NotDelivered::Stopped);
        later.cancel();
        let numbered = of_sender.numbered(Arc::default());
        assert_eq!(numbered.not_handled(), NotDelivered::Superseded);
        assert_eq!(accounts.not_handled(), NotDelivered::Stopped);
        of_sender.receive(Count::one(10));
        assert_eq!(
            accounts.stats().received,
            Count::one(10),
            "counted together"
        );
    }

    #[test]
    fn each_way_in_which_a_connection_fails_has_a_counter() {
        let accounts = ReceiveAccounts::default();
        accounts.malformed();
        (0..2).for_each(|_| accounts.timed_out());
        (0..3).for_each(|_| accounts.given_up());
        (0..4).for_each(|_| accounts.truncated());
        let stats = accounts.stats();
        let counters = [
            stats.malformed,
            stats.timed_out,
            stats.given_up,
            stats.truncated,
        ];
        assert_eq!(counters, [1, 2, 3, 4]);
    }

    #[test]
    fn all_is_drained_once_nothing_is_in_delivery() {
        let accounts = ReceiveAccounts::default();
        assert!(accounts.drained().now_or_never().is_some());
        accounts.receive(Count::new(3, 30));
        let mut drained = std::pin::pin!(accounts.drained());
        assert!(drained.as_mut().now_or_never().is_none());
        accounts.settle(Count::new(2, 20), &[]);
        assert!(drained.as_mut().now_or_never().is_none());
        accounts.settle(Count::ZERO, &[(NotDelivered::Overflow, Count::one(10))]);
        assert!(drained.now_or_never().is_some());
        let stats = balanced(&accounts);
        assert_eq!(stats.delivered, Count::new(2, 20));
        assert_eq!(stats.dropped.overflow, Count::one(10));
    }

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for (index, why) in NotDelivered::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            let accounts = ReceiveAccounts::default();
            accounts.receive(Count::new(2, 20));
            accounts.settle(Count::ZERO, &[(why, Count::new(2, 20))]);
            let mut stats = accounts.stats();
            assert_eq!(*why.counter(&mut stats.dropped), Count::new(2, 20));
            assert_eq!(stats.dropped.total(), stats.received, "{why:?}");
        }
    }
}
