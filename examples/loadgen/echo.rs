//! The echo role: sends each received frame to one address, in the same group.

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
    received::{GetReceived, Received},
    report::Report,
};

/// Sends every received frame, of any group, to one address.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where ping listens. Links are one-way, so the connection of ping does not show it.
    #[arg(long, value_name = "ADDR")]
    reply_to: SocketAddr,

    /// Ends after this many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut node = Node::bind(&args.node, args.node.config())?;
    let echo = Echo {
        link: Link::new(&node.transport, args.reply_to, args.node.udp)?,
        received: Received::default(),
    };
    let echo = echo.start();
    node.transport.catch_all(Some(echo.clone().recipient()));
    node.announce();

    tokio::select! {
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let received = echo.send(GetReceived).await?;
    let report = Report::new("echo", stats).measured(received.count, received.time());
    report.print(args.node.json)
}

struct Echo {
    link: Link,
    received: Received,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ResponseFuture<()>;

    /// The transport reads the connection again when the future has resolved: while there is no
    /// room for answers, no more questions come in.
    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> ResponseFuture<()> {
        self.received.add(inbound.remaining(), Instant::now());
        let link = self.link.clone();
        Box::pin(async move {
            let group = inbound.group();
            for payload in inbound {
                // A frame is refused if the transport stops or the frame is too long for a
                // datagram. The counters include it.
                let _ = link.send(group, payload).await;
            }
        })
    }
}

impl Handler<GetReceived> for Echo {
    type Result = Received;

    fn handle(&mut self, _: GetReceived, _: &mut Context<Self>) -> Received {
        self.received
    }
}
