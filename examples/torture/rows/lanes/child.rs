//! The row's handle to a node in a child process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    log::{LaneOf, Log},
    message::MessageId,
    node::{Args, ROLE},
};
use crate::{
    named_child::LONG,
    row::Failure,
    world::{Child, pause},
};

const MS: Duration = Duration::from_millis(1);

/// A node in a child process.
pub(super) struct LaneChild {
    pub(super) args: Args,
    pub(super) child: Child,
    /// Its large messages that have come to an end.
    pub(super) sent: BTreeMap<u64, SentMessage>,
    /// The lanes on which it has received something.
    pub(super) heard: BTreeSet<LaneOf>,
    /// The large messages that it has received, each as often as it did.
    pub(super) got: Vec<MessageId>,
}

/// What became of a large message, as its sender was told.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) struct SentMessage {
    pub(super) outcome: Outcome,
    /// The number of the last connection of the lane, before and after.
    epochs: (u64, u64),
}

#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Outcome {
    Ok,
    Error,
    Cancelled,
}

impl SentMessage {
    /// Returns whether all of it was written on this connection.
    pub(super) fn was_written_on(&self, epoch: u64) -> bool {
        self.outcome == Outcome::Ok && self.epochs == (epoch, epoch)
    }
}

/// What a node reports.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) log: Log,
    pub(super) numbered: u64,
    announced: u64,
    missing: u64,
    received: u64,
    pub(super) incomplete: u64,
    pub(super) superseded: u64,
    dropped: u64,
    in_delivery: u64,
    /// The most that was allocated, and what is now.
    pub(super) most_memory: u64,
    pub(super) memory: u64,
    /// What a sender sent.
    pub(super) sent: Sent,
}

/// What a sender sent on its three lanes.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Sent {
    pub(super) lanes: [LaneSent; 3],
    /// How many frames and heartbeats were accepted on each lane, without parts.
    pub(super) next: [u64; 3],
    /// Large messages on their way.
    pub(super) sending: u64,
}

/// The counters of a lane.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct LaneSent {
    pub(super) accepted: u64,
    pub(super) written: u64,
    pub(super) stale: u64,
    pub(super) evicted: u64,
    pub(super) replaced: u64,
    pub(super) dropped: u64,
    pub(super) left: u64,
    pub(super) epoch: u64,
    pub(super) is_connected: bool,
}

impl LaneChild {
    /// Starts the process and waits until it listens.
    pub(super) fn start(args: Args) -> Result<Self, Failure> {
        let mut node = LaneChild {
            child: Child::start(ROLE.name, &args.to_words())?,
            args,
            sent: BTreeMap::new(),
            heard: BTreeSet::new(),
            got: Vec::new(),
        };
        node.wait_for("listening")?;
        Ok(node)
    }

    /// Returns the node and the incarnation.
    pub(super) fn life(&self) -> (u32, u32) {
        (self.args.node, self.args.incarnation)
    }

    /// Has it do something, and waits until it has.
    pub(super) fn tell(&mut self, what: &str) -> Result<(), Failure> {
        self.child.send_line(what)?;
        self.wait_for("done").map(drop)
    }

    pub(super) fn report(&mut self) -> Result<Report, Failure> {
        self.child.send_line("report")?;
        Report::parse(&self.wait_for("report")?)
    }

