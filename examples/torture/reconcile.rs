//! Compares what was sent with what was received, frame by frame.
//!
//! The sender numbers the frames that its queue accepts. The proxy records which frames it took and
//! forwarded on each connection, and the receiver records which arrived on each. A missing frame
//! was either thrown away by the proxy, or lost in a kernel when its connection was reset. Anything
//! else is unexplained.

mod sealed;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use actix::prelude::*;
use actix_transport::{Inbound, SendStats};

pub(crate) use self::sealed::reconcile_sealed;
use crate::{
    proxy::{ProxyConnection, number_of},
    row::Figures,
    stamp::Stamp,
};

/// The frames of one sender in one incarnation over one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    /// The sequences in order of arrival.
    pub(crate) sequences: Vec<u64>,
    /// The last sequence of each group.
    last: BTreeMap<u32, u64>,
    /// Frames that arrived after a later one of their group, or twice in a row.
    pub(crate) reordered: u64,
}

/// A receiver's record. Cheap to clone; all clones share one record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Arrived>>);

#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// By the id of the sender's proxy and the number of the connection through it.
    pub(crate) arrivals: BTreeMap<(u8, u64), Arrivals>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Frames that differ from what their sender made, or came to a wrong group.
    pub(crate) corrupt: u64,
    /// The last sequence by sender and group, over all connections.
    last: BTreeMap<(u32, u32), u64>,
    /// Frames that arrived after a later one of their sender and group, on any connection.
    pub(crate) reordered_across: u64,
}

impl Record {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Records the frames of a batch.
    pub(crate) fn note(&self, mut inbound: Inbound) {
        let mut arrived = self.lock();
        let group = inbound.group().get();
        let from = number_of(inbound.from().socket_addr()).unwrap_or_default();
        while let Some(payload) = inbound.next_slice() {
            arrived.frames += 1;
            arrived.bytes += payload.len() as u64;
            let stamp = Stamp::check(payload).filter(|stamp| stamp.group == group);
            let Some(stamp) = stamp else {
                arrived.corrupt += 1;
                continue;
            };
            let arrivals = arrived.arrivals.entry(from).or_default();
            let last = arrivals.last.insert(group, stamp.sequence);
            arrivals.reordered += u64::from(last >= Some(stamp.sequence));
            arrivals.sequences.push(stamp.sequence);
            let last = arrived.last.insert((stamp.sender, group), stamp.sequence);
            arrived.reordered_across += u64::from(last >= Some(stamp.sequence));
        }
    }

    /// Starts an actor that records all its frames here.
    pub(crate) fn recorder(&self) -> Recipient<Inbound> {
        Recorder(self.clone()).start().recipient()
    }
}

/// Passes the frames of its groups to a record.
struct Recorder(Record);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Recorder {
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
    /// Missing frames that the proxy had taken.
    pub(crate) lost_in_proxy: u64,
    /// Missing frames that were in a kernel when it reset the connection.
    pub(crate) lost_by_reset: u64,
    /// Frames that the proxy saw in part and that were sent again, whole, on the next connection.
    pub(crate) resent: u64,
    /// Frames that the sender dropped because three connections were cut within them.
    pub(crate) given_up: u64,
    /// Contradictions.
    pub(crate) unexplained: Vec<String>,
}

/// The most that a reset can lose in the kernels: unsent bytes of the sender, and unread bytes of
/// the proxy's socket with the small buffer that the rows set.
const IN_KERNELS: u64 = (4 << 20) + (64 << 10);

