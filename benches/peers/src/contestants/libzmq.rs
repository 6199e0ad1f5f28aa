//! libzmq: one PUSH socket, connected as often as there are connections, to one PULL socket.
//!
//! Tuned as its guide and its own `perf/` programs have it: one I/O thread for each process (one for
//! every gigabyte a second is the advice) and large buffers of the system's. A limit of messages above
//! the default made it slower. Messages are handed over whole and copied into libzmq's
//! own when they are small, given away when they are large; the one that is received into is used
//! again. PUSH spreads frames over its connections by itself, in turns, and batches them.

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

/// From this size on a payload is given away instead of copied.
const GIVE_AWAY: usize = 8 << 10;

/// Bytes of the system's buffers, at most what it lets everybody have.
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
    // The context ends when everything is sent.
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
