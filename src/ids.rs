//! The names of things: [`GroupId`], the number that frames are addressed to within a node, and
//! [`NodeId`], [`Incarnation`] and [`ClusterName`], which say who a node is.

use std::{fmt, sync::Arc};

/// The index of a group: it says for which Paxos group, shard or region of the receiving node a frame is.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupId(u32);

impl GroupId {
    /// The only index that cannot be sent to or served. PhxPaxos reads it as −1 and ignores such
    /// frames. Nodes with an [`Identity`](crate::Identity) introduce themselves with it.
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

/// The number of a node, which stays the same when the node restarts or moves to another address. No two
/// nodes of a cluster may have the same.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(u64);

impl NodeId {
    /// Makes a node's number. Any value is allowed.
    pub const fn new(id: u64) -> Self {
        NodeId(id)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        NodeId(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a node's process this is: a number that grows with every start. Of two processes with
/// the same [`NodeId`], the one with the lower incarnation is out of date, and is refused.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Incarnation(u64);

impl Incarnation {
    /// Makes an incarnation. Any value is allowed.
    pub const fn new(number: u64) -> Self {
        Incarnation(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a cluster, 1 to 255 bytes long. Cheap to clone.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) struct ClusterName(Arc<str>);

impl ClusterName {
    pub(crate) const MAX: usize = 255;

    /// Returns `None` if the name is empty or too long.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let fits = (1..=Self::MAX).contains(&name.len());
        fits.then(|| ClusterName(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
