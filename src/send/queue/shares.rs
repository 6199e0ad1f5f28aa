//! [`Shares`]: what each group has of the queue.
//!
//! Only kept where `Config::group_share` is below 1. Counts the frames of each group that are queued or in flight,
//! and the room that its waiting senders need. What a group may have, and what happens when it has that, is decided in
//! [`admission`]; frames enter and are evicted in [`sharing`](super::sharing).

use std::collections::HashMap;

use super::{
    admission::{self, Entry, GroupShare, Limits, Occupancy},
    chunk::Chunk,
};
use crate::{config::Overflow, error::Refusal, ids::GroupId, wire::count::Count};

/// What each group has of the queue.
pub(super) struct Shares {
    share: GroupShare,
    overflow: Overflow,
    /// The groups that have frames in the queue or senders that wait, and no others.
    groups: HashMap<GroupId, OfGroup>,
    /// Groups with senders that are held back, which may have room now.
    freed: Vec<GroupId>,
}

#[derive(Default)]
struct OfGroup {
    /// `in_flight` is only counted where frames are evicted. `reserved` is the room of senders that are not held back
    /// by the share: they have room in the queue, too, or wait for it in line.
    occupancy: Occupancy,
    /// No frame of the group that can be evicted has a lower number.
    oldest: u64,
    /// Whether it is among the freed.
    is_freed: bool,
}

impl Shares {
    /// Returns `None` if a group may have all of the queue.
    pub(super) fn new(limits: &Limits) -> Option<Box<Self>> {
        let shares = |share| Shares {
            share,
            overflow: limits.overflow,
            groups: HashMap::new(),
            freed: Vec::new(),
        };
        limits.share.map(|share| Box::new(shares(share)))
    }

    // ---- decisions ----------------------------------------------------------------------------

    /// Decides on a frame whose sender has not waited, and which replaces `older`.
    pub(super) fn admit(&self, group: GroupId, len: usize, older: Count) -> Result<Entry, Refusal> {
        let mut of_group = self.of(group);
        of_group.held -= older;
        admission::admit_to_share(&self.share, self.overflow, of_group, len)
    }

    /// Decides on the frame of the sender that has been held back longest.
    pub(super) fn grant(&self, group: GroupId, len: usize) -> Option<Entry> {
        admission::grant_share(&self.share, self.overflow, self.of(group), len)
    }

    /// Returns whether frames of the group must be evicted before one of `len` bytes has room.
    pub(super) fn lacks(&self, group: GroupId, len: usize) -> bool {
        let of_group = self.of(group);
        self.share.lacks(of_group.held + of_group.reserved, len)
    }

    /// Returns whether groups evict their own frames. Then no chunk has frames of two groups, so that a frame in the
    /// middle of the queue can be taken out.
    pub(super) fn evict(&self) -> bool {
        self.overflow == Overflow::DropOldest
    }

    fn of(&self, group: GroupId) -> Occupancy {
        let of_group = self.groups.get(&group);
        of_group.map_or_else(Occupancy::default, |of_group| of_group.occupancy)
    }

    // ---- frames -------------------------------------------------------------------------------

    /// Counts a frame that is queued now, and its number.
    pub(super) fn comes(&mut self, group: GroupId, frame: Count, number: u64) {
        let of_group = self.groups.entry(group).or_default();
        if of_group.occupancy.held.is_zero() {
            of_group.oldest = number;
        }
        of_group.oldest = of_group.oldest.min(number);
        of_group.occupancy.held += frame;
    }

