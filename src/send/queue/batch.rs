//! A batch: what has been taken from the queue to be written.
//!
//! Tracks how many bytes are written and which frames that completes. The link does the writing. How
//! frames become datagrams is in [`burst`](super::burst).

use std::{collections::VecDeque, io::IoSlice, sync::Arc, time::Duration};

use super::{
    SendQueue,
    account::{Place, SendDrop},
    chunk::Chunk,
    shares::Leaving,
    unacked::Finished,
};
use crate::{net::clock::CoarseInstant, wire::count::Count};

/// A frame is dropped when this many links have ended with a part of it written. One link may end by
/// chance, and a second one because the peer restarts. At the third, it is most likely that the peer does
/// not take this frame.
const MAX_CUTS: u8 = 3;

/// Chunks that the queue has lent to the writer.
///
/// If the batch is dropped before all of it is written, the frames that are not written return to the
/// front of the queue, or are dropped if the queue is closed. A frame of which the kernel took a part
/// cannot have been received, so it goes back whole. A frame that the kernel took whole is not sent
/// again. Drop a batch when its link ends.
pub(crate) struct Batch<To: Copy + Eq = ()> {
    pub(super) queue: Arc<SendQueue<To>>,
    pub(super) chunks: VecDeque<Chunk<To>>,
    /// How many bytes of the first chunk's first frame are written.
    cursor: usize,
    /// How many bytes behind those the link has encrypted, and not written whole.
    encrypted: usize,
    /// The number of the frame behind the last one that was written whole.
    reached: u64,
    /// Whether the link wants to know which frames were finished.
    noting: bool,
}

impl<To: Copy + Eq> Batch<To> {
    /// Makes a batch from chunks that the queue has just counted as in flight.
    pub(super) fn new(
        queue: Arc<SendQueue<To>>,
        chunks: VecDeque<Chunk<To>>,
        noting: bool,
    ) -> Self {
        Batch {
            queue,
            reached: chunks.front().map_or(0, |chunk| chunk.first),
            chunks,
            cursor: 0,
            encrypted: 0,
            noting,
        }
    }

    /// Returns the number of the frame that is to be written next. `None` in the middle of a frame.
    pub(crate) fn begins_with(&self) -> Option<u64> {
        match self.cursor {
            0 => Some(self.chunks.front()?.first),
            _ => None,
        }
    }

    /// Returns the number of the frame behind the last one that was written whole.
    pub(crate) fn reached(&self) -> u64 {
        self.reached
    }

    /// Returns what is not written whole yet.
    pub(crate) fn count(&self) -> Count {
        self.chunks.iter().map(Chunk::count).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Fills `slices` with what is to be written next, up to where frames are missing because they were
    /// dropped, and up to `most` bytes. Returns how many it filled.
    pub(crate) fn slices<'b>(&'b self, slices: &mut [IoSlice<'b>], mut most: usize) -> usize {
        let mut filled = 0;
        let mut skip = self.cursor;
        let mut next = self.chunks.front().map_or(0, |chunk| chunk.first);
        for chunk in &self.chunks {
            if chunk.first != next {
                break;
            }
            next = chunk.behind();
            for part in chunk.parts() {
                let skipped = skip.min(part.len());
                skip -= skipped;
                let part = &part[skipped..];
                if part.is_empty() {
                    continue;
                }
                if filled == slices.len() || most == 0 {
                    return filled;
                }
                let part = &part[..part.len().min(most)];
                most -= part.len();
                slices[filled] = IoSlice::new(part);
                filled += 1;
            }
        }
        filled
    }

    /// Notes that the kernel took `n` more bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        let finished = self.finished_by(n);
        let leaving = self.leaving_with(n);
        let Batch {
            queue,
            chunks,
            cursor,
            reached,
            ..
        } = self;
        *cursor += n;
        queue.locked(|state| {
            let mut done = Count::ZERO;
            while let Some(chunk) = chunks.front_mut() {
                let count = chunk.count();
                if *cursor < count.bytes as usize {
                    let popped = chunk.pop_frames(cursor);
                    if !popped.is_zero() {
                        *reached = chunk.first;
                    }
                    done += popped;
                    break;
                }
                *cursor -= count.bytes as usize;
                *reached = chunk.behind();
                done += count;
                state.recycle(chunks.pop_front().expect("there is a first chunk"));
            }
            state
                .account
                .transfer(Place::InFlight, Place::Written, done);
            state.unacked.note(&finished);
            state.end_in_shares(leaving);
            state.frames_left(&queue.limits);
        });
    }

