//! Calls: how a question travels to another node, and the answer back.
//!
//! ```text
//! offset  size  field
//! 0       4     length    u32 big-endian, counting itself
//! 4       4     group     FF FF FF FF, the reserved group, which a PhxPaxos node ignores
//! 8       4     magic     "atpc"
//! 12      1     kind      see below; others are ignored
//! 13      1     zero      ignored when read
//! 14      2     fields    u16 big-endian: how many bytes of fields follow the head
//! 16      8     call      u64 big-endian: the number that the caller's node gave the call
//! 24      4     target    u32 big-endian: the group of a call, the code of a failure, or why it was not served or understood
//! 28      8     left      u64 big-endian: how many microseconds the caller still waits; of a call only
//! 36      m     fields    each a tag of one byte, a length of one byte, and so many bytes; see below
//! 36+m    n     payload   of a call or of an answer, or the text of a failure
//!
//! kind  from     means
//! 1     caller   a call
//! 2     callee   the answer
//! 3     callee   the handler says that the call has failed
//! 4     callee   the call was not served, and no handler has seen the end of it
//! 5     caller   nobody waits for the answer any more
//! 6     caller   nothing: it has the place of a call that was given up before it was written
//! 7     callee   the typed message in the call was not understood; see `message`
//! ```
//!
//! ```text
//! tag  size  field
//! 1    26    trace     of a call only: the trace that it belongs to, and its parent; see `trace_context`
//! ```
//!
//! A field with another tag is skipped, and so is one with other bytes than these.
//!
//! Frames about calls are numbered as other frames are. A call or an answer that is longer than a frame travels as a
//! message in parts ([`part`](super::part)) for the reserved group, whose bytes are those from the magic on. They come only
//! to a node whose features have `CALLS`.

use std::time::Duration;

use bytes::BytesMut;

use crate::{
    ids::GroupId,
    wire::{
        frame::{self, HEADER, PREFIX},
        head_bytes::HeadBytes,
        trace_context::{self, TraceContext},
    },
};

/// What follows the length: the reserved group and the magic.
const MARK: &[u8; 8] = b"\xff\xff\xff\xffatpc";

/// Bytes before the fields.
const HEAD: usize = 36;

/// Where the time left is in what [`CallFrame::encode`] returns.
const LEFT_AT: usize = 28 - HEADER;

/// Bytes of a call before its payload, without the header of its frame and without fields.
const CALL_HEAD: usize = HEAD - HEADER;

/// The tag of the field that says which trace a call belongs to.
const TRACE: u8 = 1;

/// Bytes of that field.
const TRACE_FIELD: usize = 2 + trace_context::BYTES;

const _: () = assert!(CALL_HEAD + TRACE_FIELD == HeadBytes::MAX);

/// The longest text of a failure that is sent. Longer ones are cut.
pub(crate) const MAX_TEXT: usize = 1024;

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const FAILURE: u8 = 3;
const NOT_SERVED: u8 = 4;
const CANCEL: u8 = 5;
const NOTHING: u8 = 6;
const NOT_UNDERSTOOD: u8 = 7;

/// The number of a call among all calls of its node.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// Why a call was not served.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum NotServed {
    /// Nobody serves the calls of the group.
    NoHandler,
    /// As many calls are being served as may be.
    Busy,
    /// The handler has dropped it.
    Unanswered,
    /// The answer is longer than the caller's node takes.
    TooLarge,
    /// The answer was lost on its way.
    Lost,
    /// A reason of a later release.
    Other,
}

impl NotServed {
    fn code(self) -> u32 {
        match self {
            NotServed::NoHandler => 1,
            NotServed::Busy => 2,
            NotServed::Unanswered => 3,
            NotServed::TooLarge => 4,
            NotServed::Lost => 5,
            NotServed::Other => 0,
        }
    }

    fn of(code: u32) -> Self {
        match code {
            1 => NotServed::NoHandler,
            2 => NotServed::Busy,
            3 => NotServed::Unanswered,
            4 => NotServed::TooLarge,
            5 => NotServed::Lost,
            _ => NotServed::Other,
        }
    }
}

/// What a frame says about a call.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum CallFrame {
    Call { group: GroupId, left: Duration },
    Answer,
    Failure { code: u32 },
    NotServed(NotServed),
    Cancel,
    Nothing,
    NotUnderstood { code: u32 },
}

/// Returns whether a whole frame is about a call.
pub(crate) fn is_call(frame: &[u8]) -> bool {
    frame
        .get(PREFIX..)
        .is_some_and(|rest| rest.starts_with(MARK))
}

