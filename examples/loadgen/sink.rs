//! The sink role: counts the frames it receives.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler};
use actix_transport::{Count, GroupId, Inbound};
use clap::value_parser;
use futures::future::OptionFuture;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    Failure,
    node::{Node, NodeArgs},
    received::{GetReceived, Received},
    report::Report,
};

/// Bytes of a frame in addition to its payload.
const HEADER: u64 = 8;

/// Counts received frames, up to a number or for a time.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Ends when this many frames have arrived.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// Ends after this many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,

    /// Groups to serve, from 0 on; frames for others are dropped.
    #[arg(long, value_name = "G", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..=10_000))]
    groups: u32,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut node = Node::bind(&args.node, args.node.config())?;
    let (reached_tx, reached) = oneshot::channel();
    let counter = Counter {
        received: Received::default(),
        goal: args.frames,
        reached_tx: Some(reached_tx),
    };
    let counter = counter.start();
    for group in 0..args.groups {
        let recipient = counter.clone().recipient();
        node.transport.register(GroupId::new(group), recipient)?;
    }
    node.announce();

    tokio::select! {
        _ = reached => {}
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let received = counter.send(GetReceived).await?;
    let mut report = Report::new("sink", stats).measured(received.count, received.time());
    let delivered = stats.inbound.delivered;
    if received.count != delivered {
        report.fail(format!("counted {}, not {delivered}", received.count));
    }
    report.print(&args.node)
}

struct Counter {
    received: Received,
    goal: Option<u64>,
    /// Taken when the goal is reached.
    reached_tx: Option<oneshot::Sender<()>>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Counter {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let begun = Instant::now();
        let mut count = Count::ZERO;
        for payload in inbound {
            // Reads the payload as a real program would, so that the bytes come to this core.
            black_box((payload.first(), payload.last()));
            count.frames += 1;
            count.bytes += HEADER + payload.len() as u64;
        }
        self.received.add(count, begun);
        if self
            .goal
            .is_some_and(|goal| self.received.count.frames >= goal)
            && let Some(reached_tx) = self.reached_tx.take()
        {
            // Fails if the time ended at the same moment.
            let _ = reached_tx.send(());
        }
    }
}

impl Handler<GetReceived> for Counter {
    type Result = Received;

    fn handle(&mut self, _: GetReceived, _: &mut Context<Self>) -> Received {
        self.received
    }
}