    /// Notes how many bytes behind those that are written are encrypted already. They must be written next,
    /// or the link must end.
    pub(crate) fn encrypted(&mut self, n: usize) {
        self.encrypted = n;
    }

    /// Returns the frames that `n` more bytes finish. Called before the queue is locked, because this
    /// looks at each frame.
    fn finished_by(&self, n: usize) -> Finished {
        let mut finished = Finished::default();
        let mut bytes = self.cursor + n;
        for chunk in self.chunks.iter().take_while(|_| self.noting) {
            let noted = chunk.note_finished(bytes, &mut finished);
            bytes -= noted;
            if bytes == 0 || noted < chunk.count().bytes as usize {
                break;
            }
        }
        finished
    }

    /// Counts by their groups the frames that `n` more bytes finish. `None` if groups have no shares.
    fn leaving_with(&self, n: usize) -> Option<Leaving> {
        let mut leaving = self.leaving()?;
        let mut bytes = self.cursor + n;
        for chunk in &self.chunks {
            let counted = leaving.add(chunk, bytes);
            bytes -= counted;
            if bytes == 0 || counted < chunk.count().bytes as usize {
                break;
            }
        }
        Some(leaving)
    }

    fn leaving(&self) -> Option<Leaving> {
        self.queue.limits.share.map(|_| Leaving::default())
    }

    /// Drops the frames that went stale while the link did not take them. A frame that is partly
    /// written stays: without its rest the receiver could not read what follows. So does one of which a part
    /// is encrypted.
    pub(crate) fn expire(&mut self, now: CoarseInstant) {
        let mut leaving = self.leaving();
        let mut stale = Count::ZERO;
        let mut dropped = Vec::new();
        let mut begun = self.cursor + self.encrypted;
        for mut chunk in std::mem::take(&mut self.chunks) {
            let of_chunk = begun.min(chunk.count().bytes as usize);
            begun -= of_chunk;
            if !chunk.is_stale(&self.queue.limits, now) {
                self.chunks.push_back(chunk);
                continue;
            }
            leaving
                .iter_mut()
                .for_each(|it| _ = it.add(&chunk, usize::MAX));
            if of_chunk > 0 {
                stale += chunk.keep_frames_of(of_chunk);
                leaving.iter_mut().for_each(|it| it.take_off(&chunk));
                self.chunks.push_back(chunk);
            } else {
                stale += chunk.count();
                dropped.push(chunk);
            }
        }
        self.queue.locked(|state| {
            let place = Place::Dropped(SendDrop::Stale);
            state.account.transfer(Place::InFlight, place, stale);
            state.end_in_shares(leaving);
            state.deferred.discard(dropped);
            state.frames_left(&self.queue.limits);
        });
    }

    /// Notes that the link this batch was being written to has ended. Drops the frame that was written in
    /// part if that has happened to it on [`MAX_CUTS`] links, so that those behind it can go on. A peer
    /// ends every link on which it gets a frame that is longer than its limit.
    pub(crate) fn link_ended(&mut self) {
        let mut leaving = self.leaving();
        let Some(chunk) = self.chunks.front_mut().filter(|_| self.cursor > 0) else {
            return;
        };
        chunk.cuts += 1;
        if chunk.cuts < MAX_CUTS {
            return;
        }
        let first = chunk.first_len();
        leaving.iter_mut().for_each(|it| _ = it.add(chunk, first));
        let frame = chunk.pop_frame();
        let emptied = match chunk.frames {
            0 => self.chunks.pop_front(),
            _ => None,
        };
        self.cursor = 0;
        self.queue.locked(|state| {
            let place = Place::Dropped(SendDrop::CutOff);
            state.account.transfer(Place::InFlight, place, frame);
            state.end_in_shares(leaving);
            state.deferred.discard(emptied);
            state.frames_left(&self.queue.limits);
        });
    }

    /// Returns how long it takes until the first frame of the batch that is not stale yet, or the first one in the
    /// queue, becomes stale. `None` if there is neither.
    pub(crate) fn next_expiry(&self, now: CoarseInstant) -> Option<Duration> {
        // The first chunks may be stale and hold frames that are partly written. These never expire.
        let waits = |chunk: &&Chunk<To>| !chunk.is_stale(&self.queue.limits, now);
        let waiting = self.chunks.iter().filter(waits);
        let of_batch = self.queue.first_expiry(waiting, now);
        let of_queue = self.queue.next_expiry(now);
        of_batch.into_iter().chain(of_queue).min()
    }
}

impl<To: Copy + Eq> Drop for Batch<To> {
    fn drop(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let chunks = std::mem::take(&mut self.chunks);
        self.queue
            .locked(|state| state.give_back(&self.queue.limits, chunks));
    }
}
