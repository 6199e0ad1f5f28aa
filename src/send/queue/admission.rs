//! The decision whether a frame may enter the queue.
//!
//! Owns the bounds and the rules: who may enter, who must wait, and when older frames make way. It
//! only decides. Evicting, counting and storing are left to the queue's state.

use std::time::Duration;

use super::{LARGE_FROM, account::SendDrop};
use crate::{
    config::{Config, Overflow},
    error::{QueueLimit, Refusal},
    ids::GroupId,
    lane::Lane,
    wire::count::Count,
    wire::frame::HEADER,
};

/// The bounds of a queue.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Limits {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// The longest frame, header included.
    pub(crate) frame: usize,
    pub(crate) stale_after: Duration,
    pub(crate) overflow: Overflow,
    /// A payload of this length or more is not copied into a shared buffer.
    pub(crate) large_from: usize,
    /// How much of it one group may have. `None`: all.
    pub(crate) share: Option<GroupShare>,
}

/// How much of a queue one group may have.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct GroupShare {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

/// Whether frames may enter and leave.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Gate {
    /// They may enter and leave.
    Open,
    /// They may only leave: the queue drains.
    Sealed,
    /// Neither: all queued frames have been dropped.
    Closed,
    /// Neither, because the peer was forgotten.
    Forgotten,
}

impl Gate {
    /// Why frames may not enter, if they may not.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Gate::Open | Gate::Sealed | Gate::Closed => Refusal::Stopped,
            Gate::Forgotten => Refusal::Forgotten,
        }
    }

    /// Why frames are dropped that may not leave. `None` if they may.
    pub(super) fn drops(self) -> Option<SendDrop> {
        match self {
            Gate::Open | Gate::Sealed => None,
            Gate::Closed => Some(SendDrop::Stopped),
            Gate::Forgotten => Some(SendDrop::PeerForgotten),
        }
    }
}

/// How full a queue is.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Occupancy {
    /// Queued or in flight.
    pub(super) held: Count,
    /// The part of `held` that is in flight. It cannot be evicted.
    pub(super) in_flight: Count,
    /// Room that has been granted to waiting senders, who have not used it yet.
    pub(super) reserved: Count,
    /// Room that all waiting senders need together, `reserved` included.
    pub(super) requested: Count,
}

/// What several frames need together.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Together {
    pub(super) count: Count,
    /// The length of the longest.
    longest: usize,
    /// One of them is for the reserved group.
    reserved_group: bool,
}

/// How a frame may enter.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Entry {
    /// There is room.
    Free,
    /// There is room once enough of the oldest queued frames have been evicted.
    Evicting,
}

/// Decides on a frame of `len` bytes whose sender has not waited.
///
/// Senders may be waiting already. Then this frame may only use room that all of them together do not
/// need, and it evicts nothing. It is not refused just because somebody waits: with several senders and a
/// full queue, every later sender would have to wait too, at one thread switch per frame.
#[inline]
pub(super) fn admit(
    limits: &Limits,
    gate: Gate,
    occupancy: Occupancy,
    group: GroupId,
    len: usize,
) -> Result<Entry, Refusal> {
    if gate != Gate::Open {
        return Err(gate.refusal());
    }
    if group == GroupId::RESERVED {
        return Err(Refusal::ReservedGroup);
    }
    if len > limits.frame {
        return Err(Refusal::TooLarge {
            len: len - HEADER,
            max: limits.frame - HEADER,
        });
    }
    match limits.missing(occupancy.held + occupancy.requested, len) {
        None => Ok(Entry::Free),
        Some(missing) if occupancy.somebody_waits() => Err(Refusal::Full(missing)),
        Some(missing) => admit_evicting(limits, occupancy, len, missing),
    }
}

/// Returns whether [`admit`] would let each of these frames enter, one after the other, without evicting
/// anything.
pub(super) fn admits_all(
    limits: &Limits,
    gate: Gate,
    occupancy: Occupancy,
    together: &Together,
) -> bool {
    let taken = occupancy.held + occupancy.requested + together.count;
    gate == Gate::Open
        && !together.reserved_group
        && together.longest <= limits.frame
        && taken.frames <= limits.frames as u64
        && taken.bytes <= limits.bytes as u64
}

/// Decides on the frame of the sender that has waited longest.
pub(super) fn grant(limits: &Limits, occupancy: Occupancy, len: usize) -> Option<Entry> {
    match limits.missing(occupancy.held + occupancy.reserved, len) {
        None => Some(Entry::Free),
        Some(missing) => admit_evicting(limits, occupancy, len, missing).ok(),
    }
}

