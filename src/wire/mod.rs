//! Bytes, without I/O: the format of a frame, its payload, and counts of frames. Leaves sockets, queues
//! and delivery to the other folders.

pub(crate) mod count;
pub(crate) mod frame;
pub(crate) mod payload;
