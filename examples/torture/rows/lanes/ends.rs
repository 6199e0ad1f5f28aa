//! The processes and the proxies between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    child::{LaneChild, Outcome, SentMessage},
    load::LANES,
    log::{Faults, LaneOf},
    message::MessageId,
    node::Args,
};
use crate::{
    fixed_port::FixedPort,
    named_child::LONG,
    proxy::{CUTS, Cut, Hold, Plan, Proxy, Sockets},
    row::Failure,
    world::{ProxyRuntime, pause},
};

const MS: Duration = Duration::from_millis(1);
const SENDERS: u32 = 2;
const RECEIVER: u32 = 9;

/// Small buffers, so that a proxy that does not read soon fills the senders' queues.
const SOCKETS: Sockets = Sockets {
    receive_buffer: Some(64 << 10),
    segment: None,
};

/// More than the two ends say before the first frame, and the first frame.
const CONTACT: u64 = 4 << 10;

/// All processes and proxies.
pub(super) struct Ends {
    pub(super) receiver: LaneChild,
    port: FixedPort,
    pub(super) senders: Vec<SendingEnd>,
    pub(super) runtime: ProxyRuntime,
    /// Whether the proxies leave new connections alone.
    calm: Arc<AtomicBool>,
    /// Where the numbers of each lane begin for a receiver that was not there from the first one on: not before the
    /// one and not behind the other.
    pub(super) begins: BTreeMap<LaneOf, (u64, u64)>,
    /// The large messages of all lives.
    pub(super) got: BTreeSet<MessageId>,
    pub(super) sent: BTreeMap<MessageId, SentMessage>,
    /// Those that had to arrive, because their connection lived on, and did.
    pub(super) certain: BTreeSet<MessageId>,
    pub(super) got_twice: u64,
    /// What killed receivers found.
    pub(super) faults: Faults,
    pub(super) incomplete_before: u64,
    pub(super) killed: (u64, u64),
    pub(super) most_memory: (u64, u64),
}

/// One sender and its proxy.
pub(super) struct SendingEnd {
    pub(super) node: LaneChild,
    pub(super) proxy: Proxy,
}

