//! A burst: datagrams that are given to the kernel together.
//!
//! The kernel requires one destination and one length; only the last datagram may be shorter.

use super::{
    account::{Place, SendDrop},
    batch::Batch,
};
use crate::wire::count::Count;

/// The bounds of a burst.
#[derive(Debug, Copy, Clone)]
pub(crate) struct BurstLimits {
    pub(crate) number: usize,
    /// Bytes of each datagram. A longer one goes alone.
    pub(crate) each: usize,
    /// Bytes of all datagrams.
    pub(crate) bytes: usize,
}

/// What is sent together.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Burst<To> {
    pub(crate) to: To,
    /// Bytes of each datagram but the last.
    pub(crate) each: usize,
    pub(crate) number: usize,
}

impl<To: Copy + Eq> Batch<To> {
    /// Clears `contents` and copies the datagrams of the first burst into it. They stay in the batch until
    /// `finish_datagrams`. Returns `None` if the batch is empty.
    pub(crate) fn next_burst(
        &self,
        contents: &mut Vec<u8>,
        limits: &BurstLimits,
    ) -> Option<Burst<To>> {
        contents.clear();
        let chunk = self.chunks.front()?;
        let mut burst = Burst {
            to: chunk.to,
            each: 0,
            number: 0,
        };
        for datagram in chunk.datagrams().take(limits.number) {
            if burst.number == 0 {
                burst.each = datagram.len();
            } else if datagram.len() > burst.each
                || burst.each > limits.each
                || contents.len() + datagram.len() > limits.bytes
            {
                break;
            }
            contents.extend_from_slice(datagram);
            burst.number += 1;
            if datagram.len() < burst.each {
                break;
            }
        }
        Some(burst)
    }

    /// Removes the first `number` datagrams, which belong to one burst. Counts them as written, or as
    /// failed if `sent` is false.
    pub(crate) fn finish_datagrams(&mut self, number: usize, sent: bool) {
        let Some(chunk) = self.chunks.front_mut() else {
            return;
        };
        let frames = (0..number).map(|_| chunk.pop_frame()).sum::<Count>();
        let emptied = match chunk.frames {
            0 => self.chunks.pop_front(),
            _ => None,
        };
        let place = match sent {
            true => Place::Written,
            false => Place::Dropped(SendDrop::Failed),
        };
        self.queue.locked(|state| {
            if let Some(chunk) = emptied {
                state.recycle(chunk);
            }
            state.account.transfer(Place::InFlight, place, frames);
            state.frames_left(&self.queue.limits);
        });
    }
}
