//! The first thing one would write on actix: a message to an actor for each frame, over
//! tokio-util's codec.
//!
//! A side runs entirely on one thread, as a message between threads costs several times as much.
//! The sender's actor owns a connection and encodes each message into the buffer of its
//! `FramedWrite`; the receiver's actor gets what the connection tasks decode. Tuned where something
//! is left to tune: messages go by `do_send`, without a future for each. After as many as fill a
//! buffer comes one that is awaited, so that no mailbox grows without bound; two such buffers may
//! be under way.

use std::{io, net::SocketAddr, pin::Pin};

use actix::{dev::Request, prelude::*};
use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::{
    Failure,
    cost::Cost,
    figures::Figures,
    goal::Goal,
    started::{Side, announce, anywhere},
    work::{Work, append, touch},
};

/// Bytes of one write, and of one read.
const BUFFER: usize = 64 << 10;

/// The most frames that are handed over before one waits for them.
const SOME: usize = 1_024;

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    System::new().block_on(async {
        match side {
            Side::Send => send(work, to).await,
            Side::Receive => receive(work).await,
        }
    })
}

/// The sender's way to a connection's actor.
struct Link {
    writer: Addr<Writer>,
    /// Frames handed over since the last flush.
    frames: usize,
    flush: Option<Request<Writer, Flush>>,
}

async fn send(work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let mut links = Vec::new();
    for addr in to {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut frames = FramedWrite::new(stream, LengthDelimitedCodec::new());
        frames.set_backpressure_boundary(BUFFER);
        links.push(Link {
            writer: Writer(Some(frames)).start(),
            frames: 0,
            flush: None,
        });
    }

    let cost = Cost::begin();
    let batch = (BUFFER / work.size).clamp(1, SOME);
    for (number, route) in work.frames_of(0) {
        let mut payload = Vec::with_capacity(work.size);
        append(&mut payload, work.size, number);
        let link = &mut links[route.peer];
        link.writer.do_send(Outgoing(payload.into()));
        link.frames += 1;
        if link.frames == batch {
            link.flush().await?;
        }
    }
    for link in &mut links {
        // Waits for the last flush and the one before it.
        link.flush().await?;
        link.flush().await?;
    }
    Ok(cost.figures())
}

impl Link {
    /// Starts writing what has been handed over, and waits until the part before it is written.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.frames = 0;
        // `send` puts the message in at once, not when it is awaited, as the mailbox has no limit.
        let flush = self.writer.send(Flush);
        if let Some(flush) = self.flush.replace(flush) {
            flush.await??;
        }
        Ok(())
    }
}

#[derive(Message)]
#[rtype("()")]
struct Outgoing(Bytes);

#[derive(Message)]
#[rtype("io::Result<()>")]
struct Flush;

/// `None` while a flush is under way.
struct Writer(Option<FramedWrite<TcpStream, LengthDelimitedCodec>>);

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(0);
    }
}

impl Handler<Outgoing> for Writer {
    type Result = ();

    fn handle(&mut self, Outgoing(payload): Outgoing, ctx: &mut Context<Self>) {
        let frames = self.0.as_mut().map(Pin::new);
        // Goes into the buffer, which accepts more than its boundary.
        if frames.is_none_or(|frames| frames.start_send(payload).is_err()) {
            ctx.stop();
        }
    }
}

impl Handler<Flush> for Writer {
    type Result = AtomicResponse<Self, io::Result<()>>;

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) -> Self::Result {
        let frames = self.0.take();
        let flush = async move {
            let mut frames = frames.ok_or(io::ErrorKind::NotConnected)?;
            SinkExt::<Bytes>::flush(&mut frames).await?;
            io::Result::Ok(frames)
        };
        let flush = flush.into_actor(self).map(|flushed, writer, _| {
            writer.0 = Some(flushed?);
            Ok(())
        });
        AtomicResponse::new(Box::pin(flush))
    }
}

async fn receive(work: &Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let addr = listener.local_addr()?;
    let (goal, reached) = Goal::new(work.frames);
    let receiver = Receiver { goal, frames: 0 }.start();

    let cost = Cost::begin();
    announce(&vec![addr; work.peers])?;
    for _ in 0..work.peers {
        let (stream, _) = listener.accept().await?;
        actix::spawn(read(stream, receiver.clone()));
    }
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

async fn read(stream: TcpStream, receiver: Addr<Receiver>) -> Result<(), Failure> {
    let frames = FramedRead::with_capacity(stream, LengthDelimitedCodec::new(), BUFFER);
    let mut ready = frames.ready_chunks(SOME);
    while let Some(frames) = ready.next().await {
        for frame in frames {
            receiver.do_send(Incoming(frame?));
        }
        receiver.send(Settled).await?;
    }
    Ok(())
}

#[derive(Message)]
#[rtype("()")]
struct Incoming(BytesMut);

/// Answered when everything before it is handled.
#[derive(Message)]
#[rtype("()")]
struct Settled;

struct Receiver {
    goal: Goal,
    /// Frames that the goal has not been told yet.
    frames: u64,
}

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Incoming> for Receiver {
    type Result = ();

    fn handle(&mut self, Incoming(payload): Incoming, _: &mut Context<Self>) {
        self.goal.begin();
        touch(&payload);
        self.frames += 1;
    }
}

impl Handler<Settled> for Receiver {
    type Result = ();

    fn handle(&mut self, _: Settled, _: &mut Context<Self>) {
        self.goal.add(std::mem::take(&mut self.frames));
    }
}
