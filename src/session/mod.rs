//! Sessions: what the two ends of a connection know of each other.
//!
//! Owns who this node is, which other nodes are known, and the decisions of the handshake. Leaves the bytes
//! to `wire/control`, and the sockets to `send` (the end that dials) and `receive` (the end that accepts).

pub(crate) mod context;
pub(crate) mod identity;
pub(crate) mod known_nodes;
pub(crate) mod meant;
