//! Any operations on the send queue, with a clock of our own, and the same operations on a simple list
//! of frames. The same bytes must come out of both, every frame must be where the list says, and every
//! drop must be told exactly once.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
    time::Duration,
};

use actix_transport::{
    Config, Count, Dropped, GroupId, Overflow, QueueLimit, SendError, SendStats, Stats,
    test_internals::{Lent, Queue},
};

use super::script::Script;

const MAX_FRAME: usize = 9_000;
const STALE_AFTER: u64 = 50;

pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let shape = script.number();
    let config = Config::default()
        .queue_frames(1 + shape % 16)
        .queue_bytes(MAX_FRAME + 100 * (shape >> 4))
        .max_frame(MAX_FRAME)
        .stale_after(Duration::from_millis(STALE_AFTER))
        .overflow(match shape & 1 {
            0 => Overflow::RejectNewest,
            _ => Overflow::DropOldest,
        });
    let mut bench = Bench {
        queue: Queue::new(&config),
        list: List::new(config),
        lent: None,
        told: Dropped::default(),
        now: 0,
    };
    while let Some(step) = script.step() {
        bench.step(step, &mut script);
        bench.agrees();
        // The other steps are pushes and the clock, which do not change what is lent.
        if step % 16 >= 8 {
            bench.lent_agrees();
        }
    }
    bench.give_back();
    bench.agrees();
    bench.told += bench.queue.take_untold();
    assert_eq!(bench.told, bench.list.stats.dropped);
}

/// The queue, and the list that it is compared with.
struct Bench {
    queue: Queue,
    list: List,
    lent: Option<Lent>,
    /// Drops that the queue has told of.
    told: Dropped,
    now: u64,
}

impl Bench {
    fn step(&mut self, step: u8, script: &mut Script) {
        match step % 16 {
            0..4 => self.push(script.number()),
            4 => self.push(script.number() * 32),
            // Lengths around the one from which payloads are not copied, and around the longest frame.
            5 => self.push(8190 + script.number() % 8),
            6 => self.push(MAX_FRAME - 10 + script.number() % 8),
            7 => self.now += script.number() as u64 % 32,
            8 => self.take(),
            9 => self.advance(script.number()),
            10 => self.advance(script.number() * 64),
            11 => self.advance(usize::MAX),
            12 => self.give_back(),
            13 => self.expire(),
            14 => self.expire_lent(),
            _ => match script.number() {
                0 => {
                    self.queue.seal();
                    self.list.open = false;
                }
                1 => {
                    self.queue.close();
                    self.list.close();
                }
                2 => self.refuse_reserved(),
                _ => self.queue.trim(),
            },
        }
    }

    fn push(&mut self, len: usize) {
        let payload = vec![self.list.number as u8; len];
        let pushed = self
            .queue
            .push_at(GroupId::new(len as u32), payload, self.now);
        let pushed = pushed.map_err(|err| {
            let told = Refused::of(&err);
            assert_eq!(err.into_payload().len(), len);
            told
        });
        assert_eq!(pushed, self.list.push(len, self.now));
    }

    fn refuse_reserved(&mut self) {
        let refused = self.queue.push_at(GroupId::RESERVED, [1], self.now);
        assert!(refused.is_err());
        let frame = count(9);
        self.list.stats.offered += frame;
        match self.list.open {
            true => self.list.stats.rejected.invalid += frame,
            false => self.list.stats.rejected.stopped += frame,
        }
    }

    /// Takes a batch, unless one is lent: a queue lends one batch at a time.
    fn take(&mut self) {
        if self.lent.is_some() {
            return;
        }
        self.list.expire(self.now);
        let (lent, dropped) = self.queue.take_at(self.now);
        self.lent = lent;
        self.told += dropped;
        assert_eq!(self.lent.is_some(), !self.list.queued.is_empty());
        // The queue may take any number of frames at once.
        let frames = self.queue.stats().in_flight.frames as usize;
        self.list.lend(frames);
    }

    fn advance(&mut self, at_most: usize) {
        let Some(lent) = &mut self.lent else {
            return;
        };
        let n = lent.bytes().len().min(at_most);
        lent.advance(n);
        self.list.advance(n);
    }

    fn expire(&mut self) {
        self.told += self.queue.expire_at(self.now);
        self.list.expire(self.now);
    }

    fn expire_lent(&mut self) {
        if let Some(lent) = &mut self.lent {
            lent.expire_at(self.now);
            self.list.expire_lent(self.now);
        }
    }

    fn give_back(&mut self) {
        self.lent = None;
        self.list.give_back();
    }

    fn agrees(&self) {
        let tcp = self.queue.stats();
        assert_eq!(tcp, self.list.stats());
        let mut stats = Stats::default();
        stats.tcp = tcp;
        assert_eq!(stats.balance(), Ok(()));
        let ready = self
            .queue
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        assert_eq!(
            ready.is_ready(),
            !self.list.open || !self.list.queued.is_empty()
        );
    }

