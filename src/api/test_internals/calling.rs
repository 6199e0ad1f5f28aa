//! Calls and the send queue that they wait in, without a connection.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    CallError, CallStats, Config, GroupId, Incarnation, NodeId, SendStats,
    calls::{
        expire::Expire,
        pending::{CallLane, CallPeer, PendingCalls, Ticket},
        queued_call::QueuedCall,
    },
    lane::Lane,
    net::{
        clock::CoarseInstant,
        time::{self, Instant},
    },
    send::queue::{Limits, SendQueue, Terms},
    wire::{
        call::{self, CallFrame, CallId},
        frame,
    },
};

const LANE: CallLane = CallLane(7);
const HALF: Duration = Duration::from_millis(500);

/// Calls of one lane. Times are in seconds.
#[derive(Debug)]
pub struct Calling {
    calls: Arc<PendingCalls>,
    queue: Arc<SendQueue>,
    tickets: BTreeMap<u64, Ticket>,
    beginning: Instant,
}

/// How a call ended: with so many bytes of an answer, or without.
pub type Ended = Result<usize, CallError>;

impl Calling {
    /// Makes a queue for so many frames, and lets so many bytes of answers wait.
    pub fn new(frames: usize, answers: usize) -> Self {
        let config = Config::default().queue_frames(frames);
        let limits = Limits::of_lane(&config, Lane::NORMAL);
        Calling {
            calls: PendingCalls::new(answers, 0),
            queue: Arc::new(SendQueue::new(limits)),
            tickets: BTreeMap::new(),
            beginning: time::now(),
        }
    }

    fn at(&self, now: u64) -> Instant {
        self.beginning + Duration::from_secs(now)
    }

    /// Queues a call. Returns its number.
    pub fn call(&mut self, len: usize, limit: u64, now: u64) -> Result<u64, CallError> {
        let (at, left) = (self.at(now), Duration::from_secs(limit));
        let ticket = self.calls.begin(LANE, at, at + left, Waker::noop())?;
        let (id, group) = (ticket.id, GroupId::new(1));
        let terms = Terms {
            ttl: Some(left),
            call: Some(QueuedCall::new(self.calls.clone(), id, at + left)),
            ..Terms::default()
        };
        let head = CallFrame::Call { group, left }.encode(id);
        let frame = (group, (head, vec![0; len]));
        match self.queue.push_apart((), frame, terms, coarse(now)) {
            Ok(doorbell) => {
                drop(doorbell);
                self.tickets.insert(id.0, ticket);
                Ok(id.0)
            }
            Err(_) => Err(ticket.fail(CallError::Full)),
        }
    }

    /// Begins a link to a node that takes calls, or to one that takes none.
    pub fn link_begins(&mut self, node: Option<u64>) {
        self.queue.link_begins(None, node.map(peer));
    }

    /// Notes that no answers will come to what was sent on the link.
    pub fn link_ended(&mut self) {
        self.calls.link_ended(LANE, self.queue.link());
    }

    /// Notes that a dial has failed.
    pub fn unreachable(&mut self) {
        self.calls.unreachable(LANE, Duration::ZERO);
    }

    /// Takes what is next and writes it. Returns the number of each frame's call, and how many seconds are left for it,
    /// by the real clock, in which no time passes, or `None` if the frame says nothing.
    pub fn write(&mut self, now: u64) -> Vec<(u64, Option<u64>)> {
        let mut frames = Vec::new();
        let mut batch = self.queue.take(coarse(now)).batch;
        while let Some(batch) = batch.as_mut().filter(|batch| !batch.is_empty()) {
            // As far as no frames are missing.
            let mut slices = [std::io::IoSlice::new(&[]); 3 * 64];
            let filled = batch.slices(&mut slices, usize::MAX);
            let wire: Vec<_> = slices[..filled].iter().map(|slice| &slice[..]).collect();
            let wire = wire.concat();
            let mut at = 0;
            while at < wire.len() {
                let len = frame::len_at(&wire, at);
                let read = call::read(&wire[at..at + len]).expect("about a call");
                let left = match read.says {
                    // A little time has passed by the real clock.
                    CallFrame::Call { left, .. } => Some((left + HALF).as_secs()),
                    _ => None,
                };
                frames.push((read.id.0, left));
                at += len;
            }
            batch.advance(wire.len());
        }
        frames
    }

    /// Takes what is next, and loses it with the link.
    pub fn lose(&mut self, now: u64) {
        drop(self.queue.take(coarse(now)).batch);
    }

    /// Takes an answer of so many bytes.
    pub fn answer(&mut self, id: u64, node: u64, len: usize) {
        let answer = Ok(Bytes::from(vec![0; len]));
        self.calls.answer(CallId(id), peer(node), answer);
    }

    /// Ends the calls that are too late.
    pub fn expire(&mut self, now: u64) {
        self.calls.expire(self.at(now));
    }

    /// Returns how a call ended, once. `None` if it has not ended, or is not known.
    pub fn poll(&mut self, id: u64) -> Option<Ended> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.tickets.get_mut(&id)?.poll_ended(&mut cx) {
            Poll::Pending => None,
            Poll::Ready(ended) => {
                self.tickets.remove(&id);
                Some(ended.map(|answer| answer.len()))
            }
        }
    }

    /// Gives a call up. Returns whether its receiver should be told, or `None` if it is not known.
    pub fn give_up(&mut self, id: u64) -> Option<bool> {
        let mut ticket = self.tickets.remove(&id)?;
        let must_be_told = ticket.give_up();
        if !must_be_told {
            self.queue.withdraw(ticket.id);
        }
        Some(must_be_told)
    }

    /// Ends all calls.
    pub fn stop(&mut self) {
        self.calls.stop();
    }

    /// Returns the counters of calls.
    pub fn stats(&self) -> CallStats {
        self.calls.stats()
    }

    /// Returns the counters of the queue.
    pub fn frames(&self) -> SendStats {
        self.queue.stats()
    }
}

fn peer(node: u64) -> CallPeer {
    CallPeer {
        node: NodeId::new(node),
        incarnation: Incarnation::new(1),
    }
}

fn coarse(now: u64) -> CoarseInstant {
    CoarseInstant::from_millis(now * 1_000)
}
