//! The wire, to the byte, as PhxPaxos speaks it.
//!
//! ```text
//! TCP    offset  size  field
//!        0       4     length   u32 big-endian, counting itself: 8 + payload
//!        4       4     group    u32 little-endian
//!        8       n     payload
//!
//! UDP    the same from offset 4 on, one frame per datagram
//! ```
//!
//! Frames lie behind one another on a TCP stream, which is how they lie in memory too: the send
//! queue encodes into this form, and a read buffer is handed on in it. This file knows the table
//! above and nothing of sockets, limits on memory, or who a frame is for.

use crate::{ids::GroupId, wire::count::Count};

/// Bytes of a frame before its group: the length.
pub(crate) const PREFIX: usize = 4;

/// Bytes of a frame before its payload: length and group.
pub(crate) const HEADER: usize = 8;

/// Returns the eight bytes that go before a payload of `payload` bytes.
///
/// The caller has checked that the whole frame is within a limit, which itself is within `u32`.
#[inline]
pub(crate) fn header(group: GroupId, payload: usize) -> [u8; HEADER] {
    let length = u32::try_from(HEADER + payload).expect("frame limit is checked to fit u32");
    let mut header = [0; HEADER];
    header[..PREFIX].copy_from_slice(&length.to_be_bytes());
    header[PREFIX..].copy_from_slice(&group.get().to_le_bytes());
    header
}

/// The length of the frame that starts at `at`, in bytes it was encoded or checked into before.
pub(crate) fn len_at(encoded: &[u8], at: usize) -> usize {
    let length: [u8; PREFIX] = encoded[at..at + PREFIX].try_into().expect("four bytes");
    u32::from_be_bytes(length) as usize
}

/// What stands at the front of a buffer.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the whole frame, header included.
    pub(crate) len: usize,
    pub(crate) group: GroupId,
}

/// A length that no frame has: below its own header, or above the limit.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) length: u32,
}

/// Reads the frame at the front of `bytes`, if all of it has arrived.
///
/// `Ok(None)` is "not yet". A bad length is told as soon as its four bytes are there, so that nobody
/// waits for a frame that will not be taken.
#[inline]
pub(crate) fn peek(bytes: &[u8], limit: usize) -> Result<Option<Head>, Malformed> {
    let Some(len) = announced(bytes, limit)? else {
        return Ok(None);
    };
    if bytes.len() < len {
        return Ok(None);
    }
    let group = u32::from_le_bytes(bytes[PREFIX..HEADER].try_into().expect("four bytes"));
    let group = GroupId::new(group);
    Ok(Some(Head { len, group }))
}

/// The frames at the front of `bytes` of which all has arrived.
pub(crate) fn whole(mut bytes: &[u8], limit: usize) -> Count {
    let mut whole = Count::ZERO;
    while let Ok(Some(head)) = peek(bytes, limit) {
        whole += Count::one(head.len);
        bytes = &bytes[head.len..];
    }
    whole
}

/// The length that the frame at the front of `bytes` announces, once its four bytes are there.
#[inline]
pub(crate) fn announced(bytes: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    let len = length as usize;
    if len < HEADER || len > limit {
        return Err(Malformed { length });
    }
    Ok(Some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64;

    fn frame(group: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(GroupId::new(group), payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn length_is_big_endian_and_counts_itself_while_group_is_little_endian() {
        assert_eq!(
            frame(0x0102_0304, b"ab"),
            [0, 0, 0, 10, 4, 3, 2, 1, b'a', b'b']
        );
    }

    #[test]
    fn empty_payload_is_a_frame() {
        let head = Head {
            len: 8,
            group: GroupId::new(7),
        };
        assert_eq!(peek(&frame(7, b""), LIMIT), Ok(Some(head)));
    }

    #[test]
    fn every_shorter_prefix_of_a_frame_is_not_yet_one() {
        let whole = frame(1, b"hello");
        for cut in 0..whole.len() {
            assert_eq!(peek(&whole[..cut], LIMIT), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn lengths_outside_header_and_limit_are_malformed_from_their_fourth_byte_on() {
        for length in [0u32, 7, LIMIT as u32 + 1, u32::MAX] {
            let prefix = length.to_be_bytes();
            assert_eq!(peek(&prefix[..3], LIMIT), Ok(None));
            assert_eq!(peek(&prefix, LIMIT), Err(Malformed { length }));
        }
        assert_eq!(peek(&(LIMIT as u32).to_be_bytes(), LIMIT), Ok(None));
    }
}