/// Reconciles the frames of a sender whose queue dropped nothing but frames that were cut too often: it
/// accepted the sequences from 0 on, and all others of them were written. `lens` returns the length of a sequence's frame on the wire.
pub(crate) fn reconcile(
    id: u8,
    sent: &SendStats,
    connections: &[ProxyConnection],
    arrived: &Arrived,
    lens: impl Fn(u64) -> u64,
) -> Reconciled {
    let mut found = Reconciled::default();
    let accepted = sent.accepted.frames;
    let cut_off = sent.dropped.cut_off;
    found.given_up = cut_off.frames;
    // Those that do not explain a gap yet.
    let mut given_up = cut_off.frames;
    if sent.written + cut_off != sent.accepted {
        let problem = format!(
            "sender {id}: accepted {}, wrote {}",
            sent.accepted, sent.written
        );
        found.unexplained.push(problem);
    }
    let mut seen = NumberSet::new(accepted);
    let mut taken = NumberSet::new(accepted);
    let none = Arrivals::default();
    // The next sequence to see on the wire if nothing is lost in a kernel.
    let mut next = 0;
    // How many connections since then left unread bytes in a kernel, and whether one cut a frame.
    let (mut leaks, mut cut) = (0, false);
    for (number, connection) in connections.iter().enumerate() {
        let arrivals = arrived.arrivals.get(&(id, number as u64)).unwrap_or(&none);
        let mut problem = |text: String| {
            found
                .unexplained
                .push(format!("sender {id}, connection {number}: {text}"));
        };

        // What the sender wrote: each frame once, and none left out except after a reset.
        for sequence in connection.taken.sequences() {
            if !taken.set(sequence) {
                problem(format!("frame {sequence} was sent twice"));
            }
        }
        if let (Some(first), Some(last)) = (connection.taken.first(), connection.taken.last()) {
            if connection.taken.runs.len() > 1 {
                problem(format!("frames were left out: {:?}", connection.taken.runs));
            }
            if first < next {
                problem(format!("begins with {first}, expected {next}"));
            }
            if first > next {
                let mut bytes: u64 = (next..first).map(&lens).sum();
                if bytes > leaks * IN_KERNELS && given_up > 0 {
                    // The sender has given up the frame that was cut.
                    bytes -= lens(next);
                    given_up -= 1;
                }
                if bytes > leaks * IN_KERNELS {
                    problem(format!("{next} to {first} were never seen, {bytes} bytes"));
                }
                found.lost_by_reset += first - next;
            } else {
                found.resent += u64::from(cut);
            }
            next = last + 1;
            (leaks, cut) = (0, false);
        }
        leaks += u64::from(!connection.drained);
        cut |= connection.taken.partial() > 0;

        // What the receiver got.
        let mut came = arrivals.sequences.clone();
        came.sort_unstable();
        for &sequence in &came {
            if !seen.set(sequence) {
                found.duplicate += 1;
            }
        }
        let mut forwarded = connection.forwarded.sequences();
        if let Some(stranger) = came.iter().find(|&&came| forwarded.next() != Some(came)) {
            found.unexplained.push(format!(
                "sender {id}, connection {number}: frame {stranger} was received and was not next"
            ));
        }
        if connection.delivered_all()
            && let Some(lost) = forwarded.next()
        {
            found.unexplained.push(format!(
                "sender {id}, connection {number}: frame {lost} was forwarded and not received"
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
        found.lost_by_reset += accepted - next;
    }
    found.lost_in_proxy = taken.count - seen.count.min(taken.count);
    found
}

impl Reconciled {
    /// Adds the result of another sender.
    pub(crate) fn add(&mut self, other: Reconciled) {
        self.received += other.received;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.lost_in_proxy += other.lost_in_proxy;
        self.lost_by_reset += other.lost_by_reset;
        self.resent += other.resent;
        self.given_up += other.given_up;
        self.unexplained.extend(other.unexplained);
    }

    /// Adds the results to the figures, and requires that there are no faults.
    pub(crate) fn add_to(&self, corrupt: u64, figures: &mut Figures) {
        let Reconciled {
            duplicate,
            reordered,
            ..
        } = self;
        for problem in &self.unexplained {
            figures.require(false, || problem.clone());
        }
        figures.require(corrupt == 0, || format!("{corrupt} frames corrupt"));
        figures.require(*duplicate == 0, || {
            format!("{duplicate} frames received twice")
        });
        figures.require(*reordered == 0, || {
            format!("{reordered} frames out of order")
        });
        figures.add("received", self.received);
        figures.add("lost in the proxy", self.lost_in_proxy);
        figures.add("lost by a reset", self.lost_by_reset);
        figures.add("sent again whole", self.resent);
        figures.add("given up", self.given_up);
        figures.add("corrupt", corrupt);
        figures.add("duplicate", duplicate);
        figures.add("reordered", reordered);
        figures.add("unexplained", self.unexplained.len());
    }
}

/// A set of small numbers.
struct NumberSet {
    words: Vec<u64>,
    count: u64,
}

impl NumberSet {
    fn new(len: u64) -> Self {
        NumberSet {
            words: vec![0; len.div_ceil(64) as usize],
            count: 0,
        }
    }

    /// Adds a number. Returns whether it is new and in range.
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

/// Checks that each kind of fault is detected. Otherwise the rows could pass without checking.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Cut, Ended, Ending, Side, Trace, wire};

    /// Returns a connection that took some frames, forwarded some of them, and was cut.
    fn connection(taken: std::ops::Range<u64>, forwarded: u64, drained: bool) -> ProxyConnection {
        let trace = |frames| {
            let mut trace = Trace::default();
            trace.feed(&wire(frames));
            trace
        };
        let mut connection = ProxyConnection::default();
        connection.forwarded = trace(taken.start..forwarded);
        connection.taken = trace(taken);
        connection.drained = drained;
        connection.ended = Some(Ended::Cut(Cut {
            after: 0,
            ending: Ending::Fin,
            side: Side::Sender,
        }));
        connection
    }

    /// Two connections, the first cut with 3 of 5 frames forwarded, and all of 10 frames written.
    struct Scenario {
        connections: Vec<ProxyConnection>,
        came: Vec<Vec<u64>>,
        sent: SendStats,
    }

    impl Scenario {
        fn new() -> Self {
            let mut sent = SendStats::default();
            sent.accepted.frames = 10;
            sent.written.frames = 10;
            Scenario {
                connections: vec![connection(0..5, 3, true), connection(5..10, 10, true)],
                came: vec![vec![0, 1, 2], vec![5, 6, 7, 8, 9]],
                sent,
            }
        }

        fn reconcile(self) -> Reconciled {
            let mut arrived = Arrived::default();
            for (number, sequences) in (0..).zip(self.came) {
                let arrivals = Arrivals {
                    sequences,
                    ..Arrivals::default()
                };
                arrived.arrivals.insert((1, number), arrivals);
            }
            reconcile(1, &self.sent, &self.connections, &arrived, |_| 50)
        }
    }

    #[test]
    fn a_loss_in_the_proxy_is_explained() {
        let found = Scenario::new().reconcile();
        assert_eq!(found.unexplained, [""; 0]);
        assert_eq!(
            (found.received, found.lost_in_proxy, found.lost_by_reset),
            (8, 2, 0)
        );
    }

    #[test]
    fn a_loss_in_a_kernel_is_explained_only_by_a_reset() {
        for drained in [true, false] {
            let mut scenario = Scenario::new();
            scenario.connections[0] = connection(0..4, 3, drained);
            let found = scenario.reconcile();
            assert_eq!(found.unexplained.is_empty(), !drained);
            assert_eq!(found.lost_by_reset, 1);
        }
    }

    #[test]
    fn a_frame_sent_twice_is_found_even_if_received_once() {
        let mut scenario = Scenario::new();
        scenario.connections[1] = connection(4..10, 10, true);
        scenario.came[1].insert(0, 4);
        let found = scenario.reconcile();
        assert!(
            found.unexplained[0].contains("frame 4 was sent twice"),
            "{found:?}"
        );
        assert_eq!(found.duplicate, 0);
    }

    #[test]
    fn a_frame_received_twice_is_found() {
        let mut scenario = Scenario::new();
        scenario.connections[1] = connection(2..10, 10, true);
        scenario.came[1].splice(0..0, 2..5);
        assert_eq!(scenario.reconcile().duplicate, 1);
    }

    #[test]
    fn a_frame_forwarded_and_not_received_is_found() {
        let mut scenario = Scenario::new();
        scenario.came[1].pop();
        assert!(scenario.reconcile().unexplained[0].contains("frame 9 was forwarded"));
    }

    #[test]
    fn a_frame_received_and_not_forwarded_is_found() {
        let mut scenario = Scenario::new();
        scenario.came[0].push(3);
        assert!(scenario.reconcile().unexplained[0].contains("frame 3 was received"));
    }

    #[test]
    fn a_skipped_frame_is_found() {
        let mut scenario = Scenario::new();
        let mut trace = Trace::default();
        trace.feed(&wire((5..7).chain(8..10)));
        (
            scenario.connections[1].taken,
            scenario.connections[1].forwarded,
        ) = (trace.clone(), trace);
        scenario.came[1] = vec![5, 6, 8, 9];
        assert!(scenario.reconcile().unexplained[0].contains("frames were left out"));
    }

    #[test]
    fn a_wrong_counter_is_found() {
        let mut scenario = Scenario::new();
        scenario.sent.written.frames = 9;
        assert!(!scenario.reconcile().unexplained.is_empty());
    }
}
