//! Sessions: what the two ends of a connection know of each other.
//!
//! Owns who this node is, which other nodes are known, the decisions of the handshake, which links there are
//! with a node, and which frames of it have come. Leaves the bytes to `wire/control`, and the sockets to `send` (the end that dials) and `receive` (the end that accepts).

pub(crate) mod admitted;
pub(crate) mod context;
pub(crate) mod identity;
pub(crate) mod inbound_stream;
pub(crate) mod known_nodes;
pub(crate) mod meant;
pub(crate) mod open_link;
