//! [`RefusedReason`]: why a node does not talk to another one.

use std::fmt;

use super::{
    BadControl,
    fields::{FieldWriter, read_fields, tag},
};
use crate::ids::Incarnation;

/// Why a connection between two nodes was refused when they introduced themselves.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The two releases have no version of the handshake in common.
    Version,
    /// The two nodes do not belong to the same cluster.
    Cluster,
    /// The node at this address is another one than was meant.
    Node,
    /// A later life of the same node is known: this process is out of date.
    OlderIncarnation,
    /// Two running processes have the same node number.
    SameNode,
    /// The node knows as many other nodes as it can.
    TooManyNodes,
    /// The certificate of the node does not cover its number; see `Tls::node_rule`.
    Certificate,
    /// The node does not take frames on a lane of this number; see
    /// [`Config::refuse_unknown_lanes`](crate::Config::refuse_unknown_lanes).
    Lane,
    /// A reason of a later release, by its number.
    Other(u16),
}

impl RefusedReason {
    fn number(self) -> u16 {
        match self {
            RefusedReason::Version => 1,
            RefusedReason::Cluster => 2,
            RefusedReason::Node => 3,
            RefusedReason::OlderIncarnation => 4,
            RefusedReason::SameNode => 5,
            RefusedReason::TooManyNodes => 6,
            RefusedReason::Certificate => 7,
            RefusedReason::Lane => 8,
            RefusedReason::Other(number) => number,
        }
    }

    fn of_number(number: u16) -> Self {
        match number {
            1 => RefusedReason::Version,
            2 => RefusedReason::Cluster,
            3 => RefusedReason::Node,
            4 => RefusedReason::OlderIncarnation,
            5 => RefusedReason::SameNode,
            6 => RefusedReason::TooManyNodes,
            7 => RefusedReason::Certificate,
            8 => RefusedReason::Lane,
            other => RefusedReason::Other(other),
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusedReason::Version => f.write_str("no common version"),
            RefusedReason::Cluster => f.write_str("not the same cluster"),
            RefusedReason::Node => f.write_str("not the node that was meant"),
            RefusedReason::OlderIncarnation => f.write_str("a later incarnation is known"),
            RefusedReason::SameNode => f.write_str("two processes have the same node number"),
            RefusedReason::TooManyNodes => f.write_str("it knows too many nodes"),
            RefusedReason::Certificate => f.write_str("its certificate is not for its node number"),
            RefusedReason::Lane => f.write_str("it does not know the lane"),
            RefusedReason::Other(number) => write!(f, "reason {number} of a later release"),
        }
    }
}

/// The frame that says so.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Refused {
    pub(crate) reason: RefusedReason,
    /// The incarnation that is known, if the one of the `Hello` is older.
    pub(crate) known: Option<Incarnation>,
}

impl Refused {
    pub(crate) fn because(reason: RefusedReason) -> Self {
        let known = None;
        Refused { reason, known }
    }

    pub(crate) fn older_than(known: Incarnation) -> Self {
        Refused {
            reason: RefusedReason::OlderIncarnation,
            known: Some(known),
        }
    }

    pub(super) fn write(self, fields: &mut FieldWriter) {
        fields.put(tag::REASON, &self.reason.number().to_be_bytes());
        if let Some(known) = self.known {
            fields.put(tag::KNOWN, &known.get().to_be_bytes());
        }
    }

    pub(super) fn read(fields: &[u8]) -> Result<Self, BadControl> {
        let (mut reason, mut known) = (None, None);
        read_fields(fields, |tag, value| {
            match tag {
                tag::REASON => reason = Some(RefusedReason::of_number(value.u16()?)),
                tag::KNOWN => known = Some(Incarnation::new(value.u64()?)),
                _ => {}
            }
            Ok(())
        })?;
        let reason = reason.ok_or(BadControl::Missing(tag::REASON))?;
        Ok(Refused { reason, known })
    }
}
