//! Every frame's fate, in numbers.
//!
//! Owns the shapes of the counters and the identities that bind them; who counts lives elsewhere:
//! each send queue and the inbound accounts keep theirs under the lock that guards what they count, so
//! a snapshot of one is exact at every moment, and sums of exact numbers are exact.

use std::{net::SocketAddr, ops::AddAssign};

use crate::wire::count::Count;

/// Why an accepted or received frame did not get through.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
#[non_exhaustive]
pub enum DropReason {
    /// Waited longer than [`Config::stale_after`](crate::Config::stale_after).
    Stale,
    /// Pushed out by a newer one ([`Overflow::DropOldest`](crate::Overflow::DropOldest)), or its
    /// group held as much as [`GroupOverflow::Drop`](crate::GroupOverflow::Drop) allows.
    Overflow,
    /// The system refused the datagram.
    Failed,
    /// The transport stopped.
    Stopped,
    /// Nobody serves its group.
    NoGroup,
    /// The actor that serves its group ended, or panicked, before it took the frame; or the `Reader`
    /// or the `UdpActor` that had read it did.
    ActorGone,
}

/// Sends that were not accepted, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rejected {
    /// The queue held as many frames as it may.
    pub full_frames: Count,
    /// The queue held as many bytes as it may.
    pub full_bytes: Count,
    /// Larger than the frame limit.
    pub too_large: Count,
    /// The transport had stopped.
    pub stopped: Count,
    /// Could not have gone anywhere: reserved group, unusable address, one peer too many, or
    /// datagrams switched off.
    pub invalid: Count,
}

impl Rejected {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        self.full_frames + self.full_bytes + self.too_large + self.stopped + self.invalid
    }

    pub(crate) fn count(&mut self, refusal: crate::error::Refusal, frame: Count) {
        use crate::error::{QueueLimit, Refusal};
        let counter = match refusal {
            Refusal::Full(QueueLimit::Frames) => &mut self.full_frames,
            Refusal::Full(QueueLimit::Bytes) => &mut self.full_bytes,
            Refusal::TooLarge { .. } => &mut self.too_large,
            Refusal::Stopped => &mut self.stopped,
            Refusal::ReservedGroup
            | Refusal::Address(_)
            | Refusal::TooManyPeers { .. }
            | Refusal::NoDatagrams => &mut self.invalid,
        };
        *counter += frame;
    }
}

impl AddAssign for Rejected {
    fn add_assign(&mut self, other: Rejected) {
        self.full_frames += other.full_frames;
        self.full_bytes += other.full_bytes;
        self.too_large += other.too_large;
        self.stopped += other.stopped;
        self.invalid += other.invalid;
    }
}

/// Accepted frames that were not written, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Dropped {
    /// See [`DropReason::Stale`].
    pub stale: Count,
    /// See [`DropReason::Overflow`].
    pub overflow: Count,
    /// See [`DropReason::Failed`].
    pub failed: Count,
    /// See [`DropReason::Stopped`].
    pub stopped: Count,
}

impl Dropped {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        self.stale + self.overflow + self.failed + self.stopped
    }

    pub(crate) fn by_reason(&self) -> [(DropReason, Count); 4] {
        [
            (DropReason::Stale, self.stale),
            (DropReason::Overflow, self.overflow),
            (DropReason::Failed, self.failed),
            (DropReason::Stopped, self.stopped),
        ]
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.stale += other.stale;
        self.overflow += other.overflow;
        self.failed += other.failed;
        self.stopped += other.stopped;
    }
}

/// The way out: what was offered to send queues and what became of it.
///
/// `offered = accepted + rejected` and `accepted = written + dropped + queued + in_flight`, in frames
/// and in bytes, in every snapshot. "Written" means the kernel took all of the frame, not that
/// anybody received it.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SendStats {
    /// Every send that was tried to its end; a `send` that was cancelled while it waited was not.
    pub offered: Count,
    /// Taken into a queue.
    pub accepted: Count,
    /// Given back to the caller.
    pub rejected: Rejected,
    /// Taken whole by the kernel.
    pub written: Count,
    /// Accepted, but never written.
    pub dropped: Dropped,
    /// Waiting in a queue now.
    pub queued: Count,
    /// In a writer's hands now: taken from the queue, not yet taken whole by the kernel.
    pub in_flight: Count,
}

impl SendStats {
    fn balance(&self, way: &'static str) -> Result<(), Imbalance> {
        let ends = self.accepted + self.rejected.total();
        check(way, "offered = accepted + rejected", self.offered, ends)?;
        let ends = self.written + self.dropped.total() + self.queued + self.in_flight;
        let identity = "accepted = written + dropped + queued + in_flight";
        check(way, identity, self.accepted, ends)
    }
}

impl AddAssign for SendStats {
    fn add_assign(&mut self, other: SendStats) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.written += other.written;
        self.dropped += other.dropped;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
    }
}

/// Received frames that reached no actor, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Undelivered {
    /// See [`DropReason::NoGroup`].
    pub no_group: Count,
    /// See [`DropReason::Overflow`].
    pub overflow: Count,
    /// See [`DropReason::ActorGone`].
    pub actor_gone: Count,
    /// See [`DropReason::Stopped`].
    pub stopped: Count,
}

