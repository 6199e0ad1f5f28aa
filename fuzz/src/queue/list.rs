//! A send queue that is a list of frames: simple enough to be seen to be right.
//!
//! Owns the rules of the queue a second time, without chunks, buffers, locks or wakers. It cannot know
//! how many frames the queue lends out at once, and is told.

use std::{collections::VecDeque, task::Poll};

use actix_transport::{Config, Count, Overflow, QueueLimit, SendError, SendStats};

use super::{MAX_FRAME, STALE_AFTER, group_of};

/// A queue that is a list of frames.
pub(super) struct List {
    pub(super) config: Config,
    pub(super) queued: VecDeque<Frame>,
    pub(super) lent: VecDeque<Frame>,
    /// Senders that wait, in the order of asking, and those who have been granted room.
    pub(super) line: Vec<InLine>,
    /// Bytes of the first one that are written.
    cursor: usize,
    pub(super) number: usize,
    pub(super) open: bool,
    closed: bool,
    pub(super) stats: SendStats,
}

impl List {
    pub(super) fn new(config: Config) -> Self {
        List {
            config,
            queued: VecDeque::new(),
            lent: VecDeque::new(),
            line: Vec::new(),
            cursor: 0,
            number: 0,
            open: true,
            closed: false,
            stats: SendStats::default(),
        }
    }

    pub(super) fn stats(&self) -> SendStats {
        let mut stats = self.stats;
        stats.queued = sum(&self.queued);
        stats.in_flight = sum(&self.lent);
        stats
    }

    pub(super) fn push(&mut self, payload: usize, at: u64) -> Result<(), Refused> {
        let frame = self.frame(payload, at);
        let admitted = self.admit(&frame);
        self.decide(frame, admitted)
    }

    /// Takes a frame that replaces the queued one with the same key, or with an age limit of its own.
    pub(super) fn push_apart(
        &mut self,
        payload: usize,
        key: Option<u64>,
        ttl: Option<u64>,
        at: u64,
    ) -> Result<(), Refused> {
        let frame = Frame {
            key: key.map(|key| (group_of(payload).get(), key)),
            age_limit: ttl.unwrap_or(STALE_AFTER),
            ..self.frame(payload, at)
        };
        let is_older = |queued: &Frame| frame.key.is_some() && queued.key == frame.key;
        let Some(place) = self.queued.iter().position(is_older) else {
            let admitted = self.admit(&frame);
            return self.decide(frame, admitted);
        };
        // It gives its room to the newer one, and gets it back if that is refused.
        let older = self.queued.remove(place).expect("it was found");
        let mut without = self.queued.clone();
        // One that is no longer needs no room.
        let admitted = match self.open && frame.len() <= older.len() {
            true => Ok(()),
            false => self.admit(&frame),
        };
        if admitted.is_err() {
            self.queued.insert(place, older);
            return self.decide(frame, admitted);
        }
        self.stats.dropped.replaced += count(older.len());
        let has_evicted = without.len() != self.queued.len();
        self.decide(frame, admitted)?;
        if !has_evicted {
            without.insert(place, *self.queued.back().expect("just put there"));
            self.queued = without;
        }
        self.grant();
        Ok(())
    }

    fn frame(&self, payload: usize, at: u64) -> Frame {
        Frame {
            number: self.number,
            payload,
            at,
            key: None,
            age_limit: STALE_AFTER,
        }
    }

    pub(super) fn push_wait(&mut self, payload: usize, at: u64) -> Poll<Result<(), Refused>> {
        let frame = self.frame(payload, at);
        match self.admit(&frame) {
            Err(Refused::Frames | Refused::Bytes | Refused::Share) => {
                self.number += 1;
                let (let_on, granted) = (false, false);
                self.line.push(InLine {
                    frame,
                    let_on,
                    granted,
                });
                self.grant();
                Poll::Pending
            }
            admitted => Poll::Ready(self.decide(frame, admitted)),
        }
    }

