//! The counters of received frames.

use crate::{
    observe::stats::balance::{Imbalance, check},
    wire::count::Count,
};

/// What was received, over connections and as datagrams, and what became of it.
///
/// `received = delivered + dropped + in_delivery`, in frames and in bytes, in every snapshot.
/// "Delivered" means that a handler had the frame; see [`Inbound`](crate::Inbound).
///
/// Frames of nodes that have introduced themselves are numbered: `announced = numbered + missing`.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReceiveStats {
    /// Complete frames. A frame is counted when it is delivered to its group or dropped, not when it is
    /// read.
    pub received: Count,
    /// Frames that were delivered to the actor of their group.
    pub delivered: Count,
    /// Frames that were not delivered.
    pub dropped: Undelivered,
    /// Frames now on the way to an actor, or in an [`Inbound`](crate::Inbound) that the actor holds.
    pub in_delivery: Count,
    /// Connections closed, and datagrams ignored, because their bytes were not a frame.
    pub malformed: u64,
    /// Connections closed because a frame was not complete in time
    /// ([`Config::frame_timeout`](crate::Config::frame_timeout)).
    pub timed_out: u64,
    /// Connections closed because the memory for received frames was used up, and theirs was the
    /// largest frame that was not complete
    /// ([`Config::inbound_bytes`](crate::Config::inbound_bytes)).
    pub given_up: u64,
    /// Connections that ended in the middle of a frame.
    pub truncated: u64,
    /// How many frames were sent to this node by nodes that number them, since the first contact with each,
    /// as far as their numbers have been seen.
    pub announced: u64,
    /// Those of the announced frames that are among the received ones, or parts of a message. A message that came in
    /// parts is received as one frame.
    pub numbered: u64,
    /// Those of the announced frames that will not come; see [`PeerEvent::Gap`](crate::PeerEvent::Gap).
    pub missing: u64,
}

impl ReceiveStats {
    pub(super) fn balance(&self) -> Result<(), Imbalance> {
        let sum = self.delivered + self.dropped.total() + self.in_delivery;
        let text = "received = delivered + dropped + in_delivery";
        check("inbound", text, self.received, sum)?;
        let text = "announced = numbered + missing";
        let frames = |frames| Count { frames, bytes: 0 };
        let sum = frames(self.numbered.wrapping_add(self.missing));
        check("inbound", text, frames(self.announced), sum)
    }
}

/// Received frames that were not delivered, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Undelivered {
    /// No actor serves the group ([`DropReason::NoGroup`](crate::DropReason::NoGroup)).
    pub no_group: Count,
    /// The frame did not fit into the bound of its group
    /// ([`DropReason::Overflow`](crate::DropReason::Overflow)).
    pub overflow: Count,
    /// The actor ended before it took the frame
    /// ([`DropReason::ActorGone`](crate::DropReason::ActorGone)).
    pub actor_gone: Count,
    /// Not all parts of the message came; counted with the bytes that did
    /// ([`DropReason::Incomplete`](crate::DropReason::Incomplete)).
    pub incomplete: Count,
    /// The frame had been read, and no handler had it yet, when a later incarnation of its sender came
    /// ([`DropReason::Superseded`](crate::DropReason::Superseded)).
    pub superseded: Count,
    /// The transport stopped ([`DropReason::Stopped`](crate::DropReason::Stopped)).
    pub stopped: Count,
}

impl Undelivered {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Count {
        let Undelivered {
            no_group,
            overflow,
            actor_gone,
            incomplete,
            superseded,
            stopped,
        } = *self;
        no_group + overflow + actor_gone + incomplete + superseded + stopped
    }
}
