//! The row's handle to a [`named_node`](crate::named_node) in a child process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    named_node::{Args, ROLE},
    numbered_log::Numbered,
    row::Failure,
    world::{Child, pause},
};

const MS: Duration = Duration::from_millis(1);

/// How long a node may take to answer or to be heard. The machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A node in a child process.
pub(crate) struct NamedChild {
    pub(crate) args: Args,
    pub(crate) child: Child,
    /// The most frames that it has accepted for each peer.
    pub(crate) limits: BTreeMap<u32, u64>,
    /// The lives of senders that it has heard of: sender and incarnation.
    heard: BTreeSet<(u32, u32)>,
    /// Its `refused` lines: address and reason.
    pub(crate) refused: Vec<String>,
}

/// What a node reports.
pub(crate) struct Report {
    pub(crate) log: Numbered,
    pub(crate) announced: u64,
    pub(crate) numbered: u64,
    pub(crate) missing: u64,
    /// Received, and not delivered.
    pub(crate) undelivered: u64,
    /// Connections that it refused.
    pub(crate) refusals: u64,
    /// By the peer.
    pub(crate) sent: BTreeMap<u32, Sent>,
}

/// What became of the frames for one peer.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) written: u64,
    pub(crate) stale: u64,
    pub(crate) evicted: u64,
    /// Not written and not dropped yet.
    pub(crate) left: u64,
}

impl NamedChild {
    /// Starts the process and waits until it listens.
    pub(crate) fn start(args: Args) -> Result<Self, Failure> {
        let mut node = NamedChild {
            child: Child::start(ROLE.name, &args.to_words())?,
            args,
            limits: BTreeMap::new(),
            heard: BTreeSet::new(),
            refused: Vec::new(),
        };
        node.wait_for("listening")?;
        Ok(node)
    }

    /// Returns the node and the incarnation.
    pub(crate) fn life(&self) -> (u32, u32) {
        (self.args.node, self.args.incarnation)
    }

    /// Has it do something, and waits until it has.
    pub(crate) fn tell(&mut self, what: &str) -> Result<(), Failure> {
        self.child.send_line(what)?;
        self.wait_for("done").map(drop)
    }

    pub(crate) fn report(&mut self) -> Result<Report, Failure> {
        self.child.send_line("report")?;
        Report::parse(&self.wait_for("report")?)
    }

    /// Stops it in an orderly way.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.child.send_line("end")?;
        self.wait_for("end").map(drop)
    }

    /// Returns whether it has received a frame from this life of a sender.
    pub(crate) fn has_heard(&mut self, life: (u32, u32)) -> Result<bool, Failure> {
        self.look()?;
        Ok(self.heard.contains(&life))
    }

    /// Reads what it has printed.
    pub(crate) fn look(&mut self) -> Result<(), Failure> {
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
        let mut words = line.split_whitespace();
        let word = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match word {
            Some("heard") => {
                let life = number().zip(number());
                self.heard
                    .extend(life.map(|(node, incarnation)| (node as u32, incarnation as u32)));
            }
            Some("limit") => {
                let limit = number().zip(number());
                self.limits
                    .extend(limit.map(|(node, limit)| (node as u32, limit)));
            }
            Some("refused") => self.refused.push(line),
            _ => return Ok(line),
        }
        Ok(String::new())
    }
}

impl Report {
    /// Returns whether the node has handled everything that its transport has counted, and the two agree.
    pub(crate) fn is_whole(&self) -> bool {
        let lives = self.log.lives.values();
        let (frames, missing) = lives.fold((0, 0), |sum, life| {
            (sum.0 + life.frames, sum.1 + life.missing)
        });
        self.announced == self.numbered + self.missing
            && frames + self.undelivered == self.numbered
            && missing == self.missing
    }

    fn parse(line: &str) -> Result<Self, Failure> {
        let mut value: Value = serde_json::from_str(line)?;
        let [announced, numbered, missing, undelivered] =
            serde_json::from_value(value["inbound"].take())?;
        let sent: Vec<(u32, u64, u64, u64, u64, u64)> =
            serde_json::from_value(value["sent"].take())?;
        let sent = sent
            .into_iter()
            .map(|(node, accepted, written, stale, evicted, left)| {
                let sent = Sent {
                    accepted,
                    written,
                    stale,
                    evicted,
                    left,
                };
                (node, sent)
            });
        Ok(Report {
            sent: sent.collect(),
            log: Numbered::parse(value["log"].take())?,
            announced,
            numbered,
            missing,
            undelivered,
            refusals: serde_json::from_value(value["refusals"].take())?,
        })
    }
}
