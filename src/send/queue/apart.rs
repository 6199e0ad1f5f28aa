//! [`Apart`]: which of the queued frames have terms of their own.
//!
//! Each is a chunk by itself, which takes no further frames. So what most frames need stays as it is: pushes
//! look at none of this, and the age of a chunk is that of all its frames. As long as one such chunk is queued,
//! the chunks are not in the order in which they go stale.

use std::collections::HashMap;

use super::{chunk::Chunk, terms::Key};

/// Which of the queued frames have terms of their own.
#[derive(Default)]
pub(super) struct Apart {
    queued: usize,
    /// The number of the queued frame with each key. There are never more than queued frames.
    pub(super) by_key: HashMap<Key, u64>,
}

impl Apart {
    /// Returns whether no queued frame has terms of its own.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Notes that a chunk is queued.
    pub(super) fn comes<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        if chunk.terms.is_none() {
            return;
        }
        self.queued += 1;
        if let Some(key) = chunk.key() {
            let older = self.by_key.insert(key, chunk.first);
            debug_assert!(older.is_none(), "one of each key is queued");
        }
    }

    /// Notes that a chunk is queued no more.
    #[inline]
    pub(super) fn goes<To: Copy + Eq>(&mut self, chunk: &Chunk<To>) {
        if !self.is_empty() && chunk.terms.is_some() {
            self.queued -= 1;
            chunk.key().map(|key| self.by_key.remove(&key));
        }
    }

    pub(super) fn trim(&mut self) {
        self.by_key.shrink_to_fit();
    }
}
