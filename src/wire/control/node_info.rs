//! [`NodeInfo`]: what a node says about itself in a control frame.

use super::{
    BadControl,
    fields::{FieldWriter, Value, tag},
};
use crate::{
    ids::{ClusterName, Incarnation, NodeId},
    lane::Lane,
};

/// The longest advertised address: a host name of 253 bytes, a colon and a port.
const MAX_ADVERTISED: usize = 259;

/// What a node can do beyond what every release with sessions can, one bit each. Unknown bits are ignored.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct Features(u32);

impl Features {
    /// Takes and sends frames on either end of a link, and takes `Start`, `Gap` and `Goodbye`.
    pub(crate) const LINKS: Features = Features(1);

    /// The same, in the `Hello` of a link of another lane than the normal one. A release that knows no lanes would
    /// take such a link in the place of the normal one; without `LINKS`, it only reads it.
    pub(crate) const LANE_LINKS: Features = Features(2);

    /// Takes and answers calls.
    pub(crate) const CALLS: Features = Features(4);

    /// Returns what says that a link of a lane carries frames both ways.
    pub(crate) fn links_of(lane: Lane) -> Self {
        match lane {
            Lane::NORMAL => Self::LINKS,
            _ => Self::LANE_LINKS,
        }
    }

    pub(crate) fn and(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    pub(crate) fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a node says about itself.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) struct NodeInfo {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cluster: Option<ClusterName>,
    /// Where others reach it, at most 259 bytes.
    pub(crate) advertised: Option<String>,
    /// The port that it listens on. 0 if it did not say.
    pub(crate) port: u16,
    /// The longest frame that it accepts, with its header. `None` if it did not say.
    pub(crate) max_frame: Option<u32>,
    /// The longest message in parts that the node accepts. `None` if it takes none.
    pub(crate) max_message: Option<u64>,
    pub(crate) features: Features,
}

impl NodeInfo {
    pub(super) fn write(&self, fields: &mut FieldWriter) {
        fields.put(tag::NODE, &self.node.get().to_be_bytes());
        fields.put(tag::INCARNATION, &self.incarnation.get().to_be_bytes());
        if let Some(cluster) = &self.cluster {
            fields.put(tag::CLUSTER, cluster.as_str().as_bytes());
        }
        if let Some(advertised) = &self.advertised {
            fields.put(tag::ADVERTISED, advertised.as_bytes());
        }
        fields.put(tag::PORT, &self.port.to_be_bytes());
        if let Some(max_frame) = self.max_frame {
            fields.put(tag::MAX_FRAME, &max_frame.to_be_bytes());
        }
        if let Some(max_message) = self.max_message {
            fields.put(tag::MAX_MESSAGE, &max_message.to_be_bytes());
        }
        if self.features != Features::default() {
            fields.put(tag::FEATURES, &self.features.0.to_be_bytes());
        }
    }
}

/// What has been read of a [`NodeInfo`].
#[derive(Default)]
pub(super) struct Reading {
    node: Option<NodeId>,
    incarnation: Option<Incarnation>,
    cluster: Option<ClusterName>,
    advertised: Option<String>,
    port: u16,
    max_frame: Option<u32>,
    max_message: Option<u64>,
    features: Features,
}

impl Reading {
    /// Reads a field. Skips it if it is unknown.
    pub(super) fn read(&mut self, tag: u8, value: Value<'_>) -> Result<(), BadControl> {
        match tag {
            tag::NODE => self.node = Some(NodeId::new(value.u64()?)),
            tag::INCARNATION => self.incarnation = Some(Incarnation::new(value.u64()?)),
            tag::CLUSTER => self.cluster = ClusterName::new(value.text(ClusterName::MAX)?),
            tag::ADVERTISED => self.advertised = Some(value.text(MAX_ADVERTISED)?.to_owned()),
            tag::PORT => self.port = value.u16()?,
            tag::MAX_FRAME => self.max_frame = Some(value.u32()?),
            tag::MAX_MESSAGE => self.max_message = Some(value.u64()?),
            tag::FEATURES => self.features = Features(value.u32()?),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<NodeInfo, BadControl> {
        let missing = BadControl::Missing;
        Ok(NodeInfo {
            node: self.node.ok_or(missing(tag::NODE))?,
            incarnation: self.incarnation.ok_or(missing(tag::INCARNATION))?,
            cluster: self.cluster,
            advertised: self.advertised,
            port: self.port,
            max_frame: self.max_frame,
            max_message: self.max_message,
            features: self.features,
        })
    }
}