/// Decides whether a frame of `len` bytes, whose sender has not waited, may enter the share of its group. As in
/// [`admit`], it may only use room that the group's waiting senders do not need.
pub(super) fn admit_to_share(
    share: &GroupShare,
    overflow: Overflow,
    of_group: Occupancy,
    len: usize,
) -> Result<Entry, Refusal> {
    let is_free = !share.lacks(of_group.held + of_group.requested, len);
    match is_free {
        true => Some(Entry::Free),
        false if of_group.somebody_waits() => None,
        false => grant_share(share, overflow, of_group, len),
    }
    .ok_or(Refusal::Full(QueueLimit::GroupShare))
}

/// Decides whether the sender that has been held back longest in its group is let on.
pub(super) fn grant_share(
    share: &GroupShare,
    overflow: Overflow,
    of_group: Occupancy,
    len: usize,
) -> Option<Entry> {
    if !share.lacks(of_group.held + of_group.reserved, len) {
        return Some(Entry::Free);
    }
    let evicting = overflow == Overflow::DropOldest
        && !share.lacks(of_group.in_flight + of_group.reserved, len);
    evicting.then_some(Entry::Evicting)
}

#[cold]
fn admit_evicting(
    limits: &Limits,
    occupancy: Occupancy,
    len: usize,
    missing: QueueLimit,
) -> Result<Entry, Refusal> {
    match limits.overflow {
        Overflow::RejectNewest => Err(Refusal::Full(missing)),
        // If evicting all queued frames would not make room, none is evicted.
        Overflow::DropOldest => match limits.missing(occupancy.in_flight + occupancy.reserved, len)
        {
            Some(missing) => Err(Refusal::Full(missing)),
            None => Ok(Entry::Evicting),
        },
    }
}

impl Together {
    /// Adds a frame of `len` bytes.
    #[inline]
    pub(super) fn add(&mut self, group: GroupId, len: usize) {
        self.count += Count::one(len);
        self.longest = self.longest.max(len);
        self.reserved_group |= group == GroupId::RESERVED;
    }
}

impl Occupancy {
    /// Returns whether a sender waits that has not been granted room yet.
    pub(super) fn somebody_waits(&self) -> bool {
        self.requested != self.reserved
    }
}

impl GroupShare {
    /// Returns this part of the bounds, and at least one frame. `None` if it is all of them.
    fn of(frames: usize, bytes: usize, part: f64) -> Option<Self> {
        let part_of = |bound: usize| (bound as f64 * part).round() as usize;
        (part < 1.0).then(|| GroupShare {
            frames: part_of(frames).max(1),
            bytes: part_of(bytes),
        })
    }

    /// Returns whether a frame of `len` bytes has no room beside what the group has. A group that has nothing may
    /// have one frame of any length: otherwise a long one could never go.
    pub(super) fn lacks(&self, taken: Count, len: usize) -> bool {
        taken.frames > 0
            && (taken.frames as usize + 1 > self.frames || taken.bytes as usize + len > self.bytes)
    }
}

impl Limits {
    /// Returns the bounds of a lane's queue.
    pub(crate) fn of_lane(config: &Config, lane: Lane) -> Self {
        let bounds = config.bounds_of(lane);
        Limits {
            frames: bounds.queue_frames,
            bytes: bounds.queue_bytes,
            frame: config.max_frame.min(bounds.queue_bytes),
            stale_after: bounds.stale_after,
            overflow: bounds.overflow,
            large_from: LARGE_FROM,
            share: GroupShare::of(bounds.queue_frames, bounds.queue_bytes, bounds.group_share),
        }
    }

    /// Returns the bounds of the queue of datagrams.
    pub(crate) fn of_datagrams(config: &Config) -> Self {
        Limits {
            frames: config.udp_queue_frames,
            bytes: config.udp_queue_bytes,
            // The receiver takes no datagram that would be too long as a frame.
            frame: (HEADER + config.max_datagram).min(config.max_frame),
            stale_after: config.stale_after,
            overflow: Overflow::RejectNewest,
            // A datagram is one piece of memory.
            large_from: usize::MAX,
            // Datagrams leave as fast as the system takes them, and a burst of them does not count groups.
            share: None,
        }
    }