impl Undelivered {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        self.no_group + self.overflow + self.actor_gone + self.stopped
    }
}

/// The way in: what was read whole from connections and datagrams and what became of it.
///
/// `received = delivered + dropped + in_delivery`, in frames and in bytes, in every snapshot.
/// "Delivered" means an actor took the frame from its [`Inbound`](crate::Inbound).
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ReceiveStats {
    /// Whole frames read, by the time they are handed over, or given up with what read them.
    pub received: Count,
    /// Taken by the actor of their group.
    pub delivered: Count,
    /// Taken by nobody.
    pub dropped: Undelivered,
    /// On the way to their actor, or in its hands, now.
    pub in_delivery: Count,
    /// Connections closed, and datagrams ignored, for bytes that are no frame.
    pub malformed: u64,
    /// Connections closed because a frame did not complete in time.
    pub timed_out: u64,
    /// Connections that ended in the middle of a frame.
    pub truncated: u64,
}

impl ReceiveStats {
    fn balance(&self) -> Result<(), Imbalance> {
        let ends = self.delivered + self.dropped.total() + self.in_delivery;
        let identity = "received = delivered + dropped + in_delivery";
        check("inbound", identity, self.received, ends)
    }
}

/// Connections and the actors that carry them. These stand beside the frames and balance nothing.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Outgoing connections tried.
    pub dials: u64,
    /// Outgoing connections made.
    pub connects: u64,
    /// Outgoing connections lost or closed.
    pub disconnects: u64,
    /// Peers known now.
    pub peers: u64,
    /// Incoming connections taken.
    pub accepted: u64,
    /// Incoming connections turned away at a cap.
    pub turned_away: u64,
    /// Errors of the accepting socket that made it wait: out of descriptors or memory.
    pub accept_stalls: u64,
    /// Incoming connections open now.
    pub connections: u64,
    /// Actors of the transport that ended unasked and were started anew.
    pub restarts: u64,
    /// Datagrams that the system refused, by kind.
    pub datagram_errors: DatagramErrors,
}

/// Datagrams that the system refused to send, by what it said.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct DatagramErrors {
    /// Longer than the path carries (`EMSGSIZE`).
    pub too_long: u64,
    /// No route, or a firewall in the way.
    pub unreachable: u64,
    /// Nobody listened there, as an earlier datagram's answer told.
    pub refused: u64,
    /// Anything else.
    pub other: u64,
}

/// A snapshot of everything a transport counts.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames sent over connections, all peers taken together, forgotten ones included.
    pub tcp: SendStats,
    /// Frames sent as datagrams.
    pub udp: SendStats,
    /// Frames received, either way.
    pub inbound: ReceiveStats,
    /// Connections and actors.
    pub links: LinkStats,
}

impl Stats {
    /// Says whether every frame is in exactly one place, and which identity fails if not.
    ///
    /// # Errors
    ///
    /// An [`Imbalance`] would be a defect of this crate.
    pub fn balance(&self) -> Result<(), Imbalance> {
        self.tcp.balance("tcp")?;
        self.udp.balance("udp")?;
        self.inbound.balance()
    }
}

/// A snapshot of one peer.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Where the peer listens.
    pub addr: SocketAddr,
    /// What was sent to it and what became of it.
    pub frames: SendStats,
    /// Whether a connection to it stands now.
    pub connected: bool,
    /// Connections made to it so far; the number of the last one.
    pub epoch: u64,
}

impl PeerStats {
    /// Says whether every frame for this peer is in exactly one place.
    ///
    /// # Errors
    ///
    /// An [`Imbalance`] would be a defect of this crate.
    pub fn balance(&self) -> Result<(), Imbalance> {
        self.frames.balance("peer")
    }
}

/// An identity of the counters that does not hold.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{way}: {identity} does not hold: {left} against {right}")]
pub struct Imbalance {
    way: &'static str,
    identity: &'static str,
    left: Count,
    right: Count,
}

fn check(
    way: &'static str,
    identity: &'static str,
    left: Count,
    right: Count,
) -> Result<(), Imbalance> {
    if left == right {
        return Ok(());
    }
    Err(Imbalance {
        way,
        identity,
        left,
        right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_in_two_places_or_in_none_is_an_imbalance() {
        let mut stats = Stats::default();
        stats.tcp.offered = Count::one(72);
        assert!(stats.balance().is_err(), "offered, but nowhere");
        stats.tcp.accepted = Count::one(72);
        stats.tcp.queued = Count::one(72);
        assert_eq!(stats.balance(), Ok(()));
        stats.tcp.written = Count::one(72);
        let told = stats.balance().expect_err("twice").to_string();
        assert!(told.starts_with("tcp: accepted = written"), "{told}");
    }

    #[test]
    fn bytes_must_agree_as_well_as_frames() {
        let mut stats = Stats::default();
        stats.inbound.received = Count::one(72);
        stats.inbound.delivered = Count::one(71);
        assert!(stats.balance().is_err());
    }
}