    pub(super) fn poll(&mut self, place: usize, at: u64) -> Poll<Result<(), Refused>> {
        if self.open && !self.line[place].granted {
            return Poll::Pending;
        }
        let frame = self.line.remove(place).frame;
        let admitted = match self.open {
            true => Ok(()),
            false => Err(Refused::Stopped),
        };
        let decided = self.decide(Frame { at, ..frame }, admitted);
        self.grant();
        Poll::Ready(decided)
    }

    pub(super) fn give_up(&mut self, place: usize) {
        self.line.remove(place);
        self.grant();
    }

    /// Grants room to those whose groups have room in their shares, the first of them first.
    fn grant(&mut self) {
        self.let_on();
        let in_line = |waits: &InLine| waits.let_on && !waits.granted;
        while self.open
            && let Some(place) = self.line.iter().position(in_line)
        {
            let len = self.line[place].frame.len();
            if self.has_room(len, self.used() + self.reserved()).is_err() && !self.evict_for(len) {
                return;
            }
            self.line[place].granted = true;
        }
    }

    fn decide(&mut self, frame: Frame, admitted: Result<(), Refused>) -> Result<(), Refused> {
        let len = count(frame.len());
        self.stats.offered += len;
        let rejected = &mut self.stats.rejected;
        let counter = match admitted {
            Ok(()) => &mut self.stats.accepted,
            Err(Refused::Frames) => &mut rejected.full_frames,
            Err(Refused::Bytes) => &mut rejected.full_bytes,
            Err(Refused::Share) => &mut rejected.full_share,
            Err(Refused::TooLarge) => &mut rejected.too_large,
            Err(Refused::Stopped) => &mut rejected.stopped,
        };
        *counter += len;
        if admitted.is_ok() {
            self.queued.push_back(frame);
            self.number += 1;
        }
        admitted
    }

    fn admit(&mut self, frame: &Frame) -> Result<(), Refused> {
        let len = frame.len();
        if !self.open {
            return Err(Refused::Stopped);
        }
        if len > MAX_FRAME {
            return Err(Refused::TooLarge);
        }
        let evicts_own = self.admit_to_share(frame)?;
        let in_line = self.line.iter().filter(|waits| waits.let_on);
        let requested = sum(in_line.map(|waits| &waits.frame));
        let full = self.has_room(len, self.used() + requested);
        let somebody_waits = self.line.iter().any(|waits| waits.let_on && !waits.granted);
        if full.is_err() {
            if somebody_waits || self.config.overflow == Overflow::RejectNewest {
                return full;
            }
            self.has_room(len, sum(&self.lent) + self.reserved())?;
        }
        if evicts_own {
            self.evict_own(frame);
        }
        assert!(full.is_ok() || self.evict_for(len));
        Ok(())
    }

    /// Drops the oldest until there is room. Drops none if that would not make room.
    fn evict_for(&mut self, len: usize) -> bool {
        let fixed = sum(&self.lent) + self.reserved();
        if self.config.overflow == Overflow::RejectNewest || self.has_room(len, fixed).is_err() {
            return false;
        }
        while self.has_room(len, self.used() + self.reserved()).is_err() {
            let oldest = self.queued.pop_front().expect("has room when it is empty");
            self.stats.dropped.overflow += count(oldest.len());
        }
        true
    }

    fn used(&self) -> Count {
        sum(self.queued.iter().chain(&self.lent))
    }

    fn reserved(&self) -> Count {
        let granted = self.line.iter().filter(|waits| waits.granted);
        sum(granted.map(|waits| &waits.frame))
    }

    fn has_room(&self, len: usize, used: Count) -> Result<(), Refused> {
        if used.frames as usize >= self.config.queue_frames {
            return Err(Refused::Frames);
        }
        if used.bytes as usize + len > self.config.queue_bytes {
            return Err(Refused::Bytes);
        }
        Ok(())
    }

