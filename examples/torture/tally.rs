//! What a node in a process of its own got, in few words: it is kept by sender and incarnation, and
//! told to the row in a line of JSON.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Inbound, Via};
use serde_json::{Value, json};

use crate::{row::Failure, stamp::Stamp};

/// What came. Cheap to clone; all clones are the same tally.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Came>>);

#[derive(Default)]
pub(crate) struct Came {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) corrupt: u64,
    /// Frames that came before, on whatever connection.
    pub(crate) duplicate: u64,
    /// Frames that came behind a later one of their group on their connection.
    pub(crate) reordered: u64,
    pub(crate) datagrams: u64,
    /// By sender and incarnation.
    pub(crate) of: BTreeMap<(u32, u32), Seen>,
    last: HashMap<(SocketAddr, u32), u64>,
}

/// What came from one sender in one incarnation.
#[derive(Default)]
pub(crate) struct Seen {
    marks: Vec<u64>,
    pub(crate) frames: u64,
    /// The sequences in the order of their coming, as runs: first and last.
    pub(crate) runs: Vec<(u64, u64)>,
}

impl Tally {
    pub(crate) fn came(&self) -> MutexGuard<'_, Came> {
        self.0.lock().expect("nobody panics here")
    }

    /// An actor that keeps what it gets here, and tells of each sender's incarnation when it is heard
    /// for the first time.
    pub(crate) fn keeper(
        &self,
        heard: impl FnMut(u32, u32) + Unpin + 'static,
    ) -> Recipient<Inbound> {
        let keeper = Keeper {
            tally: self.clone(),
            heard: Box::new(heard),
        };
        keeper.start().recipient()
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        let came = self.came();
        let of = came.of.iter().map(|((sender, incarnation), seen)| {
            json!([sender, incarnation, seen.frames, seen.runs])
        });
        let of: Vec<_> = of.collect();
        json!({
            "frames": came.frames,
            "bytes": came.bytes,
            "corrupt": came.corrupt,
            "duplicate": came.duplicate,
            "reordered": came.reordered,
            "datagrams": came.datagrams,
            "of": of,
        })
        .to_string()
    }

    /// From such a line.
    pub(crate) fn parse(line: &str) -> Result<Tally, Failure> {
        let wrong = || {
            Failure::stuck(format!(
                "no tally: {}",
                line.chars().take(200).collect::<String>()
            ))
        };
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().ok_or_else(wrong);
        let mut came = Came {
            frames: number("frames")?,
            bytes: number("bytes")?,
            corrupt: number("corrupt")?,
            duplicate: number("duplicate")?,
            reordered: number("reordered")?,
            datagrams: number("datagrams")?,
            ..Came::default()
        };
        for one in value["of"].as_array().ok_or_else(wrong)? {
            let (sender, incarnation, frames, runs): (u32, u32, u64, Vec<(u64, u64)>) =
                serde_json::from_value(one.clone())?;
            let seen = Seen {
                frames,
                runs,
                ..Seen::default()
            };
            came.of.insert((sender, incarnation), seen);
        }
        Ok(Tally(Arc::new(Mutex::new(came))))
    }
}

impl Came {
    /// Frames that came by connections.
    pub(crate) fn streamed(&self) -> u64 {
        self.frames - self.datagrams
    }

    /// What must be nothing, in words, when it is something.
    pub(crate) fn wrong(&self) -> Option<String> {
        let (corrupt, duplicate, reordered) = (self.corrupt, self.duplicate, self.reordered);
        let wrong = corrupt + duplicate + reordered > 0;
        wrong.then(|| format!("{corrupt} corrupt, {duplicate} twice, {reordered} out of order"))
    }

    /// Notes the frames of a batch; says who was heard for the first time.
    fn note(&mut self, mut inbound: Inbound) -> Option<(u32, u32)> {
        let (from, group) = (inbound.from(), inbound.group().get());
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
            let seen = self.of.entry((sender, incarnation)).or_insert_with(|| {
                first = Some((sender, incarnation));
                Seen::default()
            });
            self.duplicate += u64::from(!seen.note(sequence));
        }
        first
    }
}

impl Seen {
    /// Says whether the sequence is new.
    fn note(&mut self, sequence: u64) -> bool {
        match self.runs.last_mut() {
            Some(run) if run.1 + 1 == sequence => run.1 = sequence,
            _ => self.runs.push((sequence, sequence)),
        }
        self.mark(sequence)
    }

    /// The same, without keeping when it came.
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

    /// The highest sequence.
    pub(crate) fn last(&self) -> Option<u64> {
        self.runs.iter().map(|(_, last)| *last).max()
    }

    /// How often something is missing of the sequences below `end`, in whatever order the rest came:
    /// the last of a connection may come behind the first of the next.
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

    /// The sequences in the order of their coming.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }
}

struct Keeper {
    tally: Tally,
    heard: Box<dyn FnMut(u32, u32)>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Keeper {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let first = self.tally.came().note(inbound);
        if let Some((sender, incarnation)) = first {
            (self.heard)(sender, incarnation);
        }
    }
}