impl Ends {
    /// Starts everything. The proxies leave all connections alone at first.
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let (port, runtime) = (FixedPort::reserve()?, ProxyRuntime::start()?);
        let calm = Arc::new(AtomicBool::new(true));
        let mut ends = Ends {
            receiver: LaneChild::start(receiver_args(&port, 1))?,
            senders: Vec::new(),
            runtime,
            calm,
            begins: BTreeMap::new(),
            got: BTreeSet::new(),
            sent: BTreeMap::new(),
            certain: BTreeSet::new(),
            got_twice: 0,
            faults: Faults::default(),
            incomplete_before: 0,
            killed: (0, 0),
            most_memory: (0, 0),
            port,
        };
        for node in 1..=SENDERS {
            let calm = ends.calm.clone();
            let plan = move |number| match calm.load(Relaxed) {
                true => Plan::default(),
                false => plan(seed, node, number),
            };
            let (runtime, to) = (&ends.runtime.runtime, ends.port.addr);
            let proxy = Proxy::start(runtime, node as u8, to, SOCKETS, plan)?;
            let args = Args {
                node,
                incarnation: 1,
                seed: seed ^ u64::from(node) << 40,
                addr: ([127, 0, 0, 1], 0).into(),
                to: Some(proxy.addr()),
            };
            let node = LaneChild::start(args)?;
            ends.senders.push(SendingEnd { node, proxy });
            ends.first_contact(ends.senders.len() - 1)?;
        }
        Ok(ends)
    }

    /// Sends single frames until one has come on each lane. Notes where their numbers may begin.
    fn first_contact(&mut self, index: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            let sender = &mut self.senders[index].node;
            sender.tell("one")?;
            let again = Instant::now() + 500 * MS;
            while Instant::now() < again {
                if self.is_heard(index)? {
                    return self.note_begins(index, [0; 3]);
                }
                pause(MS);
            }
        }
        Err(Failure::error("a sender is not heard"))
    }

    /// Returns whether the receiver has got something on each lane of the sender.
    fn is_heard(&mut self, index: usize) -> Result<bool, Failure> {
        self.receiver.look()?;
        let (node, incarnation) = self.senders[index].node.life();
        let heard = |lane: u8| self.receiver.heard.contains(&(node, incarnation, lane));
        Ok(LANES.iter().all(|lane| heard(lane.get())))
    }

    /// Notes that the numbers of a sender begin behind those that a former receiver had, and not behind those that
    /// are accepted by now.
    fn note_begins(&mut self, index: usize, behind: [u64; 3]) -> Result<(), Failure> {
        let sender = &mut self.senders[index].node;
        let (node, incarnation) = sender.life();
        let sent = sender.report()?.sent;
        for (lane, (known, sent)) in LANES.iter().zip(behind.into_iter().zip(sent.lanes)) {
            let begin = (known, sent.accepted);
            self.begins.insert((node, incarnation, lane.get()), begin);
        }
        Ok(())
    }

    /// Returns how many frames the present senders have accepted on the normal lane, how many large messages all have
    /// brought to an end, and how many of them failed.
    pub(super) fn done(&mut self) -> Result<(u64, u64, u64), Failure> {
        let mut accepted = 0;
        for sender in &mut self.senders {
            accepted += sender.node.report()?.sent.lanes[0].accepted;
        }
        self.gather()?;
        let messages = self.sent.values();
        let failed = messages.filter(|message| message.outcome == Outcome::Error);
        Ok((accepted, self.sent.len() as u64, failed.count() as u64))
    }

    /// Adds what the processes have printed to what is known of large messages.
    pub(super) fn gather(&mut self) -> Result<(), Failure> {
        self.receiver.look()?;
        for id in self.receiver.got.drain(..) {
            self.got_twice += u64::from(!self.got.insert(id));
        }
        for sender in &mut self.senders {
            sender.node.look()?;
            let (node, incarnation) = sender.node.life();
            for (&number, &message) in &sender.node.sent {
                let id = MessageId {
                    sender: node,
                    incarnation,
                    number,
                };
                self.sent.insert(id, message);
            }
            sender.node.sent.clear();
        }
        Ok(())
    }

    /// Has all senders do something.
    pub(super) fn tell_all(&mut self, what: &str) -> Result<(), Failure> {
        self.senders
            .iter_mut()
            .try_for_each(|sender| sender.node.tell(what))
    }

    /// Leaves all connections alone from now on, or none, beginning with new ones.
    pub(super) fn set_calm(&mut self, calm: bool) {
        self.calm.store(calm, Relaxed);
        for sender in &self.senders {
            sender.proxy.cut(CUTS[0].0, CUTS[0].1);
        }
    }

    /// Kills the last sender under load, and starts its next incarnation.
    pub(super) fn replace_last_sender(&mut self) -> Result<(), Failure> {
        let index = self.senders.len() - 1;
        self.senders[index].node.kill()?;
        self.gather()?;
        self.killed.0 += 1;
        let sender = &mut self.senders[index];
        let mut args = sender.node.args.clone();
        args.incarnation += 1;
        sender.node = LaneChild::start(args)?;
        self.first_contact(index)?;
        self.senders[index].node.tell("load")
    }

    /// Kills the receiver under load, and starts its next incarnation, while the senders send on.
    pub(super) fn replace_receiver(&mut self, absence: Duration) -> Result<(), Failure> {
        let got = self.receiver.report()?;
        self.faults.add(got.log.faults);
        self.incomplete_before += got.incomplete;
        self.most_memory.0 = self.most_memory.0.max(got.most_memory);
        self.receiver.kill()?;
        self.gather()?;
        self.killed.1 += 1;
        pause(absence);
        let incarnation = self.receiver.args.incarnation + 1;
        self.receiver = LaneChild::start(receiver_args(&self.port, incarnation))?;
        let deadline = Instant::now() + LONG;
        for index in 0..self.senders.len() {
            while !self.is_heard(index)? {
                if Instant::now() > deadline {
                    return Err(Failure::error("the new receiver does not hear all lanes"));
                }
                pause(MS);
            }
            let (node, incarnation) = self.senders[index].node.life();
            let known = LANES.map(|lane| {
                let of = (node, incarnation, lane.get());
                let seen = got.log.lanes.get(&of).copied().unwrap_or_default();
                seen.all() + seen.missing
            });
            self.note_begins(index, known)?;
        }
        Ok(())
    }

    /// Ends all processes in an orderly way.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        for sender in &mut self.senders {
            sender.node.end()?;
        }
        self.receiver.end()
    }
}

fn receiver_args(port: &FixedPort, incarnation: u32) -> Args {
    Args {
        node: RECEIVER,
        incarnation,
        seed: 0,
        addr: port.addr,
        to: None,
    }
}

/// Returns what happens to a connection.
fn plan(seed: u64, node: u32, number: u64) -> Plan {
    let mut draw = fastrand::Rng::with_seed(seed ^ u64::from(node) << 56 ^ number << 24);
    let (ending, side) = CUTS[draw.usize(..CUTS.len())];
    // The lanes carry different amounts.
    let longest = 1 << draw.u32(12..25);
    let from = CONTACT + draw.u64(..longest);
    let cut = |after| Cut {
        after,
        ending,
        side,
    };
    match draw.u32(..10) {
        0..4 => Plan::default(),
        4..8 => Plan {
            cut: Some(cut(from)),
            ..Plan::default()
        },
        // Its last bytes arrive when another connection has been made. Some are too late for the receiver.
        _ => Plan {
            cut: Some(cut(from + 1 + draw.u64(..256 << 10))),
            hold: Some(Hold {
                from,
                time: MS * draw.u32(..300),
            }),
            ..Plan::default()
        },
    }
}
