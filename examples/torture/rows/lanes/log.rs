//! What the receiver got, by sender, incarnation and lane, and what the transport told it of missing frames.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Gap, Inbound, Lane, PeerEvent};
use serde_json::{Value, json};

use super::message::MessageId;
use crate::{row::Failure, sink::print_line, stamp::Stamp};

/// Frames of the normal lane go to these groups in turn.
pub(super) const NORMAL_GROUPS: u64 = 4;

/// Frames of the bulk lane go to groups from here on, in turn.
pub(super) const BULK_FRAMES: u32 = 10;
pub(super) const BULK_GROUPS: u64 = 2;

/// Heartbeats have this many keys. Two keys share a group.
pub(super) const KEYS: u64 = 4;
pub(super) const BEATS: u32 = 20;

/// Each task that sends large messages has a group of its own, from here on.
pub(super) const MESSAGES: u32 = 30;

/// A life of a sender: node and incarnation.
pub(super) type LifeId = (u32, u32);

/// A life of a sender, and the number of a lane.
pub(super) type LaneOf = (u32, u32, u8);

/// Cheap to clone; all clones share one log.
#[derive(Clone, Default)]
pub(super) struct LaneLog(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) lanes: BTreeMap<LaneOf, Seen>,
    /// The last heartbeat of each key: sender, incarnation and key.
    pub(super) beats: BTreeMap<(u32, u32, u64), u64>,
    pub(super) faults: Faults,
    /// The last sequence of each group of each lane.
    last: BTreeMap<(LaneOf, u32), u64>,
    messages: BTreeSet<MessageId>,
    latest: BTreeMap<u32, u32>,
}

/// What came on a lane of a life of a sender.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// Without large messages.
    pub(super) frames: u64,
    pub(super) messages: u64,
    /// The lowest sequence of a frame.
    pub(super) first: u64,
    /// The highest.
    pub(super) last: u64,
    /// Missing, according to the events.
    pub(super) missing: u64,
    /// Batches that were marked as the first behind missing frames.
    pub(super) marked: u64,
}

impl Seen {
    /// Returns how many whole frames and messages came.
    pub(super) fn all(&self) -> u64 {
        self.frames + self.messages
    }
}

/// What must not happen, with how often it did.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(super) struct Faults([u64; 8]);

/// The faults, each at its position in [`Faults`].
#[derive(Debug, Copy, Clone)]
enum Fault {
    Corrupt,
    /// It came on another lane, for another group, or in the session of another life, than its sender sent it.
    Misdirected,
    /// A frame came after a later one of its lane and group, or twice.
    Reordered,
    /// A heartbeat came after a later one of its key, or twice.
    OldBeat,
    /// A message came twice, or after a later one of its group.
    MessageAgain,
    /// It came from an older incarnation after a frame of a newer one.
    Outdated,
    /// The batch behind a jump, or the first one, was not marked; or the jump was inside a batch.
    Unmarked,
    MissedEvents,
}

const FAULTS: [&str; 8] = [
    "corrupt or half",
    "on another lane or from another node",
    "duplicate or reordered",
    "old heartbeats",
    "messages twice or reordered",
    "of an older incarnation after a newer",
    "behind a gap and not marked",
    "events missed",
];

impl Faults {
    fn note(&mut self, fault: Fault, happened: bool) {
        self.0[fault as usize] += u64::from(happened);
    }

