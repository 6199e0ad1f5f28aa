//! [`CallTable`]: a table of calls by the numbers that this node gave them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::wire::call::CallId;

/// A table by the numbers of this node's own calls, which follow one another. Nobody else chooses them, so their hash
/// needs no secret: the standard library's took 4 % of a call.
pub(super) type CallTable<T> = HashMap<CallId, T, BuildHasherDefault<IdHasher>>;

/// Spreads a number by one multiplication.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        // The table uses the upper bits and the lower ones.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
