//! [`Terms`]: what holds for one frame, and not for all of the queue.

use std::time::Duration;

use super::parts::QueuedPart;
use crate::{calls::queued_call::QueuedCall, ids::GroupId};

/// What holds for one frame, and not for all of the queue.
#[derive(Default)]
pub(crate) struct Terms {
    /// How old it may become.
    pub(crate) ttl: Option<Duration>,
    /// It replaces a queued frame with the same key.
    pub(crate) key: Option<Key>,
    /// It is a part of a message, and goes to the reserved group.
    pub(crate) part: Option<QueuedPart>,
    /// It is a call, and goes to the reserved group.
    pub(crate) call: Option<QueuedCall>,
    /// The group that it is for, if it goes to the reserved group. Set when it is queued.
    pub(crate) of: Option<GroupId>,
}

/// The group of a frame, and what its sender calls it by.
pub(crate) type Key = (GroupId, u64);

impl Terms {
    /// Returns whether they differ from those of the queue.
    pub(crate) fn are_own(&self) -> bool {
        self.ttl.is_some() || self.key.is_some() || self.are_for_the_transport()
    }

    /// Returns whether the frame is for the other node's transport, which knows the group that it is for.
    pub(super) fn are_for_the_transport(&self) -> bool {
        self.part.is_some() || self.call.is_some()
    }
}
