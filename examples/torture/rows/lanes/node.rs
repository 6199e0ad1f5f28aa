//! A node in a child process that sends on three lanes, or records what comes on them.
//!
//! ```text
//! row writes   node writes
//!              listening, when its port is open
//! load, quiet  done, when it sends, or begins no more
//! one          done, when it has sent one frame on each lane
//! burst        done, when it has offered more than the normal lane takes
//! half         done, when it has cancelled a message that was half sent
//! report       report and what it sent, received and holds, as JSON
//! end          end, when it has stopped
//!              sent NUMBER EPOCH EPOCH OUTCOME, when it is done with a large message
//!              heard SENDER INCARNATION LANE, when the first frame of a lane comes
//!              got SENDER INCARNATION NUMBER, when a large message comes
//! ```

use std::{net::SocketAddr, time::Duration};

use actix_transport::{
    Config, Identity, LaneConfig, NodeId, Overflow, Sessions, Shutdown, Transport,
};
use actix_transport::{Lane, Stats};
use serde_json::{Value, json};

use super::{
    load::{LANES, Load},
    log::LaneLog,
    message::LONGEST,
};
use crate::{
    balance_watch::BalanceWatch,
    fixed_port::bind_again,
    heap,
    row::Failure,
    sink::print_line,
    world::{self, ONE_EACH, Role},
};

pub(crate) const ROLE: Role = Role {
    name: "lanes-node",
    run,
};

const MS: Duration = Duration::from_millis(1);

/// Memory for what is received: all messages that the senders may send at the same time, twice, because a link that
/// has ended may not be read to its end when the next one brings them again.
pub(super) const INBOUND: usize = 9 * LONGEST;

/// Bytes in the queue of the bulk lane.
pub(super) const BULK_BYTES: usize = 8 << 20;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub(super) struct Args {
    pub(super) node: u32,
    pub(super) incarnation: u32,
    pub(super) seed: u64,
    pub(super) addr: SocketAddr,
    /// Where it sends. `None` for the receiver.
    pub(super) to: Option<SocketAddr>,
}

impl Args {
    pub(super) fn to_words(&self) -> Vec<String> {
        let numbers = [self.node.into(), self.incarnation.into(), self.seed];
        let addrs = [Some(self.addr), self.to].into_iter().flatten();
        numbers
            .map(|number: u64| number.to_string())
            .into_iter()
            .chain(addrs.map(|addr| addr.to_string()))
            .collect()
    }

    fn parse(words: &[String]) -> Result<Self, Failure> {
        let [node, incarnation, seed, addr, to @ ..] = words else {
            return Err(Failure::error("a node of lanes needs more arguments"));
        };
        Ok(Args {
            node: node.parse()?,
            incarnation: incarnation.parse()?,
            seed: seed.parse()?,
            addr: addr.parse()?,
            to: to.first().map(|to| to.parse()).transpose()?,
        })
    }
}

/// Queues are short and frames go stale soon, so that many are dropped. Redials are quick.
fn config() -> Config {
    let control = LaneConfig::new().stale_after(200 * MS);
    let bulk = LaneConfig::new()
        .overflow(Overflow::RejectNewest)
        .queue_bytes(BULK_BYTES)
        .stale_after(400 * MS);
    Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .sessions(Sessions::Required)
        .overflow(Overflow::DropOldest)
        .queue_frames(2_000)
        .stale_after(80 * MS)
        .lane(Lane::CONTROL, control)
        .lane(Lane::BULK, bulk)
        .redial_first(2 * MS)
        .redial_max(50 * MS)
        .stable_after(Duration::ZERO)
        .connect_timeout(500 * MS)
        .handover_wait(100 * MS)
        .max_message(LONGEST)
        .inbound_bytes(INBOUND)
}

fn run(words: &[String]) -> Result<(), Failure> {
    world::system(serve(Args::parse(words)?))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let log = LaneLog::default();
    let recorder = log.recorder();
    let identity = Identity::new(NodeId::new(args.node.into()))
        .cluster("torture")
        .incarnation(args.incarnation.into());
    let builder = Transport::builder()
        .config(config())
        .identity(identity)
        .catch_all(recorder.clone().recipient())
        .subscribe(recorder.recipient());
    let transport = bind_again(&builder, args.addr).await?;
    let snapshots = BalanceWatch::start([&transport]);
    let load = match args.to {
        None => None,
        Some(to) => {
            let peer = transport.peer(to)?;
            Some(Load::start(&peer, args.node, args.incarnation, args.seed))
        }
    };
    let (mut questions, mut most_memory) = (world::questions(), 0);
    print_line("listening")?;
    let mut tick = tokio::time::interval(MS);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            question = questions.recv() => match (question.as_deref(), &load) {
                (Some("report"), _) => {
                    snapshots.check()?;
                    let stats = transport.stats();
                    stats.balance()?;
                    let mut report = receiving(&stats, &log);
                    report["memory"] = most_memory.into();
                    report["heap"] = heap::allocated().into();
                    if let Some(load) = &load {
                        lanes_agree(&stats, &transport)?;
                        report["sent"] = load.to_json();
                    }
                    print_line(format!("report {report}"))?;
                    continue;
                }
                (Some("end"), _) => {
                    transport.stop(Shutdown::Drain(Duration::from_secs(2))).await;
                    transport.stats().balance()?;
                    snapshots.check()?;
                    return print_line("end");
                }
                (Some("load"), Some(load)) => load.set_on(true),
                (Some("quiet"), Some(load)) => load.set_on(false),
                (Some("one"), Some(load)) => load.one()?,
                (Some("burst"), Some(load)) => load.burst()?,
                (Some("half"), Some(load)) => load.send_half().await,
                // The row has ended.
                _ => return Ok(()),
            },
            _ = tick.tick() => {
                most_memory = heap::allocated().max(most_memory);
                load.as_ref().map_or(Ok(()), Load::tick)?;
                continue;
            }
        }
        print_line("done")?;
    }
}

/// Fails unless the counters of each lane are those of the only peer on that lane.
fn lanes_agree(stats: &Stats, transport: &Transport) -> Result<(), Failure> {
    // What is accepted meanwhile is in the later snapshot only.
    for peer in transport.peers() {
        peer.balance()?;
        let of_lane = stats.lanes[usize::from(peer.lane.get())];
        let is_behind = of_lane.accepted.frames <= peer.frames.accepted.frames
            && of_lane.written.frames <= peer.frames.written.frames;
        if !is_behind || !LANES.contains(&peer.lane) {
            let lane = peer.lane;
            return Err(Failure::error(format!("lane {lane} has other counters")));
        }
    }
    Ok(())
}

/// Returns what was received.
fn receiving(stats: &Stats, log: &LaneLog) -> Value {
    let inbound = stats.inbound;
    json!({
        "log": log.lock().to_json(),
        "inbound": [
            inbound.announced,
            inbound.numbered,
            inbound.missing,
            inbound.received.frames,
            inbound.dropped.incomplete.frames,
            inbound.dropped.superseded.frames,
            inbound.dropped.total().frames,
            inbound.in_delivery.frames,
        ],
    })
}
