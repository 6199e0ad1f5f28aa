//! A node with an identity in a child process: it sends numbered frames to its peers, records what it
//! receives, and checks its counters. The row can pause, kill and replace it as a whole process.
//!
//! ```text
//! row writes   node writes
//!              listening, when its port is open
//! load, quiet  done, when it offers frames, or offers no more
//! one          done, when it has sent one frame to each peer
//! report       report and its log, its counters, and what it sent to each peer, as JSON
//! end          end, when it has stopped
//!              limit PEER N, before it offers more than so many frames to a peer
//!              heard SENDER INCARNATION, at the first frame of each life of a sender
//!              refused ADDRESS REASON, when it or the other end refuses a connection that it dialled
//! ```

use std::{net::SocketAddr, time::Duration};

use actix::prelude::*;
use actix_transport::{
    Builder, Config, DownReason, Identity, NodeId, Overflow, PeerEvent, Sessions, Shutdown,
    Transport,
};
use serde_json::json;

use crate::{
    balance_watch::BalanceWatch,
    fixed_port::bind_again,
    node_load::Load,
    numbered_log::NumberedLog,
    row::Failure,
    sink::print_line,
    world::{self, ONE_EACH, Role},
};

pub(crate) const ROLE: Role = Role {
    name: "named-node",
    run,
};

const MS: Duration = Duration::from_millis(1);

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) node: u32,
    pub(crate) incarnation: u32,
    pub(crate) addr: SocketAddr,
    pub(crate) seed: u64,
    /// Frames to each peer in a millisecond, at most.
    pub(crate) pace: u64,
    /// The nodes to send to, and where they are. 0 is any node.
    pub(crate) peers: Vec<(u32, SocketAddr)>,
}

impl Args {
    pub(crate) fn to_words(&self) -> Vec<String> {
        let numbers = [
            self.node.into(),
            self.incarnation.into(),
            self.seed,
            self.pace,
        ];
        let numbers = numbers.map(|number: u64| number.to_string());
        let peers = self
            .peers
            .iter()
            .map(|(node, addr)| format!("{node}@{addr}"));
        let addr = self.addr.to_string();
        numbers.into_iter().chain([addr]).chain(peers).collect()
    }

    fn parse(words: &[String]) -> Result<Self, Failure> {
        let [node, incarnation, seed, pace, addr, peers @ ..] = words else {
            return Err(Failure::error("a named node needs more arguments"));
        };
        let peers = peers.iter().map(|peer| {
            let (node, addr) = peer.split_once('@').unwrap_or_default();
            Ok((node.parse()?, addr.parse()?))
        });
        Ok(Args {
            node: node.parse()?,
            incarnation: incarnation.parse()?,
            addr: addr.parse()?,
            seed: seed.parse()?,
            pace: pace.parse()?,
            peers: peers.collect::<Result<_, Failure>>()?,
        })
    }

    /// Returns what makes the transport. The queue is short and frames go stale soon, so that many are
    /// dropped. Redials are quick.
    fn builder(&self) -> Builder {
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .sessions(Sessions::Required)
            .overflow(Overflow::DropOldest)
            .queue_frames(2_000)
            .stale_after(80 * MS)
            .redial_first(2 * MS)
            .redial_max(50 * MS)
            .stable_after(Duration::ZERO)
            .connect_timeout(500 * MS)
            .handover_wait(100 * MS);
        let identity = Identity::new(NodeId::new(self.node.into()))
            .cluster("torture")
            .incarnation(self.incarnation.into());
        let mut builder = Transport::builder().config(config).identity(identity);
        for &(node, addr) in self.peers.iter().filter(|(node, _)| *node > 0) {
            builder = builder.peer(NodeId::new(node.into()), addr);
        }
        builder
    }
}

fn run(words: &[String]) -> Result<(), Failure> {
    world::system(serve(Args::parse(words)?))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let log = NumberedLog::default();
    let recorder = log.recorder(args.node, |sender, incarnation| {
        let _ = print_line(format!("heard {sender} {incarnation}"));
    });
    let builder = args
        .builder()
        .catch_all(recorder.clone().recipient())
        .subscribe(recorder.recipient())
        .subscribe(RefusalPrinter.start().recipient());
    let transport = bind_again(&builder, args.addr).await?;
    let snapshots = BalanceWatch::start([&transport]);
    let mut load = Load::new(&transport, &args)?;
    let mut questions = world::questions();
    print_line("listening")?;
    let mut tick = tokio::time::interval(MS);
    loop {
        tokio::select! {
            question = questions.recv() => match question.as_deref() {
                Some("load") => load.begin(),
                Some("quiet") => load.end(),
                Some("one") => load.one()?,
                Some("report") => {
                    snapshots.check()?;
                    let report = report(&transport, &log, &load)?;
                    print_line(format!("report {report}"))?;
                    continue;
                }
                Some("end") => {
                    transport.stop(Shutdown::Drain(Duration::from_secs(2))).await;
                    transport.stats().balance()?;
                    return print_line("end");
                }
                // The row has ended.
                _ => return Ok(()),
            },
            _ = tick.tick() => {
                load.offer()?;
                continue;
            }
        }
        print_line("done")?;
    }
}

/// Returns everything that the row wants to know.
fn report(
    transport: &Transport,
    log: &NumberedLog,
    load: &Load,
) -> Result<serde_json::Value, Failure> {
    let stats = transport.stats();
    stats.balance()?;
    let inbound = stats.inbound;
    Ok(json!({
        "log": log.lock().to_json(),
        "inbound": [
            inbound.announced,
            inbound.numbered,
            inbound.missing,
            inbound.dropped.total().frames,
        ],
        "refusals": stats.links.refusals,
        "sent": load.sent(),
    }))
}

/// Prints refusals for the row.
struct RefusalPrinter;

impl Actor for RefusalPrinter {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for RefusalPrinter {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        if let PeerEvent::Down {
            addr,
            reason: DownReason::Refused(reason),
            ..
        } = event
        {
            let _ = print_line(format!("refused {addr} {reason:?}"));
        }
    }
}
