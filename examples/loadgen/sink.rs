//! The sink: counts what comes in.

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
    report::Report,
    tally::{Harvest, Tally},
};

/// Bytes that a frame has beside its payload.
const HEADER: u64 = 8;

/// Counts what comes in, until there is enough of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Ends when so many frames are there.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    frames: Option<u64>,

    /// Ends after so many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,

    /// Groups to serve, from 0 on; frames for others are dropped.
    #[arg(long, value_name = "G", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..=10_000))]
    groups: u32,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut node = Node::bind(&args.node, args.node.config())?;
    let (enough, has_enough) = oneshot::channel();
    let counter = Counter {
        tally: Tally::default(),
        goal: args.frames,
        enough: Some(enough),
    };
    let counter = counter.start();
    for group in 0..args.groups {
        let recipient = counter.clone().recipient();
        node.transport.register(GroupId::new(group), recipient)?;
    }
    node.announce();

    tokio::select! {
        _ = has_enough => {}
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let tally = counter.send(Harvest).await?;
    let mut report = Report::new("sink", stats).measured(tally.count, tally.time());
    let delivered = stats.inbound.delivered;
    if tally.count != delivered {
        report.complain(format!("counted {}, not {delivered}", tally.count));
    }
    report.conclude(args.node.json)
}

struct Counter {
    tally: Tally,
    goal: Option<u64>,
    /// Taken when the goal is reached.
    enough: Option<oneshot::Sender<()>>,
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
            // Looked at, as anybody would who has a use for it: it has to come to this core.
            black_box((payload.first(), payload.last()));
            count.frames += 1;
            count.bytes += HEADER + payload.len() as u64;
        }
        self.tally.add(count, begun);
        if self
            .goal
            .is_some_and(|goal| self.tally.count.frames >= goal)
            && let Some(enough) = self.enough.take()
        {
            // Nobody listens when the time was up at the same moment.
            let _ = enough.send(());
        }
    }
}

impl Handler<Harvest> for Counter {
    type Result = Tally;

    fn handle(&mut self, _: Harvest, _: &mut Context<Self>) -> Tally {
        self.tally
    }
}
