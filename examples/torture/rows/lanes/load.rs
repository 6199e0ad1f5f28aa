//! What a sender sends: numbered frames on the normal lane, heartbeats that replace each other on the control lane,
//! and numbered frames and large messages on the bulk lane.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use actix_transport::{GroupId, Lane, Peer, SendError};
use serde_json::{Value, json};

use super::{
    log::{KEYS, MESSAGES, beat_group, bulk_group, normal_group},
    message::{LONGEST, MessageId, draw_len},
};
use crate::{row::Failure, sink::print_line, stamp::Stamp};

const MS: Duration = Duration::from_millis(1);

/// Tasks that send large messages.
const TASKS: u32 = 2;

/// Frames on the normal lane in a millisecond, at most.
const PACE: u64 = 60;

/// How many milliseconds a rate lasts.
const PHASE: u64 = 128;

/// Frames of a burst. The queue of the normal lane takes a part of them.
const BURST: u64 = 10_000;

/// The lanes in use, in the order of their numbers.
pub(super) const LANES: [Lane; 3] = [Lane::NORMAL, Lane::CONTROL, Lane::BULK];

/// The traffic of a sender. Cheap to clone; all clones share one.
#[derive(Clone)]
pub(super) struct Load(Rc<Inner>);

struct Inner {
    sender: u32,
    incarnation: u32,
    lanes: [Peer; 3],
    /// How many of the frames were accepted on each lane, without parts: the next sequences.
    next: [Cell<u64>; 3],
    next_message: Cell<u64>,
    /// Messages that are being sent.
    sending: Cell<u32>,
    is_on: Cell<bool>,
    draw: RefCell<fastrand::Rng>,
    ticks: Cell<u64>,
    rate: Cell<u64>,
}

impl Load {
    /// Makes it, with the tasks that send large messages while it is on.
    pub(super) fn start(peer: &Peer, sender: u32, incarnation: u32, seed: u64) -> Self {
        let load = Load(Rc::new(Inner {
            sender,
            incarnation,
            lanes: LANES.map(|lane| peer.lane(lane)),
            next: Default::default(),
            next_message: Cell::new(0),
            sending: Cell::new(0),
            is_on: Cell::new(false),
            draw: RefCell::new(fastrand::Rng::with_seed(seed)),
            ticks: Cell::new(0),
            rate: Cell::new(PACE),
        }));
        for task in 0..TASKS {
            let load = load.clone();
            actix::spawn(async move { load.send_messages(GroupId::new(MESSAGES + task)).await });
        }
        load
    }

    pub(super) fn set_on(&self, on: bool) {
        self.0.is_on.set(on);
    }

    /// Offers what is due in a millisecond.
    pub(super) fn tick(&self) -> Result<(), Failure> {
        if !self.0.is_on.get() {
            return Ok(());
        }
        let ticks = self.0.ticks.get();
        self.0.ticks.set(ticks + 1);
        if ticks.is_multiple_of(PHASE) {
            self.0.rate.set(self.0.draw.borrow_mut().u64(1..=PACE));
        }
        for _ in 0..self.0.rate.get() {
            self.normal()?;
        }
        self.bulk()?;
        self.beats()
    }

    /// Sends one frame on each lane, and a heartbeat of each key.
    pub(super) fn one(&self) -> Result<(), Failure> {
        self.normal()?;
        self.bulk()?;
        self.beats()
    }

    /// Offers more to the normal lane than its queue takes.
    pub(super) fn burst(&self) -> Result<(), Failure> {
        (0..BURST).try_for_each(|_| self.normal())
    }

    fn normal(&self) -> Result<(), Failure> {
        let (group, payload) = self.frame(0, normal_group);
        self.note(0, self.0.lanes[0].try_send(group, payload))
    }

    fn bulk(&self) -> Result<(), Failure> {
        let (group, payload) = self.frame(2, bulk_group);
        self.note(2, self.0.lanes[2].try_send(group, payload))
    }

