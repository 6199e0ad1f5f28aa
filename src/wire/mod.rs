//! Bytes, without I/O: the format of frames and of control frames, payloads, and counts of frames. Leaves sockets,
//! queues and delivery to the other folders.

pub(crate) mod control;
pub(crate) mod count;
pub(crate) mod frame;
pub(crate) mod part;
pub(crate) mod payload;