/// Returns whether what follows the header of a frame is about a call.
pub(crate) fn begins(payload: &[u8]) -> bool {
    payload.starts_with(&MARK[HEADER - PREFIX..])
}

/// Takes a frame about a call off the front of a buffer, if there is a whole one.
pub(crate) fn take_first(buffer: &mut BytesMut, limit: usize) -> Option<BytesMut> {
    let head = frame::peek(buffer, limit).ok()??;
    let is_call = head.group == GroupId::RESERVED && is_call(&buffer[..head.len]);
    is_call.then(|| buffer.split_to(head.len))
}

/// Returns how many bytes [`CallFrame::encode`] returns for a call.
pub(crate) fn head_len(trace: Option<TraceContext>) -> usize {
    CALL_HEAD + trace.map_or(0, |_| TRACE_FIELD)
}

impl CallFrame {
    /// Returns the payload of a frame of the reserved group, up to the payload of the call.
    pub(crate) fn encode(self, id: CallId) -> HeadBytes {
        let (kind, target, left) = match self {
            CallFrame::Call { group, left } => (CALL, group.get(), micros(left)),
            CallFrame::Answer => (ANSWER, 0, 0),
            CallFrame::Failure { code } => (FAILURE, code, 0),
            CallFrame::NotServed(why) => (NOT_SERVED, why.code(), 0),
            CallFrame::Cancel => (CANCEL, 0, 0),
            CallFrame::Nothing => (NOTHING, 0, 0),
            CallFrame::NotUnderstood { code } => (NOT_UNDERSTOOD, code, 0),
        };
        let mut head = [0; CALL_HEAD];
        head[..4].copy_from_slice(&MARK[HEADER - PREFIX..]);
        head[4] = kind;
        head[8..16].copy_from_slice(&id.0.to_be_bytes());
        head[16..20].copy_from_slice(&target.to_be_bytes());
        head[LEFT_AT..].copy_from_slice(&left.to_be_bytes());
        HeadBytes::new(&[&head])
    }

    /// As [`encode`](CallFrame::encode), for a call that belongs to this trace.
    pub(crate) fn encode_in(self, trace: Option<TraceContext>, id: CallId) -> HeadBytes {
        let head = self.encode(id);
        match trace {
            None => head,
            Some(trace) => with_trace(&head, trace),
        }
    }
}

/// Adds the field of a trace to the head of a call.
#[cold]
fn with_trace(head: &[u8], trace: TraceContext) -> HeadBytes {
    let fields = (TRACE_FIELD as u16).to_be_bytes();
    let tag = [TRACE, trace_context::BYTES as u8];
    HeadBytes::new(&[&head[..6], &fields, &head[8..], &tag, &trace.encode()])
}

fn micros(left: Duration) -> u64 {
    u64::try_from(left.as_micros()).unwrap_or(u64::MAX)
}

/// Changes what an encoded call says about the time that is left.
pub(crate) fn set_left(head: &mut [u8], left: Duration) {
    if let Some(bytes) = head.get_mut(LEFT_AT..LEFT_AT + 8) {
        bytes.copy_from_slice(&micros(left).to_be_bytes());
    }
}

/// A received frame about a call.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) struct Received {
    pub(crate) id: CallId,
    pub(crate) says: CallFrame,
    /// Where the payload begins in the frame.
    pub(crate) payload_at: usize,
}

/// Reads a frame that [is about a call](is_call). `None` if it is too short, or of a kind that a later release may have.
pub(crate) fn read(frame: &[u8]) -> Option<Received> {
    let (head, rest) = frame.split_at_checked(HEAD)?;
    let fields = usize::from(u16::from_be_bytes(*head[14..].first_chunk()?));
    rest.get(..fields)?;
    let target = u32::from_be_bytes(*head[24..].first_chunk()?);
    let says = match head[12] {
        CALL => {
            let left = u64::from_be_bytes(*head[28..].first_chunk()?);
            CallFrame::Call {
                group: GroupId::new(target),
                left: Duration::from_micros(left),
            }
        }
        ANSWER => CallFrame::Answer,
        FAILURE => CallFrame::Failure { code: target },
        NOT_SERVED => CallFrame::NotServed(NotServed::of(target)),
        CANCEL => CallFrame::Cancel,
        NOTHING => CallFrame::Nothing,
        NOT_UNDERSTOOD => CallFrame::NotUnderstood { code: target },
        _ => return None,
    };
    Some(Received {
        id: CallId(u64::from_be_bytes(*head[16..].first_chunk()?)),
        says,
        payload_at: HEAD + fields,
    })
}

