//! Buffers for large payloads, used again once the writer has released them.
//!
//! A program that sends many megabytes a second does not allocate fresh memory for each payload:
//! mapping it takes as long as writing it. For small payloads a new allocation is cheaper.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Buffers of at least this size are kept.
pub(super) const LARGE: usize = 8 << 10;

/// The buffers that one producer has sent, the oldest first. It grows to the length of the queue or
/// channel behind it.
#[derive(Default)]
pub(super) struct Pool(VecDeque<Bytes>);

impl Pool {
    /// Returns a filled buffer, one that was used before if the oldest is free.
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
