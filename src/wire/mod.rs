//! Bytes, without I/O: the format of frames and of control frames, payloads, and counts of frames. Leaves sockets,
//! queues and delivery to the other folders.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod control;
pub(crate) mod count;
pub(crate) mod frame;
pub(crate) mod head_bytes;
pub(crate) mod message;
pub(crate) mod part;
pub(crate) mod payload;
pub(crate) mod trace_context;

/// Returns whether a whole frame is for the transport itself, and not for a group: a control frame, a part of a message,
/// or about a call.
pub(crate) fn is_own(frame: &[u8]) -> bool {
    control::is_control(frame) || part::is_part(frame) || call::is_call(frame)
}
