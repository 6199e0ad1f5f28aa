//! Frames that say who they are: sender, incarnation, group, sequence, length and a checksum, all in
//! the payload, so that a receiver knows what is corrupt, doubled, out of order or missing.
//!
//! ```text
//! short, 8 to 31 bytes      long, 32 bytes and more
//! offset  size  field       offset  size  field
//! 0       3     sequence    0       4     checksum of all that follows, and of the length
//! 3       1     group       4       4     length
//! 4       1     sender·16   8       8     sequence
//!               + incarn.   16      4     group
//! 5       3     checksum    20      4     sender
//! 8       n     filling     24      4     incarnation
//!                           28      n     filling
//! ```
//!
//! All numbers are little-endian. The filling is drawn from the sequence, so that no two frames look
//! alike. A short stamp's checksum covers the length too. Sequences count all frames from one sender
//! to one peer in one incarnation, whatever their group.

/// A payload shorter than this has a short stamp.
const LONG: usize = 32;

/// No payload is shorter.
pub(crate) const SHORTEST: usize = 8;

/// What the stamp of a frame says.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(crate) struct Stamp {
    pub(crate) sender: u32,
    pub(crate) incarnation: u32,
    pub(crate) group: u32,
    pub(crate) sequence: u64,
}

impl Stamp {
    /// A payload of `len` bytes with this stamp. Short ones carry small numbers only: senders and
    /// incarnations below 16, groups below 256, sequences below 2²⁴.
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

    /// What a payload says it is, if it is what its sender made it.
    pub(crate) fn check(payload: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::peek(payload)?;
        let sound = match payload.len() < LONG {
            true => payload[5..8] == short_sum(payload),
            false => {
                word(payload, 4) as usize == payload.len()
                    && word(payload, 0) == crc32fast::hash(&payload[4..])
            }
        };
        sound.then_some(stamp)
    }

    /// What a payload of `payload.len()` bytes says it is, true or not.
    fn peek(payload: &[u8]) -> Option<Stamp> {
        Stamp::peek_of(payload, payload.len())
    }

    /// What a payload of `len` bytes says it is, of which no more than the beginning is there. None
    /// when that is too little to say.
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

/// Bytes of a payload that [`Stamp::peek_of`] needs at most.
pub(crate) const PEEK: usize = 28;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

/// The checksum of a short payload, over all of it but the checksum itself.
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
    fn a_payload_says_who_it_is_and_no_bit_of_it_can_be_turned_over() {
        for len in [8, 9, 31, 32, 33, 100] {
            let payload = STAMP.payload(len);
            assert_eq!(Stamp::check(&payload), Some(STAMP), "of {len} bytes");
            for bit in 0..len * 8 {
                let mut bent = payload.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::check(&bent), None, "bit {bit} of {len} bytes");
            }
        }
    }

    #[test]
    fn a_payload_that_is_cut_or_has_something_behind_it_is_none() {
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