    fn beats(&self) -> Result<(), Failure> {
        for _ in 0..KEYS {
            let (group, payload) = self.frame(1, beat_group);
            let key = self.0.next[1].get() % KEYS;
            self.note(1, self.0.lanes[1].try_send_latest(group, key, payload))?;
        }
        Ok(())
    }

    fn frame(&self, lane: usize, group: fn(u64) -> u32) -> (GroupId, Vec<u8>) {
        const LENGTHS: [usize; 4] = [40, 72, 200, 1_000];

        let sequence = self.0.next[lane].get();
        let stamp = Stamp {
            sender: self.0.sender,
            incarnation: self.0.incarnation,
            group: group(sequence),
            sequence,
        };
        let payload = stamp.payload(LENGTHS[sequence as usize % 7 % 4]);
        (GroupId::new(stamp.group), payload)
    }

    fn note<P>(&self, lane: usize, sent: Result<(), SendError<P>>) -> Result<(), Failure> {
        match sent {
            Ok(()) => self.0.next[lane].set(self.0.next[lane].get() + 1),
            Err(SendError::Full { .. }) => {}
            Err(err) => return Err(Failure::error(err.to_string())),
        }
        Ok(())
    }

    // ---- large messages ----------------------------------------------------------------------------

    async fn send_messages(&self, group: GroupId) {
        loop {
            if self.0.is_on.get() {
                let (len, cancel_after) = {
                    let mut draw = self.0.draw.borrow_mut();
                    let cancel = (draw.u32(..8) == 0).then(|| MS * draw.u32(..40));
                    (draw_len(&mut draw), cancel)
                };
                let until = async {
                    match cancel_after {
                        Some(time) => tokio::time::sleep(time).await,
                        None => std::future::pending().await,
                    }
                };
                self.send_message(group, len, until).await;
            }
            tokio::time::sleep(MS).await;
        }
    }

    /// Sends the longest message, and cancels it when some of it is written and most of it is not.
    pub(super) async fn send_half(&self) {
        let written = || self.0.lanes[2].stats().frames.written.frames;
        let before = written();
        let some = async {
            while written() < before + 10 {
                tokio::task::yield_now().await;
            }
        };
        self.send_message(GroupId::new(MESSAGES), LONGEST, some)
            .await;
    }

    /// Sends a message unless `cancel` is over first, and prints what became of it.
    async fn send_message(&self, group: GroupId, len: usize, cancel: impl Future<Output = ()>) {
        let bulk = &self.0.lanes[2];
        let id = MessageId {
            sender: self.0.sender,
            incarnation: self.0.incarnation,
            number: self.0.next_message.get(),
        };
        self.0.next_message.set(id.number + 1);
        self.0.sending.set(self.0.sending.get() + 1);
        let before = bulk.stats().epoch;
        let outcome = tokio::select! {
            biased;
            sent = bulk.send_large(group, id.payload(len)) => match sent {
                Ok(()) => "ok".into(),
                Err(err) => format!("error {err}"),
            },
            () = cancel => "cancelled".into(),
        };
        let behind = bulk.stats().epoch;
        self.0.sending.set(self.0.sending.get() - 1);
        let number = id.number;
        // It cannot print only if the row has ended.
        let _ = print_line(format!("sent {number} {before} {behind} {outcome}"));
    }

    // ---- what the row is told ----------------------------------------------------------------------

    pub(super) fn to_json(&self) -> Value {
        let lanes = self.0.lanes.iter().map(|peer| {
            let stats = peer.stats();
            let frames = stats.frames;
            json!([
                frames.accepted.frames,
                frames.written.frames,
                frames.dropped.stale.frames,
                frames.dropped.overflow.frames,
                frames.dropped.replaced.frames,
                frames.dropped.total().frames,
                (frames.queued + frames.in_flight).frames,
                stats.epoch,
                u64::from(stats.connected),
            ])
        });
        let next = self.0.next.each_ref().map(Cell::get);
        json!({
            "lanes": lanes.collect::<Vec<_>>(),
            "next": next,
            "sending": self.0.sending.get(),
        })
    }
}
