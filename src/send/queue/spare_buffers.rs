//! Emptied buffers that are kept to be filled again.

use super::{BATCH_BYTES, LONG_QUEUE};

/// Emptied buffers, at most as many, and together as large, as the chunks of one batch.
#[derive(Default)]
pub(super) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    /// The capacity of all of them.
    bytes: usize,
}

impl SpareBuffers {
    /// Returns an empty buffer. If none is kept, it makes one with room for `expected` bytes.
    pub(super) fn take(&mut self, expected: usize) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else {
            return Vec::with_capacity(expected);
        };
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps an empty buffer, or frees it if enough are kept.
    pub(super) fn keep(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty());
        let bytes = self.bytes + buffer.capacity();
        if self.buffers.len() < LONG_QUEUE && bytes <= BATCH_BYTES {
            self.buffers.push(buffer);
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_buffer_is_used_before_one_is_made() {
        let mut spare = SpareBuffers::default();
        spare.keep(Vec::with_capacity(100));
        assert_eq!(spare.take(7).capacity(), 100);
        assert_eq!(spare.take(7).capacity(), 7);
        assert_eq!(spare.bytes, 0);
    }

    #[test]
    fn no_more_is_kept_than_one_batch_needs() {
        let mut spare = SpareBuffers::default();
        for _ in 0..2 * LONG_QUEUE {
            spare.keep(Vec::with_capacity(10));
        }
        assert_eq!(spare.buffers.len(), LONG_QUEUE);
        let mut spare = SpareBuffers::default();
        for _ in 0..5 {
            spare.keep(Vec::with_capacity(BATCH_BYTES / 4));
        }
        assert_eq!(spare.bytes, BATCH_BYTES);
    }
}