    fn lent_agrees(&self) {
        if let Some(lent) = &self.lent {
            let (bytes, expected) = (lent.bytes(), self.list.lent_bytes());
            assert!(expected.starts_with(&bytes));
            assert_eq!(bytes.is_empty(), expected.is_empty());
        }
    }
}

/// A frame in the list.
#[derive(Copy, Clone)]
struct Frame {
    number: usize,
    payload: usize,
    at: u64,
}

impl Frame {
    fn len(&self) -> usize {
        8 + self.payload
    }

    fn is_stale(&self, now: u64) -> bool {
        now - self.at >= STALE_AFTER
    }
}

#[derive(Debug, PartialEq)]
enum Refused {
    Frames,
    Bytes,
    TooLarge,
    Stopped,
}

impl Refused {
    fn of<P>(err: &SendError<P>) -> Self {
        match err {
            SendError::Full {
                limit: QueueLimit::Frames,
                ..
            } => Refused::Frames,
            SendError::Full {
                limit: QueueLimit::Bytes,
                ..
            } => Refused::Bytes,
            SendError::TooLarge { .. } => Refused::TooLarge,
            SendError::Stopped { .. } => Refused::Stopped,
            err => panic!("not for a queue: {err}"),
        }
    }
}

fn count(bytes: usize) -> Count {
    Count {
        frames: 1,
        bytes: bytes as u64,
    }
}

fn sum<'f>(frames: impl IntoIterator<Item = &'f Frame>) -> Count {
    frames.into_iter().map(|frame| count(frame.len())).sum()
}

/// A send queue as a plain list of frames.
struct List {
    config: Config,
    queued: VecDeque<Frame>,
    lent: VecDeque<Frame>,
    /// Bytes of the first lent frame that are written.
    cursor: usize,
    number: usize,
    open: bool,
    closed: bool,
    stats: SendStats,
}

impl List {
    fn new(config: Config) -> Self {
        List {
            config,
            queued: VecDeque::new(),
            lent: VecDeque::new(),
            cursor: 0,
            number: 0,
            open: true,
            closed: false,
            stats: SendStats::default(),
        }
    }

    fn stats(&self) -> SendStats {
        let mut stats = self.stats;
        stats.queued = sum(&self.queued);
        stats.in_flight = sum(&self.lent);
        stats
    }

    fn push(&mut self, payload: usize, at: u64) -> Result<(), Refused> {
        let frame = Frame {
            number: self.number,
            payload,
            at,
        };
        let len = count(frame.len());
        self.stats.offered += len;
        let admitted = self.admit(frame.len());
        let rejected = &mut self.stats.rejected;
        let counter = match admitted {
            Ok(()) => &mut self.stats.accepted,
            Err(Refused::Frames) => &mut rejected.full_frames,
            Err(Refused::Bytes) => &mut rejected.full_bytes,
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

    fn admit(&mut self, len: usize) -> Result<(), Refused> {
        if !self.open {
            return Err(Refused::Stopped);
        }
        if len > MAX_FRAME {
            return Err(Refused::TooLarge);
        }
        let keep = match self.config.overflow {
            Overflow::RejectNewest => sum(&self.queued),
            Overflow::DropOldest => sum([]),
        };
        // Nothing is evicted if that would not make room.
        self.has_room(len, keep + sum(&self.lent))?;
        while self
            .has_room(len, sum(self.queued.iter().chain(&self.lent)))
            .is_err()
        {
            let oldest = self.queued.pop_front().expect("has room when it is empty");
            self.stats.dropped.overflow += count(oldest.len());
        }
        Ok(())
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

    fn expire(&mut self, now: u64) {
        while self.queued.front().is_some_and(|frame| frame.is_stale(now)) {
            let frame = self.queued.pop_front().expect("looked at it");
            self.stats.dropped.stale += count(frame.len());
        }
    }

    fn lend(&mut self, frames: usize) {
        self.lent.extend(self.queued.drain(..frames));
    }

    fn advance(&mut self, n: usize) {
        self.cursor += n;
        while let Some(first) = self.lent.front()
            && self.cursor >= first.len()
        {
            self.cursor -= first.len();
            self.stats.written += count(first.len());
            self.lent.pop_front();
        }
    }

    fn expire_lent(&mut self, now: u64) {
        let mut begun = self.cursor > 0;
        let stale = &mut self.stats.dropped.stale;
        self.lent.retain(|frame| {
            let keep = std::mem::take(&mut begun) || !frame.is_stale(now);
            if !keep {
                *stale += count(frame.len());
            }
            keep
        });
    }

    fn give_back(&mut self) {
        self.cursor = 0;
        if self.closed {
            self.stats.dropped.stopped += sum(&self.lent);
            self.lent.clear();
        }
        while let Some(frame) = self.lent.pop_back() {
            self.queued.push_front(frame);
        }
    }

    fn close(&mut self) {
        (self.open, self.closed) = (false, true);
        self.stats.dropped.stopped += sum(&self.queued);
        self.queued.clear();
    }

    fn lent_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.lent {
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&(frame.payload as u32).to_le_bytes());
            bytes.resize(bytes.len() + frame.payload, frame.number as u8);
        }
        bytes.split_off(self.cursor.min(bytes.len()))
    }
}
