//! tarpc: a call for each frame, with as many calls under way as made it faster. In cases of calls, the answer is the
//! payload, and as many are under way as the case says.
//!
//! It has no messages without an answer, so the answer is empty, and a thousand calls are under way
//! at a time on a connection (as many as its client admits by default; more did not help).
//! Otherwise as its documentation recommends: bincode; a channel to the client's task that holds
//! all of them, and one for responses likewise; handlers run where requests are read, as a task for
//! each costs more than the handler; `TCP_NODELAY`; and its framed transport with larger buffers
//! than by default. With several connections each has a producer of its own, which the other
//! contestants do not get.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, future::try_join_all, stream};
use tarpc::{
    client, context, serde_transport,
    server::{self, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::{Framed, LengthDelimitedCodec},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use crate::{
    Failure,
    callers::Runtime,
    calls,
    contestants::on_threads_for,
    cost::Cost,
    figures::Figures,
    goal::Goal,
    started::{Side, announce, anywhere},
    work::{Task, Work, append, touch},
};

/// The most calls under way on all connections together, and the least on each.
const UNDER_WAY: usize = 1_000;
const UNDER_WAY_AT_LEAST: usize = 100;

/// Bytes of one read, and of one write.
const BUFFER: usize = 64 << 10;

/// Longer than any run takes.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tarpc::service]
trait Frames {
    async fn push(payload: Bytes);
    async fn ask(payload: Bytes) -> Bytes;
}

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match (work.task, side) {
        (Task::Call, Side::Send) => on_threads_for(work, call(work.clone(), to[0])),
        (_, Side::Send) => on_threads_for(work, send(work.clone(), to.to_vec())),
        (_, Side::Receive) => on_threads_for(work, receive(work.clone())),
    }
}

async fn connect(addr: &SocketAddr) -> Result<FramesClient, Failure> {
    let mut config = client::Config::default();
    config.max_in_flight_requests = UNDER_WAY;
    config.pending_request_buffer = UNDER_WAY;
    let stream = TcpStream::connect(addr).await?;
    let transport = serde_transport::new(framed(stream)?, Bincode::default());
    Ok(FramesClient::new(config, transport).spawn())
}

async fn call(work: Work, to: SocketAddr) -> Result<Figures, Failure> {
    let client = connect(&to).await?;
    let mut context = context::current();
    context.deadline = Instant::now() + DAY;
    let ask = move |payload| {
        let client = client.clone();
        async move { Ok(client.ask(context, payload).await?) }
    };
    calls::measure(&Runtime::Tokio(Handle::current()), &work, ask).await
}

async fn send(work: Work, to: Vec<SocketAddr>) -> Result<Figures, Failure> {
    let clients = try_join_all(to.iter().map(connect)).await?;
    let under_way = (UNDER_WAY / work.peers).max(UNDER_WAY_AT_LEAST);

    let cost = Cost::begin();
    let mut producers = Vec::new();
    for (peer, client) in clients.into_iter().enumerate() {
        let work = work.clone();
        producers.push(tokio::spawn(async move {
            let mut context = context::current();
            context.deadline = Instant::now() + DAY;
            let numbers = (peer as u64..work.frames).step_by(work.peers);
            let calls = stream::iter(numbers).map(|number| {
                let mut payload = Vec::with_capacity(work.size);
                append(&mut payload, work.size, number);
                client.push(context, payload.into())
            });
            let mut answers = calls.buffer_unordered(under_way);
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok::<_, Failure>(())
        }));
    }
    for producer in producers {
        producer.await??;
    }
    Ok(cost.figures())
}

async fn receive(work: Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let addr = listener.local_addr()?;
    let (goal, reached) = Goal::new(match work.task {
        Task::Call => calls::total(&work),
        _ => work.frames,
    });
    let receiver = Receiver { goal };

    let cost = Cost::begin();
    announce(&vec![addr; work.peers])?;
    let mut connections = Vec::new();
    for _ in 0..work.peers {
        let (stream, _) = listener.accept().await?;
        let transport = serde_transport::new(framed(stream)?, Bincode::default());
        let config = server::Config {
            pending_response_buffer: UNDER_WAY,
        };
        let answers = config.channel(transport).execute(receiver.clone().serve());
        connections.push(tokio::spawn(answers.for_each(|answer| answer)));
    }
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    for connection in connections {
        connection.await?;
    }
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

#[derive(Clone)]
struct Receiver {
    goal: Goal,
}

impl Frames for Receiver {
    async fn push(self, _: context::Context, payload: Bytes) {
        self.goal.begin();
        touch(&payload);
        self.goal.add(1);
    }

    async fn ask(self, _: context::Context, payload: Bytes) -> Bytes {
        self.goal.begin();
        touch(&payload);
        self.goal.add(1);
        payload
    }
}

fn framed(stream: TcpStream) -> Result<Framed<TcpStream, LengthDelimitedCodec>, Failure> {
    stream.set_nodelay(true)?;
    let mut framed = Framed::with_capacity(stream, LengthDelimitedCodec::new(), BUFFER);
    framed.set_backpressure_boundary(BUFFER);
    Ok(framed)
}
