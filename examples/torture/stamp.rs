//! Frames that identify themselves. The payload contains sender, incarnation, group, sequence,
//! length and a checksum, so that a receiver sees which frame is corrupt, duplicate, reordered or
//! missing.
//!
//! ```text
//! short, 8 to 31 bytes      long, 32 bytes and more
//! offset  size  field       offset  size  field
//! 0       3     sequence    0       4     checksum of all that follows
//! 3       1     group       4       4     length
//! 4       1     sender·16   8       8     sequence
//!               + incarn.   16      4     group
//! 5       3     checksum    20      4     sender
//! 8       n     filler      24      4     incarnation
//!                           28      n     filler
//! ```
//!
//! All numbers are little-endian. The filler depends on the sequence, so that no two frames are
//! alike. The checksum of a short stamp also covers the length. Sequences count all frames from one
//! sender to one peer in one incarnation, over all groups.

/// A payload shorter than this has a short stamp.
const LONG: usize = 32;

/// The shortest payload.
pub(crate) const SHORTEST: usize = 8;

/// The content of a stamp.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(crate) struct Stamp {
    pub(crate) sender: u32,
    pub(crate) incarnation: u32,
    pub(crate) group: u32,
    pub(crate) sequence: u64,
}

impl Stamp {
    /// Returns a payload of `len` bytes with this stamp. Short ones hold small numbers only:
    /// senders and incarnations below 16, groups below 256, sequences below 2²⁴.
    pub(crate) fn payload(&self, len: usize) -> Vec<u8> {
        assert!(len >= SHORTEST, "no room for a stamp");
        let mut payload = vec![0; len];
        if len < LONG {
            assert!(
                self.sequence < 1 << 24 && self.group < 256,
                "too large for a short stamp"
            );
            assert!(
                self.sender < 16 && self.incarnation < 16,
                "too large for a short stamp"
            );
            payload[..3].copy_from_slice(&self.sequence.to_le_bytes()[..3]);
            payload[3] = self.group as u8;
            payload[4] = (self.sender * 16 + self.incarnation) as u8;
            fill(&mut payload[8..], self.sequence);
            let sum = short_sum(&payload);
            payload[5..8].copy_from_slice(&sum);
            return payload;
        }
        payload[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..20].copy_from_slice(&self.group.to_le_bytes());
        payload[20..24].copy_from_slice(&self.sender.to_le_bytes());
        payload[24..28].copy_from_slice(&self.incarnation.to_le_bytes());
        fill(&mut payload[28..], self.sequence);
        let sum = crc32fast::hash(&payload[4..]);
        payload[..4].copy_from_slice(&sum.to_le_bytes());
        payload
    }

    /// Returns the stamp of a payload, or `None` if the payload is not as its sender made it.
    pub(crate) fn check(payload: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::peek(payload)?;
        let intact = match payload.len() < LONG {
            true => payload[5..8] == short_sum(payload),
            false => {
                word(payload, 4) as usize == payload.len()
                    && word(payload, 0) == crc32fast::hash(&payload[4..])
            }
        };
        intact.then_some(stamp)
    }

    /// Returns the stamp of a payload without checking it.
    fn peek(payload: &[u8]) -> Option<Stamp> {
        Stamp::peek_of(payload, payload.len())
    }

    /// Returns the stamp of a payload of `len` bytes from its beginning, without checking it, or
    /// `None` if the beginning is too short.
    pub(crate) fn peek_of(beginning: &[u8], len: usize) -> Option<Stamp> {
        if len < LONG {
            if beginning.len() < SHORTEST {
                return None;
            }
            return Some(Stamp {
                sender: u32::from(beginning[4] / 16),
                incarnation: u32::from(beginning[4] % 16),
                group: u32::from(beginning[3]),
                sequence: u64::from(word(beginning, 0) & 0x00FF_FFFF),
            });
        }
        if beginning.len() < 28 {
            return None;
        }
        Some(Stamp {
            sender: word(beginning, 20),
            incarnation: word(beginning, 24),
            group: word(beginning, 16),
            sequence: u64::from(word(beginning, 8)) | u64::from(word(beginning, 12)) << 32,
        })
    }
}

/// The longest beginning that [`Stamp::peek_of`] needs.
pub(crate) const PEEK: usize = 28;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

/// Returns the checksum of a short payload, over all but the checksum itself.
fn short_sum(payload: &[u8]) -> [u8; 3] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[payload.len() as u8]);
    hasher.update(&payload[..5]);
    hasher.update(&payload[8..]);
    let [a, b, c, d] = hasher.finalize().to_le_bytes();
    [a, b, c ^ d]
}

fn fill(bytes: &mut [u8], sequence: u64) {
    let mut word = sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_add(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        sender: 7,
        incarnation: 3,
        group: 200,
        sequence: 70_000,
    };

    #[test]
    fn check_returns_the_stamp_and_detects_every_flipped_bit() {
        for len in [8, 9, 31, 32, 33, 100] {
            let payload = STAMP.payload(len);
            assert_eq!(Stamp::check(&payload), Some(STAMP), "of {len} bytes");
            for bit in 0..len * 8 {
                let mut flipped = payload.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::check(&flipped), None, "bit {bit} of {len} bytes");
            }
        }
    }

    #[test]
    fn check_rejects_a_payload_that_is_too_short_or_too_long() {
        for len in [8, 16, 31, 32, 33, 100] {
            let mut payload = STAMP.payload(len);
            assert_eq!(
                Stamp::check(&payload[..len - 1]),
                None,
                "cut to {}",
                len - 1
            );
            payload.push(0);
            assert_eq!(Stamp::check(&payload), None, "grown to {}", len + 1);
        }
    }
}
