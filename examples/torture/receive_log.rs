//! What a node in a child process received, by sender and incarnation. The process sends it to the
//! row as one line of JSON.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Inbound, Via};
use serde_json::{Value, json};

use crate::{row::Failure, stamp::Stamp};

/// A log of received frames. Cheap to clone; all clones share one log.
#[derive(Clone, Default)]
pub(crate) struct ReceiveLog(Arc<Mutex<Received>>);

#[derive(Default)]
pub(crate) struct Received {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) corrupt: u64,
    /// Frames that had been received before, on any connection.
    pub(crate) duplicate: u64,
    /// Frames received after a later one of their group on their connection.
    pub(crate) reordered: u64,
    pub(crate) datagrams: u64,
    /// By sender and incarnation.
    pub(crate) by_sender: BTreeMap<(u32, u32), FromSender>,
    last: HashMap<(SocketAddr, u32), u64>,
}

/// The frames of one sender in one incarnation.
#[derive(Default)]
pub(crate) struct FromSender {
    marks: Vec<u64>,
    pub(crate) frames: u64,
    /// The sequences in order of arrival, as runs: first and last.
    pub(crate) runs: Vec<(u64, u64)>,
}

impl ReceiveLog {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Starts an actor that records its frames here. It calls `on_new_sender` at the first frame of
    /// each sender's incarnation.
    pub(crate) fn recorder(
        &self,
        on_new_sender: impl FnMut(u32, u32) + Unpin + 'static,
    ) -> Recipient<Inbound> {
        let keeper = Recorder {
            log: self.clone(),
            on_new_sender: Box::new(on_new_sender),
        };
        keeper.start().recipient()
    }

    /// Returns the log as one line.
    pub(crate) fn to_line(&self) -> String {
        let received = self.lock();
        let of = received
            .by_sender
            .iter()
            .map(|((sender, incarnation), from_sender)| {
                json!([sender, incarnation, from_sender.frames, from_sender.runs])
            });
        let of: Vec<_> = of.collect();
        json!({
            "frames": received.frames,
            "bytes": received.bytes,
            "corrupt": received.corrupt,
            "duplicate": received.duplicate,
            "reordered": received.reordered,
            "datagrams": received.datagrams,
            "of": of,
        })
        .to_string()
    }

    /// Parses such a line.
    pub(crate) fn parse(line: &str) -> Result<ReceiveLog, Failure> {
        let wrong = || {
            Failure::error(format!(
                "not a receive log: {}",
                line.chars().take(200).collect::<String>()
            ))
        };
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().ok_or_else(wrong);
        let mut received = Received {
            frames: number("frames")?,
            bytes: number("bytes")?,
            corrupt: number("corrupt")?,
            duplicate: number("duplicate")?,
            reordered: number("reordered")?,
            datagrams: number("datagrams")?,
            ..Received::default()
        };
        for one in value["of"].as_array().ok_or_else(wrong)? {
            let (sender, incarnation, frames, runs): (u32, u32, u64, Vec<(u64, u64)>) =
                serde_json::from_value(one.clone())?;
            let from_sender = FromSender {
                frames,
                runs,
                ..FromSender::default()
            };
            received
                .by_sender
                .insert((sender, incarnation), from_sender);
        }
        Ok(ReceiveLog(Arc::new(Mutex::new(received))))
    }
}

impl Received {
    /// Returns how many frames came over connections.
    pub(crate) fn streamed(&self) -> u64 {
        self.frames - self.datagrams
    }

    /// Describes frames that were corrupt, duplicate or reordered, or returns `None` if there were
    /// none.
    pub(crate) fn faults(&self) -> Option<String> {
        let (corrupt, duplicate, reordered) = (self.corrupt, self.duplicate, self.reordered);
        let faulty = corrupt + duplicate + reordered > 0;
        faulty.then(|| format!("{corrupt} corrupt, {duplicate} duplicate, {reordered} reordered"))
    }

    /// Records the frames of a batch. Returns a sender and incarnation seen for the first time.
    fn note(&mut self, mut inbound: Inbound) -> Option<(u32, u32)> {
        let (from, group) = (inbound.from().socket_addr(), inbound.group().get());
        let datagram = inbound.via() == Via::Udp;
        let mut first = None;
        while let Some(payload) = inbound.next_slice() {
            self.frames += 1;
            self.bytes += payload.len() as u64;
            self.datagrams += u64::from(datagram);
            let stamp = Stamp::check(payload).filter(|stamp| stamp.group == group);
            let Some(Stamp {
                sender,
                incarnation,
                sequence,
                ..
            }) = stamp
            else {
                self.corrupt += 1;
                continue;
            };
            if !datagram {
                let last = self.last.insert((from, group), sequence);
                self.reordered += u64::from(last >= Some(sequence));
            }
            let from_sender = self
                .by_sender
                .entry((sender, incarnation))
                .or_insert_with(|| {
                    first = Some((sender, incarnation));
                    FromSender::default()
                });
            self.duplicate += u64::from(!from_sender.note(sequence));
        }
        first
    }
}

impl FromSender {
    /// Records a sequence. Returns whether it is new.
    fn note(&mut self, sequence: u64) -> bool {
        match self.runs.last_mut() {
            Some(run) if run.1 + 1 == sequence => run.1 = sequence,
            _ => self.runs.push((sequence, sequence)),
        }
        self.mark(sequence)
    }

    /// Records a sequence without its order of arrival. Returns whether it is new.
    pub(crate) fn mark(&mut self, sequence: u64) -> bool {
        self.frames += 1;
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        let new = self.marks[word] & bit == 0;
        self.marks[word] |= bit;
        new
    }

    /// Returns the highest sequence.
    pub(crate) fn last(&self) -> Option<u64> {
        self.runs.iter().map(|(_, last)| *last).max()
    }

    /// Returns the number of gaps in the sequences below `end`. The order of arrival does not
    /// matter, because the last frames of a connection may arrive after the first of the next one.
    pub(crate) fn gaps(&self, end: u64) -> u64 {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        let (mut next, mut gaps) = (0, 0);
        for (first, last) in runs.into_iter().chain([(end, end)]) {
            gaps += u64::from(first != next);
            next = last + 1;
        }
        gaps
    }

    /// Returns the sequences in order of arrival.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }
}

struct Recorder {
    log: ReceiveLog,
    on_new_sender: Box<dyn FnMut(u32, u32)>,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Recorder {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let first = self.log.lock().note(inbound);
        if let Some((sender, incarnation)) = first {
            (self.on_new_sender)(sender, incarnation);
        }
    }
}
