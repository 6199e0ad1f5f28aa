//! The counters of sent frames.

use std::ops::AddAssign;

use crate::{
    error::{QueueLimit, Refusal},
    observe::stats::{
        balance::{Imbalance, check},
        drop_reason::DropReason,
    },
    wire::count::Count,
};

/// What was offered for sending and what became of it.
///
/// `offered = accepted + rejected` and `accepted = written + dropped + queued + in_flight`, in frames
/// and in bytes, in every snapshot; `confirmed + in_doubt` is never more than `written`. "Written" means
/// that the kernel took the whole frame, not that anybody received it.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SendStats {
    /// All sends that were accepted or rejected. A `send` that was cancelled while it waited for room
    /// does not count.
    pub offered: Count,
    /// Frames that a queue accepted.
    pub accepted: Count,
    /// Frames that were refused; the caller got the payload back.
    pub rejected: Rejected,
    /// Frames that the kernel took whole.
    pub written: Count,
    /// Written frames of connections that have ended: those that the other side's system had acknowledged.
    /// Counted on Linux only, and never for datagrams; see [`Receipt`](crate::Receipt). `written` is the
    /// sum of this, of `in_doubt`, and of what was written on the connections that there are now.
    pub confirmed: Count,
    /// Written frames of connections that have ended: those that may or may not have arrived.
    pub in_doubt: Count,
    /// Frames that were accepted but never written.
    pub dropped: Dropped,
    /// Frames now waiting in a queue.
    pub queued: Count,
    /// Frames now being written: taken from the queue, but not yet taken whole by the kernel.
    pub in_flight: Count,
}

impl SendStats {
    /// Returns the sums.
    pub(crate) fn sum(all: &[SendStats]) -> SendStats {
        let mut sum = SendStats::default();
        for stats in all {
            sum += *stats;
        }
        sum
    }

    pub(super) fn balance(&self, counters: &'static str) -> Result<(), Imbalance> {
        let sum = self.accepted + self.rejected.total();
        check(counters, "offered = accepted + rejected", self.offered, sum)?;
        let sum = self.written + self.dropped.total() + self.queued + self.in_flight;
        let text = "accepted = written + dropped + queued + in_flight";
        check(counters, text, self.accepted, sum)?;
        // Equal only if no more is known of written frames than there are.
        let known = self.confirmed + self.in_doubt;
        let among = Count {
            frames: known.frames.min(self.written.frames),
            bytes: known.bytes.min(self.written.bytes),
        };
        check(counters, "confirmed + in_doubt ≤ written", known, among)
    }
}

impl AddAssign for SendStats {
    fn add_assign(&mut self, other: SendStats) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.written += other.written;
        self.confirmed += other.confirmed;
        self.in_doubt += other.in_doubt;
        self.dropped += other.dropped;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
    }
}

/// Frames that were not accepted, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rejected {
    /// The queue had no room for one more frame.
    pub full_frames: Count,
    /// The queue had no room for the bytes of the frame.
    pub full_bytes: Count,
    /// The frame's group had used up its share of the queue
    /// ([`Config::group_share`](crate::Config::group_share)).
    pub full_share: Count,
    /// The frame was longer than allowed.
    pub too_large: Count,
    /// The transport was stopping or had stopped.
    pub stopped: Count,
    /// The frame could not be sent to anybody: its group was reserved, its address was unusable, there
    /// were too many peers, its peer had been forgotten, or datagrams were switched off.
    pub invalid: Count,
}

impl Rejected {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        let full = self.full_frames + self.full_bytes + self.full_share;
        full + self.too_large + self.stopped + self.invalid
    }

    pub(crate) fn count(&mut self, refusal: Refusal, frame: Count) {
        let counter = match refusal {
            Refusal::Full(QueueLimit::Frames) => &mut self.full_frames,
            Refusal::Full(QueueLimit::Bytes) => &mut self.full_bytes,
            Refusal::Full(QueueLimit::GroupShare) => &mut self.full_share,
            Refusal::TooLarge { .. } => &mut self.too_large,
            Refusal::Stopped => &mut self.stopped,
            Refusal::Forgotten
            | Refusal::ReservedGroup
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
        self.full_share += other.full_share;
        self.too_large += other.too_large;
        self.stopped += other.stopped;
        self.invalid += other.invalid;
    }
}

/// Frames that were accepted for sending but never written to the end, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Dropped {
    /// See [`DropReason::Stale`].
    pub stale: Count,
    /// See [`DropReason::Overflow`].
    pub overflow: Count,
    /// See [`DropReason::Replaced`].
    pub replaced: Count,
    /// See [`DropReason::Incomplete`].
    pub incomplete: Count,
    /// See [`DropReason::Withdrawn`].
    pub withdrawn: Count,
    /// See [`DropReason::Failed`].
    pub failed: Count,
    /// See [`DropReason::CutOff`].
    pub cut_off: Count,
    /// See [`DropReason::PeerForgotten`].
    pub peer_forgotten: Count,
    /// See [`DropReason::Stopped`].
    pub stopped: Count,
}

impl Dropped {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        let Dropped {
            stale,
            overflow,
            replaced,
            incomplete,
            withdrawn,
            failed,
            cut_off,
            peer_forgotten,
            stopped,
        } = *self;
        let given_up = replaced + incomplete + withdrawn;
        stale + overflow + given_up + failed + cut_off + peer_forgotten + stopped
    }

    pub(crate) fn by_reason(&self) -> [(DropReason, Count); 9] {
        [
            (DropReason::Stale, self.stale),
            (DropReason::Overflow, self.overflow),
            (DropReason::Replaced, self.replaced),
            (DropReason::Incomplete, self.incomplete),
            (DropReason::Withdrawn, self.withdrawn),
            (DropReason::Failed, self.failed),
            (DropReason::CutOff, self.cut_off),
            (DropReason::PeerForgotten, self.peer_forgotten),
            (DropReason::Stopped, self.stopped),
        ]
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.stale += other.stale;
        self.overflow += other.overflow;
        self.replaced += other.replaced;
        self.incomplete += other.incomplete;
        self.withdrawn += other.withdrawn;
        self.failed += other.failed;
        self.cut_off += other.cut_off;
        self.peer_forgotten += other.peer_forgotten;
        self.stopped += other.stopped;
    }
}