/// Returns the trace that the fields of a call name. They end where the payload begins. Fields that are cut are no reason
/// to refuse the call.
pub(crate) fn trace_in(frame: &[u8], payload_at: usize) -> Option<TraceContext> {
    let mut fields = frame.get(HEAD..payload_at)?;
    while let [tag, len, rest @ ..] = fields {
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        if *tag == TRACE {
            return TraceContext::decode(value);
        }
        fields = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    const SECOND: CallFrame = CallFrame::Call {
        group: GroupId::new(3),
        left: Duration::from_millis(2),
    };

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame::header(GroupId::RESERVED, payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_call_has_exactly_these_bytes_and_is_read_as_it_was_written() {
        let payload = [&SECOND.encode(CallId(0x0102))[..], b"hello"].concat();
        let bytes = framed(&payload);
        let expected = b"\0\0\0\x29\xff\xff\xff\xffatpc\x01\0\0\0\
            \0\0\0\0\0\0\x01\x02\0\0\0\x03\0\0\0\0\0\0\x07\xd0hello";
        assert_eq!(bytes, expected);
        assert!(is_call(&bytes));
        let read = read(&bytes).expect("a call");
        assert_eq!((read.id, read.says), (CallId(0x0102), SECOND));
        assert_eq!(&bytes[read.payload_at..], b"hello");
    }

    #[test]
    fn each_kind_is_read_as_it_was_written() {
        use NotServed::*;
        let not_served = [NoHandler, Busy, Unanswered, TooLarge, Lost, Other];
        let kinds = [
            SECOND,
            CallFrame::Answer,
            CallFrame::Failure { code: 77 },
            CallFrame::Cancel,
            CallFrame::Nothing,
            CallFrame::NotUnderstood { code: 3 },
        ];
        for says in kinds
            .into_iter()
            .chain(not_served.map(CallFrame::NotServed))
        {
            let bytes = framed(&says.encode(CallId(9)));
            assert_eq!(read(&bytes).expect("known").says, says);
        }
    }

    #[test]
    fn fields_of_a_later_release_are_skipped_and_what_is_cut_is_nothing() {
        let mut bytes = framed(&[&SECOND.encode(CallId(1))[..], b"\x09\x01zhello"].concat());
        bytes[15] = 3;
        let whole = read(&bytes).expect("a call");
        assert_eq!(&bytes[whole.payload_at..], b"hello");
        for cut in 0..HEAD + 3 {
            assert_eq!(read(&bytes[..cut]), None, "{cut}");
        }
        bytes[12] = 99;
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn the_time_that_is_left_can_be_changed() {
        let (mut head, left) = (SECOND.encode(CallId(1)).to_vec(), Duration::from_millis(1));
        set_left(&mut head, left);
        let group = GroupId::new(3);
        let says = read(&framed(&head)).expect("a call").says;
        assert_eq!(says, CallFrame::Call { group, left });
    }

    /// Returns a call of the trace, with these fields in place of its own.
    fn with_fields(fields: &[u8]) -> Vec<u8> {
        let mut bytes = framed(&[&SECOND.encode(CallId(1))[..], fields, b"hello"].concat());
        bytes[14..16].copy_from_slice(&(fields.len() as u16).to_be_bytes());
        bytes
    }

    fn trace_of(bytes: &[u8]) -> Option<TraceContext> {
        let read = read(bytes).expect("a call");
        assert_eq!(&bytes[read.payload_at..], b"hello");
        assert_eq!(read.says, SECOND);
        trace_in(bytes, read.payload_at)
    }

    #[test]
    fn a_call_carries_its_trace_in_a_field() {
        let trace = TraceContext::new(7, 9, true);
        let head = SECOND.encode_in(trace, CallId(1));
        assert_eq!(head.len(), head_len(trace));
        let bytes = framed(&[&head[..], b"hello"].concat());
        let value = trace.expect("not zero").encode();
        let field = [&[1, 26][..], &value].concat();
        assert_eq!(bytes, with_fields(&field));
        assert_eq!(trace_of(&bytes), trace);
        // Behind a field of a later release, and before one that is cut.
        let between = [b"\x09\x01z", &field[..], b"\x09\xff"].concat();
        assert_eq!(trace_of(&with_fields(&between)), trace);
    }

    #[test]
    fn fields_that_are_no_trace_are_ignored() {
        let long = [&[1, 27][..], &[1; 27]].concat();
        let zero = [&[1, 26][..], &[0; 26]].concat();
        let cut = [&[1, 26][..], &[1; 25]].concat();
        for fields in [&long[..], &zero, &cut, b"\x01", b"\x01\0", b"\0\0\0"] {
            assert_eq!(trace_of(&with_fields(fields)), None, "{fields:?}");
        }
    }
}
