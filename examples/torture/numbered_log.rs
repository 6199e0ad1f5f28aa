//! What a node with an identity received, by sender and incarnation, and what the transport told it of missing
//! frames. A child process sends it to the row as one line of JSON.
//!
//! The sequence of a frame counts the frames from its sender to this node, over all groups. So a group of a
//! sender gets every [`GROUPS`]th sequence, and a jump in them shows missing frames without any word of the
//! transport.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Gap, Inbound, PeerEvent};
use serde_json::{Value, json};

use crate::{row::Failure, stamp::Stamp};

/// Groups of each node. Group `GROUPS * node + n` belongs to the node, so a frame shows whom it is meant for.
pub(crate) const GROUPS: u64 = 4;

/// Returns the group of a frame for this node.
pub(crate) fn group_for(node: u32, sequence: u64) -> u32 {
    node * GROUPS as u32 + (sequence % GROUPS) as u32
}

/// A log of received frames. Cheap to clone; all clones share one log.
#[derive(Clone, Default)]
pub(crate) struct NumberedLog(Arc<Mutex<Numbered>>);

#[derive(Default)]
pub(crate) struct Numbered {
    /// By sender and incarnation.
    pub(crate) lives: BTreeMap<(u32, u32), Life>,
    pub(crate) faults: Faults,
    /// Batches that were marked as the first behind missing frames.
    pub(crate) marked: u64,
    /// Batches that begin behind a jump.
    pub(crate) jumps: u64,
    /// The last sequence of each group of each life.
    last: BTreeMap<(u32, u32, u32), u64>,
    /// The latest incarnation of each sender.
    latest: BTreeMap<u32, u32>,
}

/// What came from one life of a sender.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct Life {
    pub(crate) frames: u64,
    /// The lowest sequence.
    pub(crate) first: u64,
    /// The highest sequence.
    pub(crate) last: u64,
    /// Missing frames, according to the events.
    pub(crate) missing: u64,
}

/// What must not happen, with how often it did.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct Faults {
    pub(crate) corrupt: u64,
    /// Frames for another node.
    pub(crate) misdirected: u64,
    /// Frames whose session belongs to another node, or another life, than their stamp says.
    pub(crate) impostors: u64,
    /// Frames that came after a later one of their group, or twice.
    pub(crate) reordered: u64,
    /// Frames of an older incarnation after one of a newer.
    pub(crate) outdated: u64,
    /// Batches behind a jump, or behind the first contact, that were not marked; and jumps within a batch.
    pub(crate) unmarked: u64,
    /// Events that were lost.
    pub(crate) missed_events: u64,
}

const FAULTS: [&str; 7] = [
    "corrupt",
    "for another node",
    "from another node than the session's",
    "duplicate or reordered",
    "of an older incarnation after a newer",
    "behind a gap and not marked",
    "events missed",
];

impl Faults {
    fn as_array(self) -> [u64; 7] {
        [
            self.corrupt,
            self.misdirected,
            self.impostors,
            self.reordered,
            self.outdated,
            self.unmarked,
            self.missed_events,
        ]
    }

    fn from_array(
        [
            corrupt,
            misdirected,
            impostors,
            reordered,
            outdated,
            unmarked,
            missed_events,
        ]: [u64; 7],
    ) -> Self {
        Faults {
            corrupt,
            misdirected,
            impostors,
            reordered,
            outdated,
            unmarked,
            missed_events,
        }
    }

    /// Adds those that another node found.
    pub(crate) fn add(&mut self, other: Faults) {
        let sum = self.as_array().into_iter().zip(other.as_array());
        let mut sum = sum.map(|(one, other)| one + other);
        *self = Faults::from_array([(); 7].map(|()| sum.next().expect("seven")));
    }

