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

/// The most that a reset takes from the sender's kernel: what is not sent, and what is not read, where
/// the proxy's socket is as small as the rows make it.
const IN_KERNELS: u64 = (4 << 20) + (64 << 10);

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
    // How many connections since then left their rest with a kernel, and whether one cut a frame.
    let (mut leaks, mut cut) = (0, false);
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
                if bytes > leaks * IN_KERNELS {
                    problem(format!("{next} to {first} were never seen, {bytes} bytes"));
                }
                found.reset += first - next;
            } else {
                found.again += u64::from(cut);
            }
            next = last + 1;
            (leaks, cut) = (0, false);
        }
        leaks += u64::from(!passage.drained);
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
        if bytes > leaks * IN_KERNELS {
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

/// That each kind of fault is seen: without this, the rows might hold because nobody looks.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Cut, Ended, Ending, Side, Trace, wire};

    /// A connection that took some frames, forwarded some of them, and ended.
    fn passage(taken: std::ops::Range<u64>, forwarded: u64, drained: bool) -> Passage {
        let trace = |frames| {
            let mut trace = Trace::default();
            trace.feed(&wire(frames));
            trace
        };
        let mut passage = Passage::default();
        passage.forwarded = trace(taken.start..forwarded);
        passage.taken = trace(taken);
        passage.drained = drained;
        passage.ended = Some(Ended::Cut(Cut {
            after: 0,
            ending: Ending::Fin,
            side: Side::Sender,
        }));
        passage
    }

    /// Two connections, the first cut with 3 of 5 frames forwarded, and all of 10 written.
    struct Story {
        passages: Vec<Passage>,
        came: Vec<Vec<u64>>,
        sent: SendStats,
    }

    impl Story {
        fn told() -> Self {
            let mut sent = SendStats::default();
            sent.accepted.frames = 10;
            sent.written.frames = 10;
            Story {
                passages: vec![passage(0..5, 3, true), passage(5..10, 10, true)],
                came: vec![vec![0, 1, 2], vec![5, 6, 7, 8, 9]],
                sent,
            }
        }

        fn end(self) -> Reconciled {
            let mut book = Book::default();
            for (number, sequences) in (0..).zip(self.came) {
                let arrivals = Arrivals {
                    sequences,
                    ..Arrivals::default()
                };
                book.arrivals.insert((1, number), arrivals);
            }
            reconcile(1, &self.sent, &self.passages, &book, |_| 50)
        }
    }

    #[test]
    fn what_the_proxy_threw_away_is_explained() {
        let found = Story::told().end();
        assert_eq!(found.unexplained, [""; 0]);
        assert_eq!((found.received, found.thrown, found.reset), (8, 2, 0));
    }

    #[test]
    fn what_a_kernel_forgot_is_explained_only_by_a_reset() {
        for drained in [true, false] {
            let mut story = Story::told();
            story.passages[0] = passage(0..4, 3, drained);
            let found = story.end();
            assert_eq!(found.unexplained.is_empty(), !drained);
            assert_eq!(found.reset, 1);
        }
    }

    #[test]
    fn a_frame_sent_twice_is_seen_even_where_it_came_once() {
        let mut story = Story::told();
        story.passages[1] = passage(4..10, 10, true);
        story.came[1].insert(0, 4);
        let found = story.end();
        assert!(
            found.unexplained[0].contains("frame 4 was sent twice"),
            "{found:?}"
        );
        assert_eq!(found.duplicate, 0);
    }

    #[test]
    fn a_frame_that_came_twice_is_seen() {
        let mut story = Story::told();
        story.passages[1] = passage(2..10, 10, true);
        story.came[1].splice(0..0, 2..5);
        assert_eq!(story.end().duplicate, 1);
    }

    #[test]
    fn a_frame_that_was_forwarded_and_did_not_come_is_seen() {
        let mut story = Story::told();
        story.came[1].pop();
        assert!(story.end().unexplained[0].contains("frame 9 was forwarded"));
    }

    #[test]
    fn a_frame_that_came_and_was_not_forwarded_is_seen() {
        let mut story = Story::told();
        story.came[0].push(3);
        assert!(story.end().unexplained[0].contains("frame 3 came"));
    }

    #[test]
    fn a_frame_left_out_is_seen() {
        let mut story = Story::told();
        let mut trace = Trace::default();
        trace.feed(&wire((5..7).chain(8..10)));
        (story.passages[1].taken, story.passages[1].forwarded) = (trace.clone(), trace);
        story.came[1] = vec![5, 6, 8, 9];
        assert!(story.end().unexplained[0].contains("frames were left out"));
    }

    #[test]
    fn a_counter_that_does_not_agree_is_seen() {
        let mut story = Story::told();
        story.sent.written.frames = 9;
        assert!(!story.end().unexplained.is_empty());
    }
}
