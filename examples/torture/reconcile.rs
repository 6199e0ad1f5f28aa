//! What was sent against what came, frame by frame.
//!
//! The sender numbers what its queue accepts, the proxy keeps what it took and forwarded on each
//! connection, the receiver what came on each. By those three a frame that is missing lies either in
//! what the proxy threw away, or in what a kernel held when its connection was reset; anything else
//! is unexplained.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Inbound, SendStats};

use crate::{
    proxy::{Passage, number_of},
    row::Figures,
    stamp::Stamp,
};

/// What came, from one sender in one incarnation by one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    /// The sequences, in the order of their coming.
    pub(crate) sequences: Vec<u64>,
    /// The last of each group.
    last: BTreeMap<u32, u64>,
    /// Frames that came behind a later one of their group, or behind themselves.
    pub(crate) reordered: u64,
}

/// What a receiver keeps. Cheap to clone; all clones are the same record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By the sender's proxy, and the number of the connection through it.
    pub(crate) arrivals: BTreeMap<(u8, u64), Arrivals>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Frames that are not what their sender made, or came to a group that they are not for.
    pub(crate) corrupt: u64,
}

impl Record {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nobody panics here")
    }

    /// Notes the frames of a batch.
    pub(crate) fn note(&self, mut inbound: Inbound) {
        let mut book = self.book();
        let group = inbound.group().get();
        let from = number_of(inbound.from()).unwrap_or_default();
        while let Some(payload) = inbound.next_slice() {
            book.frames += 1;
            book.bytes += payload.len() as u64;
            let stamp = Stamp::check(payload).filter(|stamp| stamp.group == group);
            let Some(stamp) = stamp else {
                book.corrupt += 1;
                continue;
            };
            let arrivals = book.arrivals.entry(from).or_default();
            let last = arrivals.last.insert(group, stamp.sequence);
            arrivals.reordered += u64::from(last >= Some(stamp.sequence));
            arrivals.sequences.push(stamp.sequence);
        }
    }

    /// An actor that notes everything it gets here.
    pub(crate) fn keeper(&self) -> Recipient<Inbound> {
        Keeper(self.clone()).start().recipient()
    }
}

/// Serves groups for a record.
struct Keeper(Record);

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Keeper {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        self.0.note(inbound);
    }
}

/// What became of one sender's frames, all of which went through one proxy.
#[derive(Debug, Default)]
pub(crate) struct Reconciled {
    pub(crate) received: u64,
    pub(crate) duplicate: u64,
    pub(crate) reordered: u64,
    /// Missing, and in the proxy's hands when they were lost.
    pub(crate) thrown: u64,
    /// Missing, and in a kernel's hands when it was told to forget them.
    pub(crate) reset: u64,
    /// Frames of which the proxy saw a part and which went out whole on the next connection.
    pub(crate) again: u64,
    /// What cannot be.
    pub(crate) unexplained: Vec<String>,
}

/// The most that kernels hold of one connection: what is not sent, and what is not read.
const IN_KERNELS: u64 = 48 << 20;