    /// Describes the faults, or returns `None` if there are none.
    pub(crate) fn describe(self) -> Option<String> {
        let found = FAULTS.into_iter().zip(self.as_array());
        let found: Vec<_> = found
            .filter(|(_, number)| *number > 0)
            .map(|(what, number)| format!("{number} {what}"))
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

impl NumberedLog {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Starts an actor that records frames for `node` and events here. It calls `on_new_life` at the first
    /// frame of each life of a sender.
    pub(crate) fn recorder(
        &self,
        node: u32,
        on_new_life: impl FnMut(u32, u32) + Unpin + 'static,
    ) -> Addr<Recorder> {
        let recorder = Recorder {
            log: self.clone(),
            node,
            on_new_life: Box::new(on_new_life),
        };
        recorder.start()
    }
}

impl Numbered {
    /// Records the frames of a batch. Returns a life of a sender that was not seen before.
    fn note(&mut self, node: u32, mut inbound: Inbound) -> Option<(u32, u32)> {
        let (group, mut gap) = (inbound.group().get(), inbound.gap());
        let sender = inbound.sender();
        let session = sender.map(|sender| (sender.node().get(), sender.incarnation().get()));
        self.marked += u64::from(gap == Some(Gap::Lost));
        let mut new = None;
        while let Some(payload) = inbound.next_slice() {
            let gap = gap.take();
            let Some(stamp) = Stamp::check(payload) else {
                self.faults.corrupt += 1;
                continue;
            };
            let (sender, incarnation) = (stamp.sender, stamp.incarnation);
            let misdirected = stamp.group != group || group != group_for(node, stamp.sequence);
            let claims = Some((u64::from(sender), u64::from(incarnation)));
            self.faults.misdirected += u64::from(misdirected);
            self.faults.impostors += u64::from(claims != session);
            if self.note_frame(stamp, gap) {
                new = Some((sender, incarnation));
            }
        }
        new
    }

    /// Records a frame. `gap` is what its batch said, if it is the first of the batch. Returns whether it is
    /// the first of its sender's life.
    fn note_frame(&mut self, stamp: Stamp, gap: Option<Gap>) -> bool {
        let (life, sequence) = ((stamp.sender, stamp.incarnation), stamp.sequence);
        let latest = self.latest.entry(stamp.sender).or_default();
        self.faults.outdated += u64::from(*latest > stamp.incarnation);
        *latest = stamp.incarnation.max(*latest);
        let group = (stamp.sender, stamp.incarnation, stamp.group);
        let expected = match self.last.insert(group, sequence) {
            None => Some(Gap::FirstContact),
            Some(last) => {
                self.faults.reordered += u64::from(sequence <= last);
                (sequence > last + GROUPS).then_some(Gap::Lost)
            }
        };
        // The gap may be in frames for other groups, so a batch may be marked and show no jump.
        if let Some(expected) = expected {
            self.faults.unmarked += u64::from(gap != Some(expected));
            self.jumps += u64::from(expected == Gap::Lost);
        }
        let seen = self.lives.entry(life).or_default();
        seen.frames += 1;
        seen.last = seen.last.max(sequence);
        if seen.frames == 1 || sequence < seen.first {
            seen.first = sequence;
        }
        seen.frames == 1
    }

    /// Returns the log as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let lives = self.lives.iter().map(|((sender, incarnation), life)| {
            let Life {
                frames,
                first,
                last,
                missing,
            } = life;
            json!([sender, incarnation, frames, first, last, missing])
        });
        json!({
            "lives": lives.collect::<Vec<_>>(),
            "faults": self.faults.as_array(),
            "marked": self.marked,
            "jumps": self.jumps,
        })
    }

    /// Parses such JSON.
    pub(crate) fn parse(mut value: Value) -> Result<Numbered, Failure> {
        type Row = (u32, u32, u64, u64, u64, u64);
        let lives: Vec<Row> = serde_json::from_value(value["lives"].take())?;
        let lives = lives
            .into_iter()
            .map(|(sender, incarnation, frames, first, last, missing)| {
                let life = Life {
                    frames,
                    first,
                    last,
                    missing,
                };
                ((sender, incarnation), life)
            });
        Ok(Numbered {
            lives: lives.collect(),
            faults: Faults::from_array(serde_json::from_value(value["faults"].take())?),
            marked: serde_json::from_value(value["marked"].take())?,
            jumps: serde_json::from_value(value["jumps"].take())?,
            ..Numbered::default()
        })
    }
}

/// Records frames and events.
pub(crate) struct Recorder {
    log: NumberedLog,
    node: u32,
    on_new_life: Box<dyn FnMut(u32, u32)>,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Recorder {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let new = self.log.lock().note(self.node, inbound);
        if let Some((sender, incarnation)) = new {
            (self.on_new_life)(sender, incarnation);
        }
    }
}

impl Handler<PeerEvent> for Recorder {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let mut log = self.log.lock();
        match event {
            PeerEvent::Gap {
                node,
                incarnation,
                lost,
                ..
            } => {
                let life = (node.get() as u32, incarnation.get() as u32);
                log.lives.entry(life).or_default().missing += lost;
            }
            PeerEvent::Missed { events } => log.faults.missed_events += events,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
