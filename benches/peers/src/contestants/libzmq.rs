//! libzmq: one PUSH socket with as many connections as the case has, to one PULL socket.
//!
//! Tuned as its guide and its own `perf/` programs recommend: one I/O thread per process (the
//! advice is one per gigabyte a second), and large system buffers. A higher message limit than the
//! default made it slower. Small messages are copied into libzmq's own, large ones are given away;
//! the message received into is reused. PUSH distributes frames over its connections by itself, in
//! turns, and batches them.

use std::{net::SocketAddr, time::Instant};

use zmq::{Context, Message, PULL, PUSH};

use crate::{
    Failure,
    cost::Cost,
    figures::Figures,
    payload::fill,
    started::{Side, announce},
    work::{Work, append, touch},
};

/// Payloads of this size and more are given away instead of copied.
const GIVE_AWAY: usize = 8 << 10;

/// Bytes asked for as socket buffers. The system gives at most what it allows every process.
const BUFFER: i32 = 4 << 20;

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match side {
        Side::Send => send(work, to),
        Side::Receive => receive(work),
    }
}

fn send(work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let context = Context::new();
    let socket = context.socket(PUSH)?;
    socket.set_sndbuf(BUFFER)?;
    for addr in to {
        socket.connect(&format!("tcp://{addr}"))?;
    }

    let cost = Cost::begin();
    let mut buffer = vec![0; work.size];
    for (number, _) in work.frames_of(0) {
        if work.size < GIVE_AWAY {
            fill(&mut buffer, number);
            socket.send(&buffer[..], 0)?;
        } else {
            let mut payload = Vec::with_capacity(work.size);
            append(&mut payload, work.size, number);
            socket.send(payload, 0)?;
        }
    }
    // Dropping the context waits until everything is sent.
    drop((socket, context));
    Ok(cost.figures())
}

fn receive(work: &Work) -> Result<Figures, Failure> {
    let context = Context::new();
    let socket = context.socket(PULL)?;
    socket.set_rcvbuf(BUFFER)?;
    let mut addrs = Vec::new();
    for _ in 0..work.peers {
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.get_last_endpoint()?;
        let endpoint = endpoint.map_err(|_| "an address that is no text")?;
        let addr = endpoint.strip_prefix("tcp://");
        addrs.push(addr.ok_or("not a TCP address")?.parse()?);
    }

    let cost = Cost::begin();
    announce(&addrs)?;
    let mut message = Message::new();
    socket.recv(&mut message, 0)?;
    let begun = Instant::now();
    touch(&message);
    for _ in 1..work.frames {
        socket.recv(&mut message, 0)?;
        touch(&message);
    }
    let figures = cost.figures();
    Ok(figures
        .with("seconds", begun.elapsed().as_secs_f64())
        .with("frames", work.frames as f64))
}
