//! Sessions: what the two ends of a connection know of each other.

pub(crate) mod identity;
