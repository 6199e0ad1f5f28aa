//! The processes and the proxies between them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    fixed_port::FixedPort,
    named_child::{LONG, NamedChild},
    named_node::Args,
    numbered_log::Faults,
    proxy::{CUTS, Cut, Hold, Plan, Proxy, Sockets},
    row::Failure,
    world::{ProxyRuntime, pause},
};

const MS: Duration = Duration::from_millis(1);
const SENDERS: u32 = 3;
pub(super) const RECEIVER: u32 = 9;

/// Frames of each sender in a millisecond, at most.
const PACE: u64 = 200;

/// Small buffers, so that a proxy that does not read soon fills the sender's queue.
const SOCKETS: Sockets = Sockets {
    receive_buffer: Some(32 << 10),
    segment: None,
};

/// More than the two ends say before the first frame, and the first frame.
const CONTACT: u64 = 4 << 10;

/// A life of a sender: node and incarnation.
pub(super) type LifeId = (u32, u32);

/// All processes and proxies.
pub(super) struct Ends {
    pub(super) receiver: NamedChild,
    port: FixedPort,
    pub(super) senders: Vec<SendingEnd>,
    pub(super) runtime: ProxyRuntime,
    /// Whether the proxies leave new connections alone.
    calm: Arc<AtomicBool>,
    /// Of each killed sender's life, the most that it may have accepted.
    pub(super) killed: BTreeMap<LifeId, u64>,
    /// Of each sender's life, the number behind the last frame that a killed receiver is known to have got.
    pub(super) got_before: BTreeMap<LifeId, u64>,
    pub(super) receivers_killed: u64,
    /// What killed receivers found.
    pub(super) faults: Faults,
}

/// One sender and its proxy.
pub(super) struct SendingEnd {
    pub(super) node: NamedChild,
    pub(super) proxy: Proxy,
}

impl Ends {
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let (port, runtime) = (FixedPort::reserve()?, ProxyRuntime::start()?);
        let calm = Arc::new(AtomicBool::new(false));
        let receiver = NamedChild::start(receiver_args(&port, 1))?;
        let mut ends = Ends {
            receiver,
            senders: Vec::new(),
            calm,
            killed: BTreeMap::new(),
            got_before: BTreeMap::new(),
            receivers_killed: 0,
            faults: Faults::default(),
            port,
            runtime,
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
                addr: ([127, 0, 0, 1], 0).into(),
                seed: seed ^ u64::from(node) << 40,
                pace: PACE,
                peers: vec![(RECEIVER, proxy.addr())],
            };
            ends.senders.push(SendingEnd {
                node: NamedChild::start(args)?,
                proxy,
            });
            ends.first_contact(node as usize - 1)?;
        }
        Ok(ends)
    }

    /// Sends single frames until one is received, and more from then on. So the receiver hears of the sender
    /// from the first frame on that it received.
    fn first_contact(&mut self, index: usize) -> Result<(), Failure> {
        let sender = &mut self.senders[index].node;
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            sender.tell("one")?;
            let again = Instant::now() + 500 * MS;
            while Instant::now() < again {
                if self.receiver.has_heard(sender.life())? {
                    return sender.tell("load");
                }
                pause(MS);
            }
        }
        Err(Failure::error("a sender is not heard"))
    }

    /// Returns how many frames the present lives of all senders have accepted so far.
    pub(super) fn accepted(&mut self) -> Result<u64, Failure> {
        let mut all = 0;
        for sender in &mut self.senders {
            all += sender.node.report()?.sent[&RECEIVER].accepted;
        }
        Ok(all)
    }

    /// Has all senders do something.
    pub(super) fn tell_all(&mut self, what: &str) -> Result<(), Failure> {
        self.senders
            .iter_mut()
            .try_for_each(|sender| sender.node.tell(what))
    }

    /// Leaves all connections alone from now on, beginning with new ones.
    pub(super) fn calm_down(&mut self) {
        self.calm.store(true, Relaxed);
        for sender in &self.senders {
            sender.proxy.cut(CUTS[0].0, CUTS[0].1);
        }
    }

    /// Kills the last sender under load, and starts its next incarnation.
    pub(super) fn replace_last_sender(&mut self) -> Result<(), Failure> {
        let index = self.senders.len() - 1;
        let sender = &mut self.senders[index];
        sender.node.child.kill()?;
        sender.node.look()?;
        let limit = sender.node.limits.get(&RECEIVER).copied().unwrap_or(0);
        self.killed.insert(sender.node.life(), limit);
        let mut args = sender.node.args.clone();
        args.incarnation += 1;
        sender.node = NamedChild::start(args)?;
        self.first_contact(index)
    }

    /// Kills the receiver under load, and starts its next incarnation, while the senders send on.
    pub(super) fn replace_receiver(&mut self, absence: Duration) -> Result<(), Failure> {
        let got = self.receiver.report()?;
        self.faults.add(got.log.faults);
        for (life, seen) in got
            .log
            .lives
            .into_iter()
            .filter(|(_, seen)| seen.frames > 0)
        {
            let behind = self.got_before.entry(life).or_default();
            *behind = (*behind).max(seen.last + 1);
        }
        let incarnation = self.receiver.args.incarnation + 1;
        self.receiver.child.kill()?;
        self.receivers_killed += 1;
        pause(absence);
        self.receiver = NamedChild::start(receiver_args(&self.port, incarnation))?;
        let deadline = Instant::now() + LONG;
        for sender in &self.senders {
            while !self.receiver.has_heard(sender.node.life())? {
                if Instant::now() > deadline {
                    return Err(Failure::error("the new receiver does not hear all senders"));
                }
                pause(MS);
            }
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
        addr: port.addr,
        seed: 0,
        pace: 1,
        peers: Vec::new(),
    }
}

/// Returns what happens to a connection.
fn plan(seed: u64, node: u32, number: u64) -> Plan {
    let mut draw = fastrand::Rng::with_seed(seed ^ u64::from(node) << 56 ^ number << 24);
    let (ending, side) = CUTS[draw.usize(..CUTS.len())];
    let from = CONTACT + draw.u64(..2 << 20);
    let cut = |after| Cut {
        after,
        ending,
        side,
    };
    match draw.u32(..10) {
        0..4 => Plan::default(),
        4..7 => Plan {
            cut: Some(cut(from)),
            ..Plan::default()
        },
        // Its last bytes arrive when another connection has been made. Some are too late for the receiver.
        _ => Plan {
            cut: Some(cut(from + 1 + draw.u64(..64 << 10))),
            hold: Some(Hold {
                from,
                time: MS * draw.u32(..300),
            }),
            ..Plan::default()
        },
    }
}
