//! What has been taken from the queue to be written, and how far the kernel has taken it.

use std::{collections::VecDeque, io::IoSlice, sync::Arc, time::Duration};

use super::{Gate, SendQueue, ring, run::Run};
use crate::{net::clock::CoarseInstant, wire::count::Count};

/// What the writer has in its hands: runs lent by the queue, and how far the kernel has taken them.
///
/// Dropped before it is written, for whatever reason, the rest goes back to the front of the queue.
/// A frame of which the kernel took a part cannot have been received, so it goes back whole; one
/// that the kernel took whole is gone from here for good. A batch must therefore not outlive the
/// link it was being written to, except by being dropped.
pub(crate) struct Batch<To: Copy + Eq = ()> {
    queue: Arc<SendQueue<To>>,
    runs: VecDeque<Run<To>>,
    /// Bytes of the first run's first frame that are written.
    cursor: usize,
}

/// Datagrams that are sent together, at most.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Together {
    pub(crate) number: usize,
    /// Bytes of each; longer ones go alone.
    pub(crate) each: usize,
    pub(crate) bytes: usize,
}

/// Datagrams to be sent together.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Datagrams<To> {
    pub(crate) to: To,
    /// Bytes of each but the last.
    pub(crate) each: usize,
    pub(crate) number: usize,
}

impl<To: Copy + Eq> Batch<To> {
    /// Of runs that the queue has just counted as in flight.
    pub(super) fn new(queue: Arc<SendQueue<To>>, runs: VecDeque<Run<To>>) -> Self {
        Batch {
            queue,
            runs,
            cursor: 0,
        }
    }

    /// What is in hand, the part written of a frame included.
    pub(crate) fn count(&self) -> Count {
        self.runs.iter().map(Run::count).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Fills `slices` with what is to be written next; says how many it filled.
    pub(crate) fn slices<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let mut filled = 0;
        let mut skip = self.cursor;
        for run in &self.runs {
            for part in run.parts() {
                let skipped = skip.min(part.len());
                skip -= skipped;
                let part = &part[skipped..];
                if part.is_empty() {
                    continue;
                }
                if filled == slices.len() {
                    return filled;
                }
                slices[filled] = IoSlice::new(part);
                filled += 1;
            }
        }
        filled
    }

    /// Notes that the kernel took `n` bytes more.
    pub(crate) fn advance(&mut self, n: usize) {
        self.cursor += n;
        let mut done = Count::ZERO;
        let mut state = self.queue.state.lock();
        while let Some(run) = self.runs.front_mut() {
            let count = run.count();
            if self.cursor < count.bytes as usize {
                done += run.pop_frames(&mut self.cursor);
                break;
            }
            self.cursor -= count.bytes as usize;
            done += count;
            state.recycle(self.runs.pop_front().expect("looked at it"));
        }
        state.counters.in_flight -= done;
        state.counters.written += done;
        let bells = state.room_bells();
        ring(state, bells);
    }

    /// Drops what went stale while the link did not take it. A frame that is partly written stays:
    /// without its rest the stream would be broken.
    pub(crate) fn expire(&mut self, now: CoarseInstant) {
        let mut stale = Count::ZERO;
        let mut first = true;
        let (queue, cursor) = (&self.queue, self.cursor);
        let mut trash = Vec::new();
        for mut run in std::mem::take(&mut self.runs) {
            let begun = std::mem::take(&mut first) && cursor > 0;
            if !queue.is_stale(&run, now) {
                self.runs.push_back(run);
            } else if begun {
                stale += run.keep_first_frame();
                self.runs.push_back(run);
            } else {
                stale += run.count();
                trash.push(run);
            }
        }
        let mut state = self.queue.state.lock();
        state.counters.in_flight -= stale;
        state.drop_stale(stale);
        state.trash.append(&mut trash);
        let bells = state.room_bells();
        ring(state, bells);
    }

    /// How long until the oldest frame in hand, or else in the queue, is stale.
    pub(crate) fn next_expiry(&self, now: CoarseInstant) -> Option<Duration> {
        // The run being written may hold one frame that must be finished and never expires.
        let waiting = self.runs.iter().find(|run| !self.queue.is_stale(run, now));
        match self.queue.expiry_of(waiting, now) {
            Some(expiry) => Some(expiry),
            None => self.queue.next_expiry(now),
        }
    }

    /// Puts the first frames into `contents` as they go into datagrams that are sent together: to
    /// the same place and of the same length, but for the last, which may be shorter. None when
    /// nothing is in hand.
    pub(crate) fn datagrams(
        &self,
        contents: &mut Vec<u8>,
        limits: &Together,
    ) -> Option<Datagrams<To>> {
        contents.clear();
        let run = self.runs.front()?;
        let mut found = Datagrams {
            to: run.to,
            each: 0,
            number: 0,
        };
        for frame in run.datagrams().take(limits.number) {
            if found.number == 0 {
                found.each = frame.len();
            } else if frame.len() > found.each
                || found.each > limits.each
                || contents.len() + frame.len() > limits.bytes
            {
                break;
            }
            contents.extend_from_slice(frame);
            found.number += 1;
            if frame.len() < found.each {
                break;
            }
        }
        Some(found)
    }

    /// Notes that the kernel took the first `number` frames, which are of one run, or will never
    /// take them.
    pub(crate) fn finish_datagrams(&mut self, number: usize, sent: bool) {
        let Some(run) = self.runs.front_mut() else {
            return;
        };
        let frame: Count = (0..number).map(|_| run.pop_frame()).sum();
        let emptied = match run.frames {
            0 => self.runs.pop_front(),
            _ => None,
        };
        let mut state = self.queue.state.lock();
        emptied.into_iter().for_each(|run| state.recycle(run));
        state.counters.in_flight -= frame;
        if sent {
            state.counters.written += frame;
        } else {
            state.counters.dropped.failed += frame;
            state.untold.failed += frame;
        }
        let bells = state.room_bells();
        ring(state, bells);
    }
}

impl<To: Copy + Eq> Drop for Batch<To> {
    fn drop(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let mut state = self.queue.state.lock();
        let left = self.count();
        state.counters.in_flight -= left;
        if state.gate == Gate::Closed {
            state.counters.dropped.stopped += left;
            state.untold.stopped += left;
            state.trash.extend(self.runs.drain(..));
        } else {
            state.counters.queued += left;
            while let Some(run) = self.runs.pop_back() {
                state.runs.push_front(run);
            }
        }
        let bells = state.room_bells();
        ring(state, bells);
    }
}
