//! Idle connections: what they cost a node in memory and in CPU time.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use actix::{Actor, Context, Handler};
use actix_transport::Inbound;
use tokio::time::sleep;

use super::{
    cost::Cost,
    figures::Figures,
    ours,
    started::announce,
    work::{HEADER, Work, header},
};
use crate::{Failure, memory::memory};

/// How often to check whether all have arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait until the connections are idle.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the CPU time of idle connections is measured.
const WATCH: Duration = Duration::from_secs(5);

/// Opens the connections, sends one frame over each, and holds them until the other side ends.
pub(super) fn send(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let mut frame = header(0, work.size).to_vec();
    frame.resize(HEADER + work.size, 0);
    let mut streams = Vec::new();
    for _ in 0..work.frames {
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(&frame)?;
        streams.push(stream);
    }
    if let Some(stream) = streams.first_mut() {
        // Blocks until the other side ends; the result does not matter.
        let _ = stream.read(&mut [0]);
    }
    Ok(Figures::default())
}

pub(super) async fn receive(work: &Work) -> Result<Figures, Failure> {
    let transport = ours::bind(work.placement, false)?;
    transport.catch_all(Some(Receiver.start().recipient()));
    sleep(SETTLE).await;
    let before = memory("VmRSS");
    announce(&[transport.local_addr()])?;
    while transport.stats().inbound.delivered.frames < work.frames {
        sleep(POLL_INTERVAL).await;
    }
    sleep(SETTLE).await;

    let after = memory("VmRSS");
    let grown = after.zip(before).map(|(after, before)| after - before);
    let cost = Cost::begin();
    sleep(WATCH).await;
    let cpu = cost.cpu().map(|cpu| cpu / WATCH.as_secs_f64());
    Ok(Figures::default()
        .with_some(
            "bytes_per_connection",
            grown.map(|grown| grown / work.frames as f64),
        )
        .with_some("idle_cpu", cpu))
}

struct Receiver;

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Receiver {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        inbound.for_each(drop);
    }
}
