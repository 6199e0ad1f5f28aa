//! Round trips with plain tokio and with this crate: one frame there and back at a time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler};
use actix_transport::{GroupId, Inbound, Peer, PeerAddr, Shutdown, Stats, Transport};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::{
    cost::Cost,
    figures::Figures,
    ours,
    started::{announce, anywhere},
    work::{HEADER, Task, Work, header, touch},
};
use crate::{Failure, payload::fill};

/// Round trips before the measurement, so that both sides warm up.
const WARM_UP: u64 = 1_000;

/// Longest time on record; a longer one counts as this.
const LONGEST: Duration = Duration::from_secs(10);

/// How long sending the last answer may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Without sessions links are one-way, so the asker sends its own address to this group first.
const INTRODUCTION: GroupId = GroupId::new(1);

const GROUP: GroupId = GroupId::new(0);

/// The times measured so far.
struct Times {
    /// Round trips still to make, those of the warm-up included.
    left: u64,
    measured: u64,
    asked: Instant,
    nanos: Histogram<u64>,
    begun: Instant,
}

impl Times {
    fn new(work: &Work) -> Result<Self, Failure> {
        let now = Instant::now();
        Ok(Times {
            left: work.frames + WARM_UP,
            measured: work.frames,
            asked: now,
            nanos: Histogram::new_with_max(LONGEST.as_nanos() as u64, 3)?,
            begun: now,
        })
    }

    /// Records the time of an answer and starts the next. Returns whether there is a next one.
    fn next(&mut self) -> bool {
        let now = Instant::now();
        if self.left <= self.measured {
            let time = now - self.asked;
            self.nanos.saturating_record(time.as_nanos() as u64);
        }
        self.left -= 1;
        if self.left == self.measured {
            self.begun = now;
        }
        self.asked = now;
        self.left > 0
    }

    fn figures(&self, cost: &Cost) -> Figures {
        let micros = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        cost.figures()
            .with("frames", self.measured as f64)
            .with("seconds", (self.asked - self.begun).as_secs_f64())
            .with("p50_us", micros(0.5))
            .with("p99_us", micros(0.99))
    }
}

// ---- plain tokio -------------------------------------------------------------------------------

pub(super) async fn ask_plain(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let mut there = TcpStream::connect(to).await?;
    there.set_nodelay(true)?;
    let mut back;
    let (mut answers, mut questions) = there.split();
    if work.task == Task::OneWayRoundTrip {
        back = TcpStream::connect(to).await?;
        (answers, _) = back.split();
    }
    let mut frame = header(GROUP.get(), work.size).to_vec();
    frame.resize(HEADER + work.size, 0);
    let cost = Cost::begin();
    let mut times = Times::new(work)?;
    loop {
        fill(&mut frame[HEADER..], times.left);
        questions.write_all(&frame).await?;
        answers.read_exact(&mut frame).await?;
        touch(&frame[HEADER..]);
        if !times.next() {
            return Ok(times.figures(&cost));
        }
    }
}

pub(super) async fn echo_plain(work: &Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let cost = Cost::begin();
    announce(&[listener.local_addr()?])?;
    let (mut there, _) = listener.accept().await?;
    there.set_nodelay(true)?;
    let mut back;
    let (mut questions, mut answers) = there.split();
    if work.task == Task::OneWayRoundTrip {
        (back, _) = listener.accept().await?;
        back.set_nodelay(true)?;
        (_, answers) = back.split();
    }
    let mut frame = vec![0; HEADER + work.size];
    for _ in 0..work.frames + WARM_UP {
        questions.read_exact(&mut frame).await?;
        touch(&frame[HEADER..]);
        answers.write_all(&frame).await?;
    }
    Ok(cost.figures())
}

// ---- ours --------------------------------------------------------------------------------------

pub(super) async fn ask_ours(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let transport = ours::bind_node(work, 1)?;
    let peer = transport.peer(to)?;
    let (done_tx, done) = oneshot::channel();
    let asker = Asker {
        peer: peer.clone(),
        payload: vec![0; work.size],
        times: Some(Times::new(work)?),
        done_tx: Some(done_tx),
    };
    transport.register(GROUP, asker.start().recipient())?;

    let cost = Cost::begin();
    if !work.sessions {
        peer.try_send(INTRODUCTION, transport.local_addr().to_string())?;
    }
    peer.try_send(GROUP, vec![0; work.size])?;
    let figures = done.await?.figures(&cost);
    let Stats { links, .. } = transport.stats();
    if work.sessions && (links.connects, links.accepted) != (1, 0) {
        return Err("the answers did not take the connection of the questions".into());
    }
    Ok(figures)
}

/// Sends the next question as soon as the last one is answered.
struct Asker {
    peer: Peer,
    payload: Vec<u8>,
    /// Taken and sent when all questions are answered.
    times: Option<Times>,
    done_tx: Option<oneshot::Sender<Times>>,
}

impl Actor for Asker {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Asker {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        while let Some(payload) = inbound.next_slice() {
            touch(payload);
            let Some(times) = &mut self.times else {
                return;
            };
            if times.next() {
                fill(&mut self.payload, times.left);
                // There is room, because nothing else is in the queue. If the transport has
                // stopped, the run has failed and ends by its time limit.
                let _ = self.peer.try_send(GROUP, &self.payload[..]);
            } else if let Some((done_tx, times)) = self.done_tx.take().zip(self.times.take()) {
                let _ = done_tx.send(times);
            }
        }
    }
}

pub(super) async fn echo_ours(work: &Work) -> Result<Figures, Failure> {
    let transport = ours::bind_node(work, 2)?;
    let (done_tx, done) = oneshot::channel();
    let echo = Echo {
        transport: transport.clone(),
        peer: None,
        left: work.frames + WARM_UP,
        done_tx: Some(done_tx),
    };
    transport.catch_all(Some(echo.start().recipient()));
    let cost = Cost::begin();
    announce(&[transport.local_addr()])?;
    done.await?;
    transport.stop(Shutdown::Drain(DRAIN_LIMIT)).await;
    Ok(cost.figures())
}

/// Sends each question back to its sender. Without sessions that is the peer that sent its address
/// last.
struct Echo {
    transport: Transport,
    peer: Option<Peer>,
    left: u64,
    done_tx: Option<oneshot::Sender<()>>,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        let group = inbound.group();
        if let Some(sender) = inbound.sender() {
            self.peer = sender.peer().ok();
        }
        while let Some(payload) = inbound.next_slice() {
            if group == INTRODUCTION {
                let addr = str::from_utf8(payload).ok();
                let addr = addr.and_then(|addr| PeerAddr::try_from(addr).ok());
                self.peer = addr.and_then(|addr| self.transport.peer(addr).ok());
                continue;
            }
            touch(payload);
            if let Some(peer) = &self.peer {
                // There is room, because the peer asks only after an answer.
                let _ = peer.try_send(group, payload);
            }
            self.left -= 1;
            if self.left == 0
                && let Some(done_tx) = self.done_tx.take()
            {
                let _ = done_tx.send(());
            }
        }
    }
}