/// Reconciles the frames of a sender whose queue dropped nothing: it accepted the sequences from 0 on,
/// and all of them were written. `lens` gives a sequence's length on the wire.
pub(crate) fn reconcile(
    id: u8,
    sent: &SendStats,
    passages: &[Passage],
    book: &Book,
    lens: impl Fn(u64) -> u64,
) -> Reconciled {
    let mut found = Reconciled::default();
    let accepted = sent.accepted.frames;
    if sent.written != sent.accepted {
        let problem = format!(
            "sender {id}: accepted {}, wrote {}",
            sent.accepted, sent.written
        );
        found.unexplained.push(problem);
    }
    let mut seen = Marks::new(accepted);
    let mut taken = Marks::new(accepted);
    let none = Arrivals::default();
    // The first sequence that no connection so far has taken, if nothing was lost in kernels.
    let mut next = 0;
    // Whether the connection before left its rest with a kernel, and which frame it cut.
    let (mut leak, mut cut) = (false, false);
    for (number, passage) in passages.iter().enumerate() {
        let arrivals = book.arrivals.get(&(id, number as u64)).unwrap_or(&none);
        let mut problem = |text: String| {
            found
                .unexplained
                .push(format!("sender {id}, connection {number}: {text}"));
        };

        // What the sender put on the wire: each frame once, and none left out but with a reset.
        for sequence in passage.taken.sequences() {
            if !taken.set(sequence) {
                problem(format!("frame {sequence} was sent twice"));
            }
        }
        if let (Some(first), Some(last)) = (passage.taken.first(), passage.taken.last()) {
            if passage.taken.runs.len() > 1 {
                problem(format!("frames were left out: {:?}", passage.taken.runs));
            }
            if first < next {
                problem(format!("begins with {first} behind {next}"));
            }
            if first > next {
                let bytes: u64 = (next..first).map(&lens).sum();
                if !leak || bytes > IN_KERNELS {
                    problem(format!("{next} to {first} were never seen, {bytes} bytes"));
                }
                found.reset += first - next;
            } else {
                found.again += u64::from(cut);
            }
            next = last + 1;
            cut = false;
        }
        leak |= !passage.drained;
        if passage.drained && passage.taken.first().is_some() {
            leak = false;
        }
        cut |= passage.taken.partial() > 0;

        // What came of it.
        let mut came = arrivals.sequences.clone();
        came.sort_unstable();
        for &sequence in &came {
            if !seen.set(sequence) {
                found.duplicate += 1;
            }
        }
        let mut forwarded = passage.forwarded.sequences();
        if let Some(stranger) = came.iter().find(|&&came| forwarded.next() != Some(came)) {
            found.unexplained.push(format!(
                "sender {id}, connection {number}: frame {stranger} came and was not next"
            ));
        }
        if passage.came_through()
            && let Some(lost) = forwarded.next()
        {
            found.unexplained.push(format!(
                "sender {id}, connection {number}: frame {lost} was forwarded and did not come"
            ));
        }
        found.received += came.len() as u64;
        found.reordered += arrivals.reordered;
    }
    if next < accepted {
        let bytes: u64 = (next..accepted).map(&lens).sum();
        if !leak || bytes > IN_KERNELS {
            let text = format!("sender {id}: {next} to {accepted} were never seen, {bytes} bytes");
            found.unexplained.push(text);
        }
        found.reset += accepted - next;
    }
    found.thrown = taken.count - seen.count.min(taken.count);
    found
}

impl Reconciled {
    /// Adds another sender's.
    pub(crate) fn add(&mut self, other: Reconciled) {
        self.received += other.received;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.thrown += other.thrown;
        self.reset += other.reset;
        self.again += other.again;
        self.unexplained.extend(other.unexplained);
    }

    /// Notes what was found, and demands what must be.
    pub(crate) fn tell(&self, corrupt: u64, figures: &mut Figures) {
        let Reconciled {
            duplicate,
            reordered,
            ..
        } = self;
        for problem in &self.unexplained {
            figures.must(false, || problem.clone());
        }
        figures.must(corrupt == 0, || format!("{corrupt} frames corrupt"));
        figures.must(*duplicate == 0, || format!("{duplicate} frames came twice"));
        figures.must(*reordered == 0, || {
            format!("{reordered} frames out of order")
        });
        figures.add("received", self.received);
        figures.add("lost in the proxy", self.thrown);
        figures.add("lost by a reset", self.reset);
        figures.add("sent again whole", self.again);
        figures.add("corrupt", corrupt);
        figures.add("duplicate", duplicate);
        figures.add("reordered", reordered);
        figures.add("unexplained", self.unexplained.len());
    }
}

/// A set of small numbers.
struct Marks {
    words: Vec<u64>,
    count: u64,
}

impl Marks {
    fn new(len: u64) -> Self {
        Marks {
            words: vec![0; len.div_ceil(64) as usize],
            count: 0,
        }
    }

    /// Puts a number in; says whether it was not there, and one that may be.
    fn set(&mut self, number: u64) -> bool {
        let Some(word) = self.words.get_mut((number / 64) as usize) else {
            return false;
        };
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(new);
        new
    }
}