    pub(super) fn add(&mut self, other: Faults) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// Describes the faults, or returns `None` if there are none.
    pub(super) fn describe(self) -> Option<String> {
        let found = FAULTS.into_iter().zip(self.0);
        let found = found.filter(|(_, number)| *number > 0);
        let found: Vec<_> = found
            .map(|(what, number)| format!("{number} {what}"))
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

impl LaneLog {
    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Starts an actor that records frames and events here. It prints each large message, and the first frame on
    /// each lane of each life.
    pub(super) fn recorder(&self) -> Addr<Recorder> {
        Recorder(self.clone()).start()
    }
}

impl Log {
    fn note(&mut self, mut inbound: Inbound) -> Result<(), Failure> {
        let (group, lane, mut gap) = (inbound.group().get(), inbound.lane(), inbound.gap());
        let session = inbound.sender().map(|sender| {
            let (node, incarnation) = (sender.node().get(), sender.incarnation().get());
            (node as u32, incarnation as u32)
        });
        let Some((sender, incarnation)) = session else {
            self.faults.note(Fault::Misdirected, true);
            return Ok(());
        };
        let latest = self.latest.entry(sender).or_default();
        self.faults.note(Fault::Outdated, *latest > incarnation);
        *latest = incarnation.max(*latest);
        let of = (sender, incarnation, lane.get());
        let seen = self.lanes.entry(of).or_default();
        if seen.all() == 0 {
            print_line(format!("heard {sender} {incarnation} {}", lane.get()))?;
        }
        seen.marked += u64::from(gap == Some(Gap::Lost));
        while let Some(payload) = inbound.next_slice() {
            let gap = gap.take();
            if lane == Lane::BULK && group >= MESSAGES {
                self.note_message(of, group, MessageId::check(payload))?;
                continue;
            }
            match Stamp::check(payload) {
                Some(stamp) => self.note_frame(of, group, stamp, gap),
                None => self.faults.note(Fault::Corrupt, true),
            }
        }
        Ok(())
    }

    fn note_message(
        &mut self,
        of: LaneOf,
        group: u32,
        id: Option<MessageId>,
    ) -> Result<(), Failure> {
        let Some(id) = id else {
            self.faults.note(Fault::Corrupt, true);
            return Ok(());
        };
        let again = !self.messages.insert(id);
        let last = self.last.insert((of, group), id.number);
        let late = last.is_some_and(|last| last >= id.number);
        self.faults.note(Fault::MessageAgain, again || late);
        let impostor = (id.sender, id.incarnation) != (of.0, of.1);
        self.faults.note(Fault::Misdirected, impostor);
        self.lanes.entry(of).or_default().messages += 1;
        let MessageId {
            sender,
            incarnation,
            number,
        } = id;
        print_line(format!("got {sender} {incarnation} {number}"))
    }

    /// Records a frame. `gap` is what its batch said, if it is the first of the batch.
    fn note_frame(&mut self, of: LaneOf, group: u32, stamp: Stamp, gap: Option<Gap>) {
        let sequence = stamp.sequence;
        let (is_beat, expected_group) = match of.2 {
            lane if lane == Lane::NORMAL.get() => (false, normal_group(sequence)),
            lane if lane == Lane::CONTROL.get() => (true, beat_group(sequence)),
            _ => (false, bulk_group(sequence)),
        };
        let impostor = (stamp.sender, stamp.incarnation) != (of.0, of.1);
        let misdirected = stamp.group != group || group != expected_group || impostor;
        self.faults.note(Fault::Misdirected, misdirected);
        if is_beat {
            let beat = self.beats.insert((of.0, of.1, sequence % KEYS), sequence);
            let old = beat.is_some_and(|beat| beat >= sequence);
            self.faults.note(Fault::OldBeat, old);
        } else {
            let groups = match of.2 == Lane::NORMAL.get() {
                true => NORMAL_GROUPS,
                false => BULK_GROUPS,
            };
            let expected = match self.last.insert((of, group), sequence) {
                None => Some(Gap::FirstContact),
                Some(last) => {
                    self.faults.note(Fault::Reordered, sequence <= last);
                    (sequence > last + groups).then_some(Gap::Lost)
                }
            };
            // What is missing may have been for other groups, so a batch may be marked and show no jump.
            let unmarked = expected.is_some() && gap != expected;
            self.faults.note(Fault::Unmarked, unmarked);
        }
        let seen = self.lanes.entry(of).or_default();
        if seen.frames == 0 || sequence < seen.first {
            seen.first = sequence;
        }
        seen.frames += 1;
        seen.last = seen.last.max(sequence);
    }

    pub(super) fn to_json(&self) -> Value {
        let lanes = self.lanes.iter().map(|(of, seen)| {
            let Seen {
                frames,
                messages,
                first,
                last,
                missing,
                marked,
            } = *seen;
            json!([of, [frames, messages, first, last, missing, marked]])
        });
        let beats: Vec<_> = self.beats.iter().collect();
        json!({
            "lanes": lanes.collect::<Vec<_>>(),
            "beats": beats,
            "faults": self.faults.0,
        })
    }

    pub(super) fn parse(mut value: Value) -> Result<Log, Failure> {
        let lanes: Vec<(LaneOf, [u64; 6])> = serde_json::from_value(value["lanes"].take())?;
        let lanes = lanes.into_iter().map(|(of, seen)| {
            let [frames, messages, first, last, missing, marked] = seen;
            let seen = Seen {
                frames,
                messages,
                first,
                last,
                missing,
                marked,
            };
            (of, seen)
        });
        let beats: Vec<((u32, u32, u64), u64)> = serde_json::from_value(value["beats"].take())?;
        Ok(Log {
            lanes: lanes.collect(),
            beats: beats.into_iter().collect(),
            faults: Faults(serde_json::from_value(value["faults"].take())?),
            ..Log::default()
        })
    }
}

pub(super) fn normal_group(sequence: u64) -> u32 {
    (sequence % NORMAL_GROUPS) as u32
}

pub(super) fn bulk_group(sequence: u64) -> u32 {
    BULK_FRAMES + (sequence % BULK_GROUPS) as u32
}

pub(super) fn beat_group(sequence: u64) -> u32 {
    BEATS + (sequence % KEYS / 2) as u32
}

/// Records frames and events.
pub(super) struct Recorder(LaneLog);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Recorder {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        // It cannot print only if the row has ended.
        let _ = self.0.lock().note(inbound);
    }
}

impl Handler<PeerEvent> for Recorder {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let mut log = self.0.lock();
        match event {
            PeerEvent::Gap {
                node,
                incarnation,
                lane,
                lost,
                ..
            } => {
                let of = (node.get() as u32, incarnation.get() as u32, lane.get());
                log.lanes.entry(of).or_default().missing += lost;
            }
            PeerEvent::Missed { events } => {
                log.faults.0[Fault::MissedEvents as usize] += events;
            }
            _ => {}
        }
    }
}
