//! The wire format of a frame, the same as in PhxPaxos.
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
//! On a TCP stream, frames follow one another without gaps. They have the same form in memory: the send
//! queue stores them so, and received bytes are passed on so. This file owns the format only. Sockets,
//! memory limits and delivery are left to others.

use crate::{ids::GroupId, wire::count::Count};

/// Bytes of a frame before its group: the length field.
pub(crate) const PREFIX: usize = 4;

/// Bytes of a frame before its payload: the length and group fields.
pub(crate) const HEADER: usize = 8;

/// Returns the header of a frame whose payload has `payload` bytes.
///
/// The caller has checked the frame against its limit, which fits into a `u32`.
#[inline]
pub(crate) fn header(group: GroupId, payload: usize) -> [u8; HEADER] {
    let length = u32::try_from(HEADER + payload).expect("frame limits fit into u32");
    let mut header = [0; HEADER];
    header[..PREFIX].copy_from_slice(&length.to_be_bytes());
    header[PREFIX..].copy_from_slice(&group.get().to_le_bytes());
    header
}

/// Returns the length of the frame that starts at `at`. It must have been encoded by us or checked by
/// [`peek`].
pub(crate) fn len_at(encoded: &[u8], at: usize) -> usize {
    let length: [u8; PREFIX] = encoded[at..at + PREFIX].try_into().expect("four bytes");
    u32::from_be_bytes(length) as usize
}

/// Returns the group of the frame that starts at `at`, as for [`len_at`].
pub(crate) fn group_at(encoded: &[u8], at: usize) -> GroupId {
    let group = encoded[at + PREFIX..at + HEADER].try_into();
    GroupId::new(u32::from_le_bytes(group.expect("four bytes")))
}

/// The frame at the front of a buffer.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the whole frame, header included.
    pub(crate) len: usize,
    pub(crate) group: GroupId,
}

/// A length field that no frame can have: shorter than a header, or above the limit.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) length: u32,
}

/// Reads the frame at the front of `bytes`, if all of it has arrived.
///
/// `Ok(None)` means that it is not complete yet. A bad length is an error as soon as its four bytes are
/// there, so that no connection waits for a frame that would be refused.
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

/// Counts those of the complete frames at the front of `bytes` that are `counted`.
pub(crate) fn whole(mut bytes: &[u8], limit: usize, counted: impl Fn(&[u8]) -> bool) -> Count {
    let mut whole = Count::ZERO;
    while let Ok(Some(head)) = peek(bytes, limit) {
        let (frame, behind) = bytes.split_at(head.len);
        if counted(frame) {
            whole += Count::one(head.len);
        }
        bytes = behind;
    }
    whole
}

/// Returns the length of the frame at the front of `bytes`, complete or not. `None` if its length field
/// is not complete.
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
    fn the_length_is_big_endian_and_counts_itself_and_the_group_is_little_endian() {
        assert_eq!(
            frame(0x0102_0304, b"ab"),
            [0, 0, 0, 10, 4, 3, 2, 1, b'a', b'b']
        );
    }

    #[test]
    fn a_frame_may_have_an_empty_payload() {
        let head = Head {
            len: 8,
            group: GroupId::new(7),
        };
        assert_eq!(peek(&frame(7, b""), LIMIT), Ok(Some(head)));
    }

    #[test]
    fn a_frame_is_not_seen_before_its_last_byte() {
        let whole = frame(1, b"hello");
        for cut in 0..whole.len() {
            assert_eq!(peek(&whole[..cut], LIMIT), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_below_the_header_or_above_the_limit_is_malformed_once_its_four_bytes_are_there() {
        for length in [0u32, 7, LIMIT as u32 + 1, u32::MAX] {
            let prefix = length.to_be_bytes();
            assert_eq!(peek(&prefix[..3], LIMIT), Ok(None));
            assert_eq!(peek(&prefix, LIMIT), Err(Malformed { length }));
        }
        assert_eq!(peek(&(LIMIT as u32).to_be_bytes(), LIMIT), Ok(None));
    }
}
