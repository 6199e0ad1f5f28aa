//! [`Sessions`]: what two nodes must know of each other before frames flow.

/// Whether nodes introduce themselves to each other. Needs an [`Identity`](crate::Identity), except for
/// `Auto` and `Off`.
///
/// A node that introduces itself begins each connection that it dials with a `Hello`: who it is, and whom
/// it means to reach. The other one answers on the same connection, with a `Welcome` or a refusal. Unless
/// frames had to leave before the answer (see `Optional`), both may then send frames on it. What each sends is numbered, so that the other one knows what is missing
/// ([`Inbound::gap`](crate::Inbound::gap)) and order holds across connections. What they say about this
/// travels on [`GroupId::RESERVED`](crate::GroupId::RESERVED), which PhxPaxos nodes ignore. These are no
/// frames for the counters. The answer may take [`Config::connect_timeout`](crate::Config::connect_timeout).
///
/// Datagrams have no sessions: whatever is set here, they are sent and accepted without. Switch them off
/// ([`Config::udp`](crate::Config::udp)) where that matters.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Sessions {
    /// `Required` if the node has an identity, and `Off` if it has none.
    #[default]
    Auto,
    /// No node introduces itself, as in PhxPaxos: a node that dials only writes frames, and a node that
    /// accepts writes nothing. An identity is not used.
    Off,
    /// Nodes introduce themselves, and those that do not are served as with `Off`: PhxPaxos nodes, and
    /// nodes without an identity. So a cluster can be moved to sessions node by node.
    ///
    /// Frames follow the `Hello` at once, and then go one way on that connection, unless this node has a cluster or means a certain node at that
    /// address ([`Builder::peer`](crate::Builder::peer)). Then they wait for the answer, so that none is
    /// lost to a wrong node. If no answer comes in time, a node that was meant gets no frames. Otherwise the
    /// frames are sent, so with a cluster each connection to such a peer begins with that wait.
    Optional,
    /// Nothing is sent before the `Welcome`, and nothing is accepted before a `Hello`.
    Required,
}