    /// Counts the frames of a chunk that is queued no more, and not in flight.
    pub(super) fn goes<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        chunk.each_group(usize::MAX, |group, frames| self.leave(group, frames));
    }

    /// Counts frames that are queued no more, and not in flight.
    pub(super) fn leave(&mut self, group: GroupId, frames: Count) {
        self.change(group, |occupancy| occupancy.held -= frames);
    }

    /// Counts a chunk that is in flight now.
    pub(super) fn lent<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        if self.evict() {
            chunk.each_group(usize::MAX, |group, frames| {
                self.change(group, |occupancy| occupancy.in_flight += frames);
            });
        }
    }

    /// Counts a chunk that was in flight and is queued again.
    pub(super) fn returns<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        if !self.evict() {
            return;
        }
        chunk.each_group(usize::MAX, |group, frames| {
            self.change(group, |occupancy| occupancy.in_flight -= frames);
            if let Some(of_group) = self.groups.get_mut(&group) {
                of_group.oldest = of_group.oldest.min(chunk.first);
            }
        });
    }

    /// Counts frames that were in flight, and are written or dropped.
    pub(super) fn end(&mut self, leaving: Leaving) {
        let evict = self.evict();
        for (group, frames) in leaving.0 {
            self.change(group, |occupancy| {
                occupancy.held -= frames;
                if evict {
                    occupancy.in_flight -= frames;
                }
            });
        }
    }

    /// Returns a number that no frame of the group that can be evicted is below.
    pub(super) fn oldest(&self, group: GroupId) -> u64 {
        self.groups
            .get(&group)
            .map_or(0, |of_group| of_group.oldest)
    }

    /// Counts the group's oldest frame, which had this number and was evicted.
    pub(super) fn evicted(&mut self, group: GroupId, frame: Count, number: u64) {
        if let Some(of_group) = self.groups.get_mut(&group) {
            of_group.oldest = number + 1;
        }
        self.leave(group, frame);
    }

    // ---- senders that wait --------------------------------------------------------------------

    /// Counts a sender that begins to wait, and is held back at first.
    pub(super) fn wait(&mut self, group: GroupId, len: usize) {
        self.groups.entry(group).or_default();
        self.change(group, |occupancy| occupancy.requested += Count::one(len));
    }

    /// Counts a sender that is held back no more.
    pub(super) fn let_on(&mut self, group: GroupId, len: usize) {
        self.change(group, |occupancy| occupancy.reserved += Count::one(len));
    }

    /// Counts a sender that waits no more, and whether it was held back until now.
    pub(super) fn stop_waiting(&mut self, group: GroupId, len: usize, was_held_back: bool) {
        self.change(group, |occupancy| {
            occupancy.requested -= Count::one(len);
            if !was_held_back {
                occupancy.reserved -= Count::one(len);
            }
        });
    }

    /// Takes one of the groups whose first sender may not have to be held back any more.
    pub(super) fn next_freed(&mut self) -> Option<GroupId> {
        let group = self.freed.pop()?;
        if let Some(of_group) = self.groups.get_mut(&group) {
            of_group.is_freed = false;
        }
        Some(group)
    }

    // ---- both ---------------------------------------------------------------------------------

    /// Changes what is counted of a group. Forgets the group if it has nothing any more, and notes it as freed if
    /// senders are held back.
    fn change(&mut self, group: GroupId, change: impl FnOnce(&mut Occupancy)) {
        let Some(of_group) = self.groups.get_mut(&group) else {
            debug_assert!(false, "the frames of {group} are not counted");
            return;
        };
        change(&mut of_group.occupancy);
        let Occupancy {
            held, requested, ..
        } = of_group.occupancy;
        if of_group.occupancy.somebody_waits() {
            if !of_group.is_freed {
                of_group.is_freed = true;
                self.freed.push(group);
            }
        } else if held.is_zero() && requested.is_zero() {
            self.groups.remove(&group);
        }
    }

    /// Returns what all groups have together.
    pub(super) fn held(&self) -> Count {
        let of_groups = self.groups.values();
        of_groups.map(|of_group| of_group.occupancy.held).sum()
    }

    /// Returns how many groups are counted.
    #[cfg(test)]
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Gives back the memory that is not needed now.
    pub(super) fn trim(&mut self) {
        self.groups.shrink_to_fit();
        self.freed.shrink_to_fit();
    }
}

/// How many frames of each group leave a batch. Counted before the queue is locked, because this looks at each frame.
#[derive(Default)]
pub(super) struct Leaving(HashMap<GroupId, Count>);

impl Leaving {
    /// Adds the frames of a chunk that end within its first `bytes`. Returns how many bytes these frames have.
    pub(super) fn add<To: Copy + Eq>(&mut self, chunk: &Chunk<To>, bytes: usize) -> usize {
        chunk.each_group(bytes, |group, frames| {
            *self.0.entry(group).or_default() += frames;
        })
    }

    /// Takes off the frames of a chunk: they were added, and stay.
    pub(super) fn take_off<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        chunk.each_group(usize::MAX, |group, frames| {
            *self.0.entry(group).or_default() -= frames;
        });
    }
}
