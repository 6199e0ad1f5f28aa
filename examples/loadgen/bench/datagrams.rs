//! Datagrams with plain tokio and with this crate: how many arrive, and how many are lost.
//!
//! Nothing slows a sender down that is faster than the receiver. So the rate is that of received
//! datagrams, and those missing at the end are lost. The system's buffers have their default size.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler};
use actix_transport::{GroupId, Inbound, Shutdown};
use tokio::{net::UdpSocket, time::sleep};

use super::{
    cost::Cost,
    figures::Figures,
    ours,
    started::{announce, anywhere},
    work::{HEADER, PREFIX, Work, header, touch},
};
use crate::{Failure, link::Link, payload::fill};

/// A receiver that has received nothing for this long has received everything.
const SILENCE: Duration = Duration::from_millis(300);

/// How often to check for new datagrams.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How long sending what is queued may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Bytes before the payload of a datagram: the group.
const GROUP: usize = HEADER - PREFIX;

pub(super) async fn send_plain(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let socket = UdpSocket::bind(anywhere()).await?;
    let mut datagram = vec![0; GROUP + work.size];
    let cost = Cost::begin();
    for (number, route) in work.frames_of(0) {
        datagram[..GROUP].copy_from_slice(&header(route.group, work.size)[PREFIX..]);
        fill(&mut datagram[GROUP..], number);
        socket.send_to(&datagram, to).await?;
    }
    Ok(cost.figures())
}

pub(super) async fn receive_plain(work: &Work) -> Result<Figures, Failure> {
    let socket = UdpSocket::bind(anywhere()).await?;
    let cost = Cost::begin();
    announce(&[socket.local_addr()?])?;
    let received = Arc::<AtomicU64>::default();
    let counter = received.clone();
    tokio::spawn(async move {
        let mut datagram = vec![0; 64 << 10];
        while let Ok((n, _)) = socket.recv_from(&mut datagram).await {
            touch(&datagram[GROUP..n]);
            counter.fetch_add(1, Relaxed);
        }
    });
    listen(work, &received, &cost).await
}

pub(super) async fn send_ours(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let transport = ours::bind(work.placement, true)?;
    let link = Link::new(&transport, &to.into(), true)?;
    let mut payload = vec![0; work.size];
    let cost = Cost::begin();
    for (number, route) in work.frames_of(0) {
        fill(&mut payload, number);
        let group = GroupId::new(route.group);
        if let Err(refused) = link.try_send(group, &payload[..]) {
            link.retry(group, refused).await?;
        }
    }
    transport.stop(Shutdown::Drain(DRAIN_LIMIT)).await;
    Ok(cost.figures())
}

pub(super) async fn receive_ours(work: &Work) -> Result<Figures, Failure> {
    let transport = ours::bind(work.placement, true)?;
    let received = Arc::<AtomicU64>::default();
    let receiver = Receiver {
        received: received.clone(),
    };
    transport.catch_all(Some(receiver.start().recipient()));
    let cost = Cost::begin();
    announce(&[transport.local_addr()])?;
    listen(work, &received, &cost).await
}

struct Receiver {
    received: Arc<AtomicU64>,
}

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Receiver {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        let mut datagrams = 0;
        while let Some(payload) = inbound.next_slice() {
            touch(payload);
            datagrams += 1;
        }
        self.received.fetch_add(datagrams, Relaxed);
    }
}

/// Waits until all datagrams have arrived, or none has for [`SILENCE`].
async fn listen(work: &Work, received: &AtomicU64, cost: &Cost) -> Result<Figures, Failure> {
    let (mut count, mut first, mut last) = (0, None, Instant::now());
    while count < work.frames && (first.is_none() || last.elapsed() < SILENCE) {
        sleep(POLL_INTERVAL).await;
        let now = received.load(Relaxed);
        if now > count {
            (count, last) = (now, Instant::now());
            first.get_or_insert(last);
        }
    }
    let time = last - first.unwrap_or(last);
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time.max(POLL_INTERVAL).as_secs_f64())
        .with("frames", count as f64))
}
