//! Parts of the mechanism, bare, for this crate's own benchmarks and fuzzers. Feature `internals`;
//! no promise of any kind is made about it.

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;

use crate::{
    Config, GroupId, Payload, SendError, SendStats,
    clock::Tick,
    dispatch::Splitter,
    queue::{Batch, SendQueue},
};

/// A send queue without a writer.
#[derive(Debug, Clone)]
pub struct Queue(Arc<SendQueue>);

impl Queue {
    /// Makes one with the bounds that a peer's queue would have.
    pub fn new(config: &Config) -> Self {
        Queue(Arc::new(SendQueue::new(crate::peers::limits(config))))
    }

    /// Pushes a frame, as [`Peer::try_send`](crate::Peer::try_send) does.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn push<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let pushed = self.0.push((), group, payload, Tick::now());
        pushed.map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Takes a batch and "writes" all of it at once; says how many bytes that were.
    pub fn write(&self) -> usize {
        let Some(mut batch) = self.0.take(Tick::now()) else {
            return 0;
        };
        let written = bytes_of(&batch);
        batch.advance(written);
        written
    }

    /// Returns the counters.
    pub fn stats(&self) -> SendStats {
        self.0.stats()
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = batch.slices(&mut slices);
    slices[..filled].iter().map(|slice| slice.len()).sum()
}

/// Splits whole frames by group, for nobody; says how many bytes they were, or none if they are
/// malformed.
#[derive(Debug, Default)]
pub struct Decoder(Splitter);

impl Decoder {
    /// Splits what is whole at the front of `bytes`.
    pub fn split(&mut self, bytes: &[u8], max_frame: usize) -> Option<usize> {
        self.0.split_for_nobody(bytes, max_frame)
    }
}

/// Encodes a frame as it stands on a connection.
pub fn encode(group: GroupId, payload: &[u8]) -> Bytes {
    let header = crate::frame::header(group, payload.len());
    [&header[..], payload].concat().into()
}
