//! Why a frame was lost.

/// Why an accepted or received frame was dropped.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
#[non_exhaustive]
pub enum DropReason {
    /// It waited longer than [`Config::stale_after`](crate::Config::stale_after) to be written.
    Stale,
    /// The send queue was full and dropped it for a newer frame
    /// ([`Overflow::DropOldest`](crate::Overflow::DropOldest)). Or it did not fit into the bound of its
    /// group ([`GroupOverflow::Drop`](crate::GroupOverflow::Drop)).
    Overflow,
    /// It is a datagram, and the system refused to send it.
    Failed,
    /// The transport stopped.
    Stopped,
    /// No actor serves its group.
    NoGroup,
    /// The actor that serves its group ended or panicked before it took the frame. Or the `Reader` or
    /// `UdpActor` that had read the frame ended or panicked.
    ActorGone,
}
