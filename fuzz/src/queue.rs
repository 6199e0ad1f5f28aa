//! Any operations on the send queue, with a clock of our own, and the same operations on a simple list
//! of frames. The same bytes must come out of both, every frame must be where the list says, and every
//! drop must be told exactly once.

mod list;
mod shares;

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_transport::{
    Config, Dropped, GroupId, Overflow, SendError, Stats,
    test_internals::{Lent, Queue},
};

use self::list::{List, Refused, count};
use super::script::Script;

const MAX_FRAME: usize = 9_000;
const STALE_AFTER: u64 = 50;

/// What one group may have of the queue: all of it in half of the runs.
const SHARES: [f64; 6] = [1.0, 1.0, 1.0, 0.5, 0.2, 1e-9];

/// Frames are of few groups, so that groups have several frames.
const GROUPS: usize = 3;

/// Returns the group of frames with payloads of this length.
fn group_of(len: usize) -> GroupId {
    GroupId::new((len % GROUPS) as u32)
}

/// Senders that wait at the same time.
const WAITERS: usize = 6;

pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let (shape, share) = (script.number(), script.number());
    let config = Config::default()
        .queue_frames(1 + shape % 16)
        .queue_bytes(MAX_FRAME + 100 * (shape >> 4))
        .max_frame(MAX_FRAME)
        .stale_after(Duration::from_millis(STALE_AFTER))
        .overflow(match shape & 1 {
            0 => Overflow::RejectNewest,
            _ => Overflow::DropOldest,
        })
        .group_share(SHARES[share % SHARES.len()]);
    let mut bench = Bench {
        queue: Queue::new(&config),
        list: List::new(config),
        lent: None,
        waiting: Vec::new(),
        told: Dropped::default(),
        now: Rc::default(),
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
    while !bench.waiting.is_empty() {
        bench.give_up(0);
        bench.agrees();
    }
    bench.told += bench.queue.take_untold();
    assert_eq!(bench.told, bench.list.stats.dropped);
}

/// The queue, and what it should be like.
struct Bench {
    queue: Queue,
    list: List,
    lent: Option<Lent>,
    /// In the order of the list's line.
    waiting: Vec<Waiting>,
    /// Drops that the queue has told of.
    told: Dropped,
    now: Rc<Cell<u64>>,
}

/// A send that waits for room.
type Waiting = Pin<Box<dyn Future<Output = Result<(), SendError<Vec<u8>>>>>>;

impl Bench {
    fn step(&mut self, step: u8, script: &mut Script) {
        match step % 16 {
            0..4 => self.push(script.number()),
            4 => self.push(script.number() * 32),
            // Lengths around the one from which payloads are not copied, and around the longest frame.
            5 => self.push(8190 + script.number() % 8),
            6 => self.push(MAX_FRAME - 10 + script.number() % 8),
            7 => self.now.set(self.now() + script.number() as u64 % 32),
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
                number @ 3..40 => self.push_wait(number * number * 8),
                number @ 40..70 => self.poll(number),
                number @ 70..90 => self.give_up(number),
                number @ 90..170 => self.push_apart(number, script.number()),
                _ => self.queue.trim(),
            },
        }
    }

    fn push(&mut self, len: usize) {
        let payload = vec![self.list.number as u8; len];
        let pushed = self.queue.push_at(group_of(len), payload, self.now());
        let pushed = pushed.map_err(|err| Refused::of(err, len));
        assert_eq!(pushed, self.list.push(len, self.now()));
    }

    /// Half of these have a key, and some of them an age limit.
    fn push_apart(&mut self, number: usize, shape: usize) {
        // Few groups and keys, so that they meet again, with frames of other lengths.
        let len = [3, 3, 3, 9, 700, MAX_FRAME - 8][number % 6];
        let key = shape.is_multiple_of(2).then_some(shape as u64 / 2 % 3);
        let ttl = (shape as u64).checked_sub(128);
        let payload = vec![self.list.number as u8; len];
        let frame = (group_of(len), payload);
        let pushed = self.queue.push_apart_at(frame, key, ttl, self.now());
        let pushed = pushed.map_err(|err| Refused::of(err, len));
        assert_eq!(pushed, self.list.push_apart(len, key, ttl, self.now()));
    }

    fn push_wait(&mut self, len: usize) {
        if self.waiting.len() == WAITERS {
            return;
        }
        let (payload, now) = (vec![self.list.number as u8; len], self.now.clone());
        let group = group_of(len);
        let mut pushing: Waiting =
            Box::pin(self.queue.push_wait_at(group, payload, move || now.get()));
        let polled = poll(&mut pushing, len);
        assert_eq!(polled, self.list.push_wait(len, self.now()));
        if polled.is_pending() {
            self.waiting.push(pushing);
        }
    }

    /// Polls one of those that wait.
    fn poll(&mut self, number: usize) {
        let Some(place) = number.checked_rem(self.waiting.len()) else {
            return;
        };
        let len = self.list.line[place].frame.payload;
        let polled = poll(&mut self.waiting[place], len);
        assert_eq!(polled, self.list.poll(place, self.now()));
        if polled.is_ready() {
            drop(self.waiting.remove(place));
        }
    }

    /// Drops one of those that wait.
    fn give_up(&mut self, number: usize) {
        if let Some(place) = number.checked_rem(self.waiting.len()) {
            drop(self.waiting.remove(place));
            self.list.give_up(place);
        }
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn refuse_reserved(&mut self) {
        let refused = self.queue.push_at(GroupId::RESERVED, [1], self.now());
        assert!(refused.is_err());
        let frame = count(9);
        self.list.stats.offered += frame;
        match self.list.open {
            true => self.list.stats.rejected.invalid += frame,
            false => self.list.stats.rejected.stopped += frame,
        }
    }

    /// A queue lends out one batch at a time.
    fn take(&mut self) {
        if self.lent.is_some() {
            return;
        }
        self.list.expire(self.now());
        let (lent, dropped) = self.queue.take_at(self.now());
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
        self.told += self.queue.expire_at(self.now());
        self.list.expire(self.now());
    }

    fn expire_lent(&mut self) {
        if let Some(lent) = &mut self.lent {
            lent.expire_at(self.now.get());
            self.list.expire_lent(self.now.get());
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
        stats.udp = tcp;
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

fn poll(pushing: &mut Waiting, len: usize) -> Poll<Result<(), Refused>> {
    let mut cx = Context::from_waker(Waker::noop());
    let polled = pushing.as_mut().poll(&mut cx);
    polled.map_err(|err| Refused::of(err, len))
}
