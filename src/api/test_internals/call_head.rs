//! The heads of frames about calls, for fuzzers.

use bytes::BytesMut;

use crate::{
    ids::GroupId,
    wire::{
        call::{self, CallFrame, CallId},
        frame,
        trace_context::TraceContext,
    },
};

/// What a frame about a call says before its payload.
#[derive(Debug, Clone, Eq, PartialEq)]
pub struct CallHead {
    id: CallId,
    says: CallFrame,
    trace: Option<TraceContext>,
}

impl CallHead {
    /// Takes a whole frame about a call off the front of a buffer, and reads it. Returns also how many bytes its payload
    /// has.
    pub fn take(buffer: &mut BytesMut, limit: usize) -> Option<(Self, usize)> {
        let frame = call::take_first(buffer, limit)?;
        let read = call::read(&frame)?;
        let trace = match read.says {
            CallFrame::Call { .. } => call::trace_in(&frame, read.payload_at),
            _ => None,
        };
        let head = CallHead {
            id: read.id,
            says: read.says,
            trace,
        };
        Some((head, frame[read.payload_at..].len()))
    }

    /// Returns the frame with this head and this payload.
    pub fn write(&self, payload: &[u8]) -> BytesMut {
        let head = self.says.encode_in(self.trace, self.id);
        let len = head.len() + payload.len();
        let mut frame = BytesMut::from(&frame::header(GroupId::RESERVED, len)[..]);
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload);
        frame
    }
}
