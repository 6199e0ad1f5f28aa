//! Buffers for large payloads, filled again once whoever wrote them has let them go.
//!
//! Who sends many megabytes a second does not ask the system for fresh memory for each: to map it
//! takes as long as to write it. Small payloads are better made by themselves.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// From this size on a buffer is worth keeping.
pub(super) const LARGE: usize = 8 << 10;

/// What one producer has sent, the oldest first. As long as the queue, or the channel, it sends to.
#[derive(Default)]
pub(super) struct Pool(VecDeque<Bytes>);

impl Pool {
    /// Makes what is to be sent next, in a buffer used before if one is free.
    pub(super) fn make(&mut self, size: usize, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut buffer = match self.0.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(free)) => free,
            Some(Err(held)) => {
                self.0.push_front(held);
                BytesMut::with_capacity(size)
            }
            None => BytesMut::with_capacity(size),
        };
        buffer.clear();
        fill(&mut buffer);
        let made = buffer.freeze();
        if size >= LARGE {
            self.0.push_back(made.clone());
        }
        made
    }
}