    /// Returns the bound that a frame of `len` bytes would exceed if `taken` is taken already.
    #[inline]
    pub(super) fn missing(&self, taken: Count, len: usize) -> Option<QueueLimit> {
        if taken.frames as usize + 1 > self.frames {
            return Some(QueueLimit::Frames);
        }
        if taken.bytes as usize + len > self.bytes {
            return Some(QueueLimit::Bytes);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new(1);
    const FULL: Refusal = Refusal::Full(QueueLimit::Frames);

    fn limits(overflow: Overflow) -> Limits {
        Limits {
            frames: 4,
            bytes: 100,
            frame: 50,
            stale_after: Duration::from_secs(1),
            overflow,
            large_from: usize::MAX,
            share: None,
        }
    }

    fn held(frames: usize, bytes: usize) -> Occupancy {
        Occupancy {
            held: Count::new(frames, bytes),
            ..Occupancy::default()
        }
    }

    fn admit_open(overflow: Overflow, occupancy: Occupancy, len: usize) -> Result<Entry, Refusal> {
        admit(&limits(overflow), Gate::Open, occupancy, GROUP, len)
    }

    #[test]
    fn a_frame_enters_until_frames_or_bytes_run_out() {
        let admit = |occupancy, len| admit_open(Overflow::RejectNewest, occupancy, len);
        assert_eq!(admit(held(3, 50), 50), Ok(Entry::Free));
        assert_eq!(admit(held(4, 50), 8), Err(FULL));
        let full = Err(Refusal::Full(QueueLimit::Bytes));
        assert_eq!(admit(held(3, 51), 50), full);
    }

    #[test]
    fn a_sealed_or_closed_queue_a_reserved_group_and_a_long_frame_are_refused_even_with_room() {
        let limits = limits(Overflow::DropOldest);
        for gate in [Gate::Sealed, Gate::Closed] {
            let refused = admit(&limits, gate, Occupancy::default(), GroupId::RESERVED, 51);
            assert_eq!(refused, Err(Refusal::Stopped));
        }
        let admit = |group, len| admit(&limits, Gate::Open, Occupancy::default(), group, len);
        assert_eq!(admit(GroupId::RESERVED, 51), Err(Refusal::ReservedGroup));
        let too_large = Refusal::TooLarge { len: 43, max: 42 };
        assert_eq!(admit(GROUP, 51), Err(too_large));
    }

    #[test]
    fn the_oldest_make_way_but_not_what_is_in_flight_or_reserved() {
        let admit = |occupancy| admit_open(Overflow::DropOldest, occupancy, 8);
        let occupancy = held(4, 40);
        assert_eq!(admit(occupancy), Ok(Entry::Evicting));
        let in_flight = Count::new(4, 40);
        assert_eq!(
            admit(Occupancy {
                in_flight,
                ..occupancy
            }),
            Err(FULL)
        );
        let granted = Occupancy {
            in_flight: Count::new(2, 20),
            reserved: Count::new(2, 20),
            requested: Count::new(2, 20),
            ..held(2, 20)
        };
        assert_eq!(admit(granted), Err(FULL));
    }

    #[test]
    fn while_others_wait_a_frame_may_use_only_room_that_they_do_not_need() {
        let waiting = |frames| Occupancy {
            requested: Count::new(2, 16),
            ..held(frames, 8 * frames)
        };
        for overflow in [Overflow::RejectNewest, Overflow::DropOldest] {
            assert_eq!(admit_open(overflow, waiting(1), 8), Ok(Entry::Free));
            assert_eq!(admit_open(overflow, waiting(2), 8), Err(FULL));
        }
    }

    #[test]
    fn the_first_who_waits_needs_room_only_beside_what_is_held_and_reserved() {
        let occupancy = |reserved| Occupancy {
            reserved: Count::new(reserved, 8),
            requested: Count::new(3, 24),
            ..held(2, 16)
        };
        let reject = limits(Overflow::RejectNewest);
        assert_eq!(grant(&reject, occupancy(1), 8), Some(Entry::Free));
        assert_eq!(grant(&reject, occupancy(2), 8), None);
        let evict = limits(Overflow::DropOldest);
        assert_eq!(grant(&evict, occupancy(2), 8), Some(Entry::Evicting));
        assert_eq!(grant(&evict, occupancy(4), 8), None);
    }

    #[test]
    fn a_datagram_is_no_longer_than_it_may_be_as_a_datagram_and_as_a_frame() {
        let of = |max_datagram, max_frame| {
            Limits::of_datagrams(&Config {
                max_datagram,
                max_frame,
                ..Config::default()
            })
        };
        assert_eq!(of(100, 1000).frame, HEADER + 100);
        assert_eq!(of(100, 50).frame, 50);
    }

    #[test]
    fn a_share_is_a_part_of_both_bounds_and_never_less_than_a_frame() {
        let share = |frames, bytes| Some(GroupShare { frames, bytes });
        assert_eq!(GroupShare::of(10, 1000, 1.0), None);
        assert_eq!(GroupShare::of(10, 1000, 0.29), share(3, 290));
        assert_eq!(GroupShare::of(10, 1000, 1e-9), share(1, 0));
        let least = GroupShare::of(10, 1000, 1e-9).expect("less than all");
        assert!(!least.lacks(Count::ZERO, 500), "one frame of any length");
        assert!(least.lacks(Count::one(8), 8));
    }
}
