//! Connections are cut at random places while large messages come on them. Each message arrives once and whole or not at
//! all, and its sender learns how its sending ended: written, or given up after three connections.
//!
//! That a message was written does not mean that it arrived: a cut loses what kernels and the proxy hold. But then the
//! receiver is told of the parts that it did not get, so in the end received + told as missing = accepted.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler};
use actix_transport::{
    Config, GroupId, Identity, Inbound, Lane, LargeError, NodeId, Peer, Shutdown, Transport,
};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::{
    proxy::{CUTS, Cut, Plan, Proxy, Sockets},
    row::{Failure, Figures, Row, Run},
    rows::lanes::MessageId,
    world::{self, ONE_EACH, ProxyRuntime, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "torn",
    what: "large messages, cut at 100 random places: none half, twice, or after an error",
    run: |run| world::system(torture(run)),
};

const GROUP: GroupId = GroupId::new(3);
const CUTS_MADE: u64 = 100;
const LONG: Duration = Duration::from_secs(60);

async fn torture(run: &Run) -> Result<Figures, Failure> {
    let len = run.tier.pick(24_000_000, 200_000_000);
    let (began, seed) = (Instant::now(), run.seed);
    run.progress.total(CUTS_MADE);
    let [sender, receiver] = [node(1)?, node(2)?];
    let recorder = Recorder::default();
    receiver.register(GROUP, recorder.clone().start().recipient())?;
    let proxy_runtime = ProxyRuntime::start()?;
    let target = receiver.local_addr();
    let plan = move |number| plan(seed, number, len);
    let proxy = Proxy::start(&proxy_runtime.runtime, 1, target, Sockets::default(), plan)?;
    let peer = sender.peer(proxy.addr())?.lane(Lane::BULK);

    let sent = send(run, &peer, &proxy, len).await?;
    // The last one was written on a connection that lives on.
    let last = sent.written.last().copied().unwrap_or(0);
    let came = || recorder.0.lock().whole.contains(&last);
    until("the last message came", LONG, came).await?;
    let accepted = peer.stats().frames.accepted.frames;
    let announced = || receiver.stats().inbound.announced == accepted;
    until(
        "all parts were received or told as missing",
        LONG,
        announced,
    )
    .await?;

    let mut figures = Figures::default();
    verdict(&sent, &recorder.0.lock(), &mut figures);
    let (inbound, (connections, cut)) = (receiver.stats().inbound, proxy.count());
    figures.require(cut as u64 == CUTS_MADE, || format!("{cut} cuts"));
    figures.add("cuts", cut);
    figures.add("connections", connections);
    figures.add("bytes of a message", len);
    figures.add("payload received", mib(inbound.delivered.bytes));
    figures.add("dropped as incomplete", inbound.dropped.incomplete.frames);
    figures.add("parts accepted", accepted);
    figures.add("of them told as missing", inbound.missing);
    for node in [sender, receiver] {
        node.stop(Shutdown::Drain(LONG)).await;
        node.stats().balance()?;
    }
    figures.add("seconds", began.elapsed().as_secs());
    figures.verdict()
}

fn node(id: u64) -> Result<Transport, Failure> {
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(5))
        .stable_after(Duration::ZERO);
    let identity = Identity::new(NodeId::new(id)).cluster("torture");
    let builder = Transport::builder().config(config).identity(identity);
    Ok(builder.bind("127.0.0.1:0")?)
}

/// Cuts each of the first connections in its first or second message.
fn plan(seed: u64, number: u64, len: usize) -> Plan {
    let mut draw = fastrand::Rng::with_seed(seed ^ (number + 1).wrapping_mul(0x9E37_79B9));
    let (ending, side) = CUTS[draw.usize(..CUTS.len())];
    // What is lost before the receiver has heard of the sender is not counted, so the first cut comes late.
    let first = if number == 0 { len as u64 } else { 0 };
    let after = draw.u64(first..2 * len as u64);
    Plan {
        cut: (number < CUTS_MADE).then_some(Cut {
            after,
            ending,
            side,
        }),
        ..Plan::default()
    }
}

/// The numbers of the messages, by how their sending ended.
#[derive(Default)]
struct Sent {
    written: Vec<u64>,
    failed: Vec<u64>,
}

/// Sends messages until all cuts have been made, and then until one is written.
async fn send(run: &Run, peer: &Peer, proxy: &Proxy, len: usize) -> Result<Sent, Failure> {
    let mut sent = Sent::default();
    for number in 0.. {
        let cut = proxy.count().1 as u64;
        run.progress.set_done(cut);
        let payload = id(number).payload(len);
        let sending = timeout(LONG, peer.send_large(GROUP, payload)).await;
        match sending {
            Ok(Ok(())) => sent.written.push(number),
            Ok(Err(LargeError::Cut)) => sent.failed.push(number),
            Ok(Err(err)) => return Err(err.into()),
            Err(_) => return Err(Failure::error(format!("message {number} has no end"))),
        }
        if cut == CUTS_MADE && sent.written.last() == Some(&number) {
            break;
        }
    }
    Ok(sent)
}

fn id(number: u64) -> MessageId {
    MessageId {
        sender: 1,
        incarnation: 0,
        number,
    }
}

fn verdict(sent: &Sent, received: &Received, figures: &mut Figures) {
    let Received { whole, twice, bad } = received;
    let after_error = sent.failed.iter().filter(|number| whole.contains(number));
    let after_error = after_error.count();
    for (what, number) in [
        ("half", *bad),
        ("twice", *twice),
        ("after an error", after_error),
    ] {
        figures.require(number == 0, || format!("{number} came {what}"));
        figures.add(what, number);
    }
    figures.add("messages", sent.written.len() + sent.failed.len());
    figures.add("written", sent.written.len());
    figures.add("received", whole.len());
    figures.add("failed", sent.failed.len());
    figures.require(whole.len() > 10, || "hardly any came".into());
}

/// The numbers of the messages that came.
#[derive(Default)]
struct Received {
    whole: BTreeSet<u64>,
    twice: usize,
    /// Not as the sender made them.
    bad: usize,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Received>>);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Recorder {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        for payload in inbound {
            let checked = MessageId::check(&payload);
            let mut received = self.0.lock();
            match checked {
                Some(MessageId { number, .. }) => {
                    let is_new = received.whole.insert(number);
                    received.twice += usize::from(!is_new);
                }
                None => received.bad += 1,
            }
        }
    }
}
