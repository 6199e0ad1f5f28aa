//! The echo role: sends each received frame back, in the same group and on the same lane. Bulk frames of beat, which
//! have a group of their own, are only counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::{Inbound, PeerAddr, Sender};
use futures::future::OptionFuture;
use tokio::time::sleep;

use crate::{
    Failure, bulk,
    link::Link,
    node::{Node, NodeArgs},
    received::{GetReceived, Received},
    report::Report,
};

/// Sends every received frame, of any group but that of beat's bulk frames, back to the node that sent it, or to
/// one address.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where ping listens: ip:port or name:port. Needed for frames of senders that do not introduce
    /// themselves, because their connections do not show it.
    #[arg(long, value_name = "ADDR")]
    reply_to: Option<PeerAddr>,

    /// How long the handler of beat's bulk frames takes for each, such as 100ms.
    #[arg(long, value_name = "S", default_value = "0", value_parser = crate::seconds)]
    bulk_delay: Duration,

    /// Ends after this many seconds.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Option<Duration>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if args.reply_to.is_none() && !args.node.identity.has_sessions() {
        return Err("--reply-to is missing: without --node, senders are not known".into());
    }
    let mut node = Node::bind(&args.node, args.node.config())?;
    let reply_to = args.reply_to.as_ref();
    let reply_to = reply_to.map(|to| Link::new(&node.transport, to, args.node.udp));
    let unanswered = Arc::new(AtomicU64::new(0));
    let echo = Echo {
        reply_to: reply_to.transpose()?,
        received: Received::default(),
        unanswered: unanswered.clone(),
    };
    let echo = echo.start();
    node.transport.catch_all(Some(echo.clone().recipient()));
    let bulk = bulk::Counter::new(args.bulk_delay).start();
    let recipient = bulk.clone().recipient();
    node.transport.register(bulk::GROUP, recipient)?;
    node.announce();

    tokio::select! {
        Some(()) = OptionFuture::from(args.seconds.map(sleep)) => {}
        () = &mut node.interrupt => {}
    }
    let stats = node.finish().await;
    let received = echo.send(GetReceived).await?;
    let bulk = bulk.send(GetReceived).await?;
    let mut report = Report::new("echo", stats)
        .measured(received.count, received.time())
        .with("bulk_frames", bulk.count.frames);
    let unanswered = unanswered.load(Relaxed);
    if unanswered > 0 {
        report.fail(format!(
            "{unanswered} frames of unknown senders have no answer, because there is no --reply-to"
        ));
    }
    report.print(&args.node)
}

struct Echo {
    /// Where the answers to unknown senders go.
    reply_to: Option<Link>,
    received: Received,
    /// Frames of unknown senders that could not be answered.
    unanswered: Arc<AtomicU64>,
}

impl Echo {
    /// Returns where the answers go: over the connection of the frames, which is that of their lane, if their
    /// sender is known.
    fn link_back(&self, inbound: &Inbound) -> Option<Link> {
        let sender = inbound.sender().map(Sender::peer);
        // Fails if there are too many peers, or the transport has stopped.
        let peer = sender.and_then(Result::ok);
        let lane = peer.map(|peer| peer.lane(inbound.lane()));
        lane.map(Link::Tcp).or_else(|| self.reply_to.clone())
    }
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
        let Some(link) = self.link_back(&inbound) else {
            let frames = inbound.remaining().frames;
            self.unanswered.fetch_add(frames, Relaxed);
            return Box::pin(async {});
        };
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
