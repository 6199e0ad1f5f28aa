//! Why a frame was lost.

use std::fmt;

/// Why an accepted or received frame was dropped.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
#[non_exhaustive]
pub enum DropReason {
    /// It waited longer than [`Config::stale_after`](crate::Config::stale_after) to be written.
    Stale,
    /// The send queue was full and dropped the frame for a newer one
    /// ([`Overflow::DropOldest`](crate::Overflow::DropOldest)), or its group's share of the queue was
    /// ([`Config::group_share`](crate::Config::group_share)): then the newer one has the same group.
    ///
    /// Or the frame was received, and its sender's share of the group's bound was used up. The bound is
    /// `max_bytes` for a group with [`GroupOverflow::Drop`](crate::GroupOverflow::Drop), datagrams
    /// included, and [`Config::udp_group_bytes`](crate::Config::udp_group_bytes) for datagrams to a group
    /// with [`GroupOverflow::Wait`](crate::GroupOverflow::Wait). One connection gets at most four fifths
    /// of it.
    Overflow,
    /// A newer frame with the same group and key was sent before this one was written
    /// ([`Peer::try_send_latest`](crate::Peer::try_send_latest)). Not logged as a loss.
    Replaced,
    /// It is a call ([`Peer::call`](crate::Peer::call)) that was given up before it was written: its caller went away,
    /// or it was too late. The caller knows. Not logged as a loss.
    Withdrawn,
    /// It is a datagram, and the system refused to send it.
    Failed,
    /// Three connections ended while it was being written. Most likely it is longer than the
    /// peer accepts ([`Config::max_frame`](crate::Config::max_frame)).
    CutOff,
    /// Its peer was forgotten: by [`Peer::forget`](crate::Peer::forget), or because it was unreachable, to
    /// make room for another ([`Config::max_peers`](crate::Config::max_peers)).
    PeerForgotten,
    /// The transport stopped.
    Stopped,
    /// No actor serves its group.
    NoGroup,
    /// The actor that serves its group ended before a handler looked at the frame's batch, or the
    /// handler panicked before it took the frame. Or the `Reader` or `UdpActor` that had read the frame
    /// ended or panicked.
    ActorGone,
    /// It is a message in parts ([`Peer::send_large`](crate::Peer::send_large)), and not all of them came: its sender
    /// gave it up, its connection ended, no part came for [`Config::frame_timeout`](crate::Config::frame_timeout), or
    /// there was no memory for it. Its sender may send it again.
    ///
    /// Or the frame is a part of such a message that waited to be written when the connection ended on which the parts
    /// before it went. Not logged as a loss, because the message is sent again, or its sender gets an error.
    Incomplete,
    /// It had been read, and no handler had it yet, when a later incarnation of its sender came.
    Superseded,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Stale => "waited too long to be written",
            DropReason::Overflow => "the queue or the group was full",
            DropReason::Replaced => "a newer frame with the same key was sent",
            DropReason::Withdrawn => "the call was given up",
            DropReason::Failed => "the system refused to send",
            DropReason::CutOff => "three connections ended while it was being written",
            DropReason::PeerForgotten => "its peer was forgotten",
            DropReason::Stopped => "the transport stopped",
            DropReason::NoGroup => "no actor serves the group",
            DropReason::ActorGone => "the actor ended before it took the frames",
            DropReason::Incomplete => "not all parts of the message came",
            DropReason::Superseded => "a later incarnation of the sender has come",
        })
    }
}