    /// Stops it in an orderly way.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.child.send_line("end")?;
        self.wait_for("end").map(drop)
    }

    /// Kills it, and reads everything that it had printed.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        while let Ok(line) = self.child.line() {
            self.note(line)?;
        }
        Ok(())
    }

    /// Reads what it has printed.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        while let Some((_, line)) = self.child.try_line() {
            self.note(line)?;
        }
        Ok(())
    }

    /// Waits for a line that begins with `word`, and returns the rest of it.
    fn wait_for(&mut self, word: &str) -> Result<String, Failure> {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            match self.child.try_line() {
                Some((_, line)) => {
                    if let Some(rest) = self.note(line)?.strip_prefix(word) {
                        return Ok(rest.trim().into());
                    }
                }
                None => pause(MS),
            }
        }
        let (node, incarnation) = self.life();
        Err(Failure::error(format!(
            "node {node} (incarnation {incarnation}) did not print `{word}`"
        )))
    }

    /// Records a line that was not asked for, and returns any other.
    fn note(&mut self, line: String) -> Result<String, Failure> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["sent", number, before, behind, outcome, ..] => {
                let outcome = match outcome {
                    "ok" => Outcome::Ok,
                    "cancelled" => Outcome::Cancelled,
                    _ => Outcome::Error,
                };
                let epochs = (before.parse()?, behind.parse()?);
                let message = SentMessage { outcome, epochs };
                self.sent.insert(number.parse()?, message);
            }
            ["heard", sender, incarnation, lane] => {
                let of = (sender.parse()?, incarnation.parse()?, lane.parse()?);
                self.heard.insert(of);
            }
            ["got", sender, incarnation, number] => self.got.push(MessageId {
                sender: sender.parse()?,
                incarnation: incarnation.parse()?,
                number: number.parse()?,
            }),
            _ => return Ok(line),
        }
        Ok(String::new())
    }
}

impl Report {
    /// Returns whether the node has handled everything that its transport has counted, and the two agree.
    pub(super) fn is_whole(&self) -> bool {
        let lanes = self.log.lanes.values();
        let (all, missing) = lanes.fold((0, 0), |sum, seen| {
            (sum.0 + seen.all(), sum.1 + seen.missing)
        });
        self.announced == self.numbered + self.missing
            && self.in_delivery == 0
            && self.dropped == self.incomplete + self.superseded
            && all + self.dropped == self.received
            && missing == self.missing
    }

    /// Returns how many parts came, without the last one of each whole message: that counts as a frame.
    pub(super) fn parts(&self) -> u64 {
        self.numbered - (self.received - self.incomplete)
    }

    /// Describes the counters of the receiver.
    pub(super) fn describe(&self) -> String {
        let Report {
            log,
            numbered,
            announced,
            missing,
            received,
            incomplete,
            superseded,
            dropped,
            in_delivery,
            ..
        } = self;
        format!(
            "{announced} announced, {numbered} numbered, {missing} missing, {received} received, {dropped} dropped \
            ({incomplete} incomplete, {superseded} superseded), {in_delivery} in delivery; {:?} {:?}",
            log.lanes, log.beats
        )
    }

    fn parse(line: &str) -> Result<Self, Failure> {
        let mut value: Value = serde_json::from_str(line)?;
        let [
            announced,
            numbered,
            missing,
            received,
            incomplete,
            superseded,
            dropped,
            in_delivery,
        ] = serde_json::from_value(value["inbound"].take())?;
        let most_memory = value["memory"].as_u64().unwrap_or(0);
        let mut sent = Sent::default();
        let of_sender = &mut value["sent"];
        if of_sender.is_object() {
            let lanes: Vec<[u64; 9]> = serde_json::from_value(of_sender["lanes"].take())?;
            for (lane, counters) in sent.lanes.iter_mut().zip(lanes) {
                *lane = LaneSent::from_array(counters);
            }
            sent.next = serde_json::from_value(of_sender["next"].take())?;
            sent.sending = of_sender["sending"].as_u64().unwrap_or(0);
        }
        Ok(Report {
            log: Log::parse(value["log"].take())?,
            numbered,
            announced,
            missing,
            received,
            incomplete,
            superseded,
            dropped,
            in_delivery,
            most_memory,
            memory: value["heap"].as_u64().unwrap_or(0),
            sent,
        })
    }
}

impl Sent {
    /// Returns whether nothing is on its way or waits.
    pub(super) fn is_written(&self) -> bool {
        self.sending == 0 && self.lanes.iter().all(|lane| lane.left == 0)
    }
}

impl LaneSent {
    fn from_array(counters: [u64; 9]) -> Self {
        let [
            accepted,
            written,
            stale,
            evicted,
            replaced,
            dropped,
            left,
            epoch,
            connected,
        ] = counters;
        LaneSent {
            accepted,
            written,
            stale,
            evicted,
            replaced,
            dropped,
            left,
            epoch,
            is_connected: connected > 0,
        }
    }
}
