//! This crate, used as its users would: producers on their own arbiters, and one actor that
//! receives.

use std::{net::SocketAddr, time::Duration};

use actix::{Actor, Arbiter, Context, Handler};
use actix_transport::{Builder, Config, GroupId, Identity, Inbound, NodeId, Shutdown, Transport};
use tokio::sync::oneshot;

use super::{
    cost::Cost,
    figures::Figures,
    goal::Goal,
    keys,
    pool::{LARGE, Pool},
    started::{announce, anywhere},
    work::{Work, append, touch},
};
use crate::{Failure, link::Link, node::Where, payload::fill};

/// Bytes queued for a peer, at most: six of the largest frames. If a queue is always full and
/// larger than the caches, every byte goes through memory twice. The default size is for bursts
/// instead.
const QUEUE: usize = 1600 << 10;

/// The longest frame. The queue could not hold a longer one.
const FRAME: usize = 1 << 20;

/// Longer than any run takes.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Binds a transport for one side of a run.
pub(super) fn bind(placement: Where, udp: bool) -> Result<Transport, Failure> {
    Ok(builder(placement, udp).bind(anywhere())?)
}

/// Binds the transport of a node, which introduces itself and encrypts if the work says so.
pub(super) fn bind_node(work: &Work, node: u64) -> Result<Transport, Failure> {
    let mut builder = builder(work.placement, false);
    if work.sessions {
        builder = builder.identity(Identity::new(NodeId::new(node)));
    }
    if work.tls {
        builder = builder.tls(keys::tls()?);
    }
    Ok(builder.bind(anywhere())?)
}

fn builder(placement: Where, udp: bool) -> Builder {
    // On a slow machine frames wait long in a queue that is always full, so none may go stale.
    let config = Config::default()
        .stale_after(DAY)
        .max_frame(FRAME)
        .queue_bytes(QUEUE)
        .udp(udp)
        .placement(placement.placement());
    Transport::builder().config(config)
}

pub(super) async fn send(work: Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let transport = bind_node(&work, 1)?;
    let links = to
        .iter()
        .map(|&addr| Link::new(&transport, &addr.into(), false));
    let links: Vec<_> = links.collect::<Result<_, _>>()?;

    let cost = Cost::begin();
    let mut producers = Vec::new();
    for producer in 0..work.producers {
        let (work, links) = (work.clone(), links.clone());
        let arbiter = match work.placement {
            Where::Current => Arbiter::current(),
            Where::Dedicated | Where::Shared => Arbiter::new().handle(),
        };
        let (done_tx, done) = oneshot::channel();
        arbiter.spawn(async move {
            // Fails only if another producer has failed.
            let _ = done_tx.send(produce(&work, producer, &links).await);
        });
        producers.push(done);
    }
    for producer in producers {
        producer.await??;
    }
    transport.stop(Shutdown::Drain(DAY)).await;
    Ok(cost.figures())
}

async fn produce(work: &Work, producer: u64, links: &[Link]) -> Result<(), Failure> {
    if work.burst > 1 {
        return produce_bursts(work, producer, &links[0]).await;
    }
    let mut buffer = vec![0; work.size];
    let mut pool = Pool::default();
    for (number, route) in work.frames_of(producer) {
        let (link, group) = (&links[route.peer], GroupId::new(route.group));
        // Only a frame that has to wait becomes a future: a future takes longer than the send
        // itself.
        if work.size < LARGE {
            // A small payload is copied into the queue, so a borrowed one will do.
            fill(&mut buffer, number);
            if let Err(refused) = link.try_send(group, &buffer[..]) {
                link.retry(group, refused).await?;
            }
        } else {
            let payload = pool.make(work.size, |payload| append(payload, work.size, number));
            if let Err(refused) = link.try_send(group, payload) {
                link.retry(group, refused).await?;
            }
        }
    }
    Ok(())
}

/// Sends all frames to one peer, several of them with each call.
async fn produce_bursts(work: &Work, producer: u64, link: &Link) -> Result<(), Failure> {
    let mut payloads = vec![0; work.size * work.burst];
    let mut groups = vec![GroupId::new(0); work.burst];
    let mut frames = work.frames_of(producer);
    loop {
        let mut filled = 0;
        let burst = payloads.chunks_exact_mut(work.size).zip(&mut groups);
        for ((payload, group), (number, route)) in burst.zip(&mut frames) {
            fill(payload, number);
            *group = GroupId::new(route.group);
            filled += 1;
        }
        if filled == 0 {
            return Ok(());
        }
        let groups = groups[..filled].iter().copied();
        link.send_all(groups.zip(payloads.chunks_exact(work.size)))
            .await?;
    }
}

pub(super) async fn receive(work: &Work) -> Result<Figures, Failure> {
    // A real program would not run a hundred transports, each with its own threads.
    let mut node = work.clone();
    if work.peers > 1 {
        node.placement = Where::Current;
    }
    let numbers = (2..).take(work.peers);
    let transports: Result<Vec<_>, _> = numbers.map(|number| bind_node(&node, number)).collect();
    let transports = transports?;
    let (goal, reached) = Goal::new(work.frames);
    let receiver = Receiver { goal }.start();
    for transport in &transports {
        for group in 0..work.groups {
            transport.register(GroupId::new(group), receiver.clone().recipient())?;
        }
    }
    let addrs: Vec<_> = transports.iter().map(Transport::local_addr).collect();

    let cost = Cost::begin();
    announce(&addrs)?;
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

struct Receiver {
    goal: Goal,
}

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Receiver {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        self.goal.begin();
        let mut frames = 0;
        while let Some(payload) = inbound.next_slice() {
            touch(payload);
            frames += 1;
        }
        self.goal.add(frames);
    }
}