    pub(super) fn expire(&mut self, now: u64) {
        let stale = &mut self.stats.dropped.stale;
        self.queued.retain(|frame| {
            let keep = !frame.is_stale(now);
            if !keep {
                *stale += count(frame.len());
            }
            keep
        });
        self.grant();
    }

    pub(super) fn lend(&mut self, frames: usize) {
        self.lent.extend(self.queued.drain(..frames));
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.cursor += n;
        while let Some(first) = self.lent.front()
            && self.cursor >= first.len()
        {
            self.cursor -= first.len();
            self.stats.written += count(first.len());
            self.lent.pop_front();
        }
        self.grant();
    }

    pub(super) fn expire_lent(&mut self, now: u64) {
        let mut begun = self.cursor > 0;
        let stale = &mut self.stats.dropped.stale;
        self.lent.retain(|frame| {
            let keep = std::mem::take(&mut begun) || !frame.is_stale(now);
            if !keep {
                *stale += count(frame.len());
            }
            keep
        });
        self.grant();
    }

    pub(super) fn give_back(&mut self) {
        self.cursor = 0;
        if self.closed {
            self.stats.dropped.stopped += sum(&self.lent);
            self.lent.clear();
        }
        let newer: Vec<_> = self.queued.iter().filter_map(|frame| frame.key).collect();
        while let Some(frame) = self.lent.pop_back() {
            if frame.key.is_some_and(|key| newer.contains(&key)) {
                self.stats.dropped.replaced += count(frame.len());
                continue;
            }
            self.queued.push_front(frame);
        }
        self.grant();
    }

    pub(super) fn close(&mut self) {
        (self.open, self.closed) = (false, true);
        self.stats.dropped.stopped += sum(&self.queued);
        self.queued.clear();
    }

    pub(super) fn lent_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.lent {
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&frame.group().to_le_bytes());
            bytes.resize(bytes.len() + frame.payload, frame.number as u8);
        }
        bytes.split_off(self.cursor.min(bytes.len()))
    }
}

/// A sender that waits, or has been granted room and not used it yet.
pub(super) struct InLine {
    pub(super) frame: Frame,
    /// Whether its group's share has room for it.
    pub(super) let_on: bool,
    granted: bool,
}

/// A frame in the list.
#[derive(Copy, Clone)]
pub(super) struct Frame {
    number: usize,
    pub(super) payload: usize,
    at: u64,
    /// Its group, and what its sender calls it by.
    key: Option<(u32, u64)>,
    age_limit: u64,
}

impl Frame {
    pub(super) fn len(&self) -> usize {
        8 + self.payload
    }

    pub(super) fn group(&self) -> u32 {
        group_of(self.payload).get()
    }

    fn is_stale(&self, now: u64) -> bool {
        now - self.at >= self.age_limit
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    Frames,
    Bytes,
    Share,
    TooLarge,
    Stopped,
}

impl Refused {
    /// Says why a payload of `len` bytes was refused. It must have come back.
    pub(super) fn of(err: SendError<Vec<u8>>, len: usize) -> Self {
        let told = match &err {
            SendError::Full {
                limit: QueueLimit::Frames,
                ..
            } => Refused::Frames,
            SendError::Full {
                limit: QueueLimit::Bytes,
                ..
            } => Refused::Bytes,
            SendError::Full {
                limit: QueueLimit::GroupShare,
                ..
            } => Refused::Share,
            SendError::TooLarge { .. } => Refused::TooLarge,
            SendError::Stopped { .. } => Refused::Stopped,
            err => panic!("not for a queue: {err}"),
        };
        assert_eq!(err.into_payload().len(), len);
        told
    }
}

pub(super) fn count(bytes: usize) -> Count {
    Count {
        frames: 1,
        bytes: bytes as u64,
    }
}

pub(super) fn sum<'f>(frames: impl IntoIterator<Item = &'f Frame>) -> Count {
    frames.into_iter().map(|frame| count(frame.len())).sum()
}
