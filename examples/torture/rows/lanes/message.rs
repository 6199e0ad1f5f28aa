//! Large messages whose bytes show whose they are: each byte follows from the sender, its incarnation, the number of
//! the message, and its own position.
//!
//! ```text
//! offset  size  field
//! 0       4     sender
//! 4       4     incarnation
//! 8       8     number
//! 16      8     length of the whole message
//! 24      n     filler
//! ```
//!
//! All numbers are little-endian.

use std::ops::Range;

const HEAD: usize = 24;

/// The lengths of messages. The shortest has several parts.
const LENS: Range<usize> = 200 << 10..20 << 20;

/// Which message of which life of a sender.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(in crate::rows) struct MessageId {
    pub(in crate::rows) sender: u32,
    pub(in crate::rows) incarnation: u32,
    pub(in crate::rows) number: u64,
}

impl MessageId {
    /// Returns a message of `len` bytes.
    pub(in crate::rows) fn payload(self, len: usize) -> Vec<u8> {
        let mut payload = vec![0; len];
        let (head, filler) = payload.split_at_mut(HEAD);
        head[..4].copy_from_slice(&self.sender.to_le_bytes());
        head[4..8].copy_from_slice(&self.incarnation.to_le_bytes());
        head[8..16].copy_from_slice(&self.number.to_le_bytes());
        head[16..].copy_from_slice(&(len as u64).to_le_bytes());
        for (index, bytes) in filler.chunks_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(index)[..bytes.len()]);
        }
        payload
    }

    /// Returns which message this is, or `None` if it is not whole and as its sender made it.
    pub(in crate::rows) fn check(payload: &[u8]) -> Option<MessageId> {
        let (head, filler) = payload.split_at_checked(HEAD)?;
        let id = MessageId {
            sender: u32::from_le_bytes(*head.first_chunk()?),
            incarnation: u32::from_le_bytes(*head[4..].first_chunk()?),
            number: u64::from_le_bytes(*head[8..].first_chunk()?),
        };
        let len = u64::from_le_bytes(*head[16..].first_chunk()?);
        let mut words = filler.chunks(8).enumerate();
        let whole = words.all(|(index, bytes)| *bytes == id.word(index)[..bytes.len()]);
        (whole && len == payload.len() as u64).then_some(id)
    }

    fn word(self, index: usize) -> [u8; 8] {
        let life = u64::from(self.sender) << 48 ^ u64::from(self.incarnation) << 40;
        let seed = (life ^ self.number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let word = (seed ^ index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (word ^ word >> 29).to_le_bytes()
    }
}

/// Draws a length. Short ones are more frequent than long ones.
pub(super) fn draw_len(draw: &mut fastrand::Rng) -> usize {
    let longest = match draw.u32(..8) {
        0 => LENS.end,
        1..3 => 4 << 20,
        _ => 1 << 20,
    };
    draw.usize(LENS.start..=longest)
}

/// The length of the longest message.
pub(super) const LONGEST: usize = LENS.end;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_not_whole_is_none() {
        let id = MessageId {
            sender: 2,
            incarnation: 3,
            number: 4,
        };
        let mut payload = id.payload(1001);
        assert_eq!(MessageId::check(&payload), Some(id));
        assert_eq!(MessageId::check(&payload[..1000]), None);
        for at in 0..payload.len() {
            payload[at] ^= 1;
            assert_ne!(MessageId::check(&payload), Some(id), "{at}");
            payload[at] ^= 1;
        }
        // Two parts that changed places.
        payload[200..600].rotate_left(200);
        assert_eq!(MessageId::check(&payload), None);
    }
}
