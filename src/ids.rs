//! [`GroupId`], the number that frames are addressed to within a node.

use std::fmt;

/// The index of a group: it says for which Paxos group, shard or region of the receiving node a frame is.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupId(u32);

impl GroupId {
    /// The only index that cannot be sent to or served. PhxPaxos reads it as −1 and ignores such
    /// frames.
    pub const RESERVED: GroupId = GroupId(u32::MAX);

    /// Makes a group index. Any value is allowed here; sending to [`GroupId::RESERVED`] and serving it
    /// return an error.
    pub const fn new(index: u32) -> Self {
        GroupId(index)
    }

    /// Returns the index.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<u32> for GroupId {
    fn from(index: u32) -> Self {
        GroupId(index)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
