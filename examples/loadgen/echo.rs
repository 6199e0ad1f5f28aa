//! The echo: sends what comes in to one address, in the group in which it came.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::Inbound;
use futures::future::OptionFuture;
use tokio::time::sleep;

use crate::{
    Failure,
    link::Link,
    node::{Node, NodeArgs},
    report::Report,
    tally::{Harvest, Tally},
};

/// Sends what comes in, for whatever group, to one address.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where ping listens. Links are one-way, so this cannot be learned from what comes in.
    #[arg(long, value_name = "ADDR")]
    reply_to: SocketAddr,

    /// Ends after so many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut node = Node::bind(&args.node, args.node.config())?;
    let echo = Echo {
        link: Link::new(&node.transport, args.reply_to, args.node.udp)?,
        tally: Tally::default(),
    };
    let echo = echo.start();
    node.transport.catch_all(Some(echo.clone().recipient()));
    node.announce();

    tokio::select! {
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let tally = echo.send(Harvest).await?;
    let report = Report::new("echo", stats).measured(tally.count, tally.time());
    report.conclude(args.node.json)
}

struct Echo {
    link: Link,
    tally: Tally,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ResponseFuture<()>;

    /// The connection is read again when the future has resolved: while there is no room for the
    /// answers, no more questions come in.
    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> ResponseFuture<()> {
        self.tally.add(inbound.remaining(), Instant::now());
        let link = self.link.clone();
        Box::pin(async move {
            let group = inbound.group();
            for payload in inbound {
                // What is refused, when the transport stops or a frame is too long for a datagram,
                // stands in the counters.
                let _ = link.send(group, payload).await;
            }
        })
    }
}

impl Handler<Harvest> for Echo {
    type Result = Tally;

    fn handle(&mut self, _: Harvest, _: &mut Context<Self>) -> Tally {
        self.tally
    }
}
