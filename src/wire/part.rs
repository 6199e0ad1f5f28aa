//! Parts: how a message travels that is longer than a frame.
//!
//! ```text
//! offset  size  field
//! 0       4     length    u32 big-endian, counting itself
//! 4       4     group     FF FF FF FF, the reserved group, which a PhxPaxos node ignores
//! 8       4     magic     "atpm"
//! 12      1     kind      1 a part, 2 no more parts of this message will come; others are ignored
//! 13      3     zero      ignored when read
//! 16      8     message   u64 big-endian: which message of this link it belongs to
//! 24      4     group     u32 big-endian: whom the message is for
//! 28      8     total     u64 big-endian: bytes of the whole message
//! 36      8     offset    u64 big-endian: how many of them came before
//! 44      n     bytes
//! ```
//!
//! The parts of a message come in order and on one link. Other frames may come between them, and parts of other
//! messages. They are numbered as frames are. They come only to a node that says how long a message it takes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    ids::GroupId,
    wire::frame::{HEADER, PREFIX},
};

/// What follows the length: the reserved group and the magic.
const MARK: &[u8; 8] = b"\xff\xff\xff\xffatpm";

/// Bytes before those of the message.
const HEAD: usize = 44;

/// Bytes of a part before those of the message, without the header of its frame.
pub(crate) const PART_HEAD: usize = HEAD - HEADER;

const PART: u8 = 1;
const CANCELLED: u8 = 2;

/// Where a part belongs.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct PartHead {
    pub(crate) message: u64,
    pub(crate) group: GroupId,
    pub(crate) total: u64,
    pub(crate) offset: u64,
}

/// What a received part says.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Part<'b> {
    Bytes(PartHead, &'b [u8]),
    /// The rest of this message will not come.
    Cancelled(u64),
    /// Too short, or of a kind that a later release may have.
    Unknown,
}

/// Returns whether a whole frame is a part.
pub(crate) fn is_part(frame: &[u8]) -> bool {
    frame
        .get(PREFIX..)
        .is_some_and(|rest| rest.starts_with(MARK))
}

impl PartHead {
    /// Returns the payload of a frame of the reserved group, up to the bytes of the message.
    pub(crate) fn encode(&self) -> Bytes {
        self.encode_as(PART)
    }

    /// Returns the payload of the frame that says that no more parts will come.
    pub(crate) fn encode_cancelled(&self) -> Bytes {
        self.encode_as(CANCELLED)
    }

    fn encode_as(&self, kind: u8) -> Bytes {
        let mut bytes = BytesMut::with_capacity(PART_HEAD);
        bytes.put_slice(&MARK[HEADER - PREFIX..]);
        bytes.put_slice(&[kind, 0, 0, 0]);
        bytes.put_u64(self.message);
        bytes.put_u32(self.group.get());
        bytes.put_u64(self.total);
        bytes.put_u64(self.offset);
        bytes.freeze()
    }
}

/// Reads a frame that [is a part](is_part).
pub(crate) fn read(frame: &[u8]) -> Part<'_> {
    let Some((head, bytes)) = frame.split_at_checked(HEAD) else {
        return Part::Unknown;
    };
    let number = |at: usize| {
        head[at..]
            .first_chunk()
            .map_or(0, |it| u64::from_be_bytes(*it))
    };
    let message = number(16);
    let group = head[24..]
        .first_chunk()
        .map_or(0, |it| u32::from_be_bytes(*it));
    match head[12] {
        PART => {
            let part = PartHead {
                message,
                group: GroupId::new(group),
                total: number(28),
                offset: number(36),
            };
            Part::Bytes(part, bytes)
        }
        CANCELLED => Part::Cancelled(message),
        _ => Part::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    const PART_OF_NINE: PartHead = PartHead {
        message: 0x0102,
        group: GroupId::new(3),
        total: 9,
        offset: 4,
    };

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame::header(GroupId::RESERVED, payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_part_has_exactly_these_bytes_and_is_read_as_it_was_written() {
        let payload = [&PART_OF_NINE.encode()[..], b"hello"].concat();
        let bytes = framed(&payload);
        let expected = b"\0\0\0\x31\xff\xff\xff\xffatpm\x01\0\0\0\
            \0\0\0\0\0\0\x01\x02\0\0\0\x03\
            \0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x04hello";
        assert_eq!(bytes, expected);
        assert!(is_part(&bytes));
        assert_eq!(read(&bytes), Part::Bytes(PART_OF_NINE, b"hello"));
        let cancelled = framed(&PART_OF_NINE.encode_cancelled());
        assert_eq!(read(&cancelled), Part::Cancelled(0x0102));
    }

    #[test]
    fn what_is_too_short_or_of_another_kind_is_unknown() {
        let mut bytes = framed(&PART_OF_NINE.encode());
        for cut in 12..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Part::Unknown, "{cut}");
        }
        bytes[12] = 3;
        assert_eq!(read(&bytes), Part::Unknown);
        bytes[11] = b's';
        assert!(!is_part(&bytes));
    }
}
