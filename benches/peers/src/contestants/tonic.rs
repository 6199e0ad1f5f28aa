//! tonic: one client-streaming call on each connection. In cases of calls, a unary call for each, with prost's codec as it
//! is.
//!
//! Tuned as its documentation and its examples recommend: HTTP/2 windows that hold many times the
//! delay, on both sides and for stream and connection; large HTTP/2 frames; `TCP_NODELAY`; a codec
//! with large buffers (the `codec_buffers` example), which gathers as many messages as are ready
//! into one; and payloads that are decoded as `Bytes`, without a copy. With one connection the
//! stream makes each message when the encoder asks for it, so that no channel is between them. With
//! several, one producer puts messages into a bounded channel for each connection in turns, as for
//! the other contestants.

use std::{marker::PhantomData, net::SocketAddr};

use bytes::Bytes;
use futures::{future::try_join_all, stream};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tonic::{
    Request, Response, Status, Streaming,
    codec::BufferSettings,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

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

mod stubs {
    #![allow(clippy::all, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/peers.Frames.rs"));
}

use stubs::{
    frames_client::FramesClient,
    frames_server::{Frames, FramesServer},
};

/// The most bytes under way on a connection.
const WINDOW: u32 = 8 << 20;

/// The most bytes of an HTTP/2 frame.
const HTTP_FRAME: u32 = 1 << 20;

/// Bytes that the encoder gathers before it writes.
const GATHERED: usize = 256 << 10;

/// The most frames that wait for each connection, if there are several.
const CHANNEL: usize = 1_024;

/// Frames after which the goal is updated.
const SOME: u64 = 256;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Done {}

pub(crate) fn run(side: Side, work: &Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    match (work.task, side) {
        (Task::Call, Side::Send) => on_threads_for(work, call(work.clone(), to[0])),
        (_, Side::Send) => on_threads_for(work, send(work.clone(), to.to_vec())),
        (_, Side::Receive) => on_threads_for(work, receive(work.clone())),
    }
}

async fn connect(addr: &SocketAddr) -> Result<FramesClient<Channel>, Failure> {
    let endpoint = Endpoint::try_from(format!("http://{addr}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(HTTP_FRAME);
    let channel = endpoint.connect().await?;
    Ok(FramesClient::new(channel).max_decoding_message_size(usize::MAX))
}

async fn call(work: Work, to: SocketAddr) -> Result<Figures, Failure> {
    let client = connect(&to).await?;
    let ask = move |payload| {
        let mut client = client.clone();
        async move { Ok(client.ask(Frame { payload }).await?.into_inner().payload) }
    };
    calls::measure(&Runtime::Tokio(Handle::current()), &work, ask).await
}

async fn send(work: Work, to: Vec<SocketAddr>) -> Result<Figures, Failure> {
    let clients = try_join_all(to.iter().map(connect)).await?;

    let cost = Cost::begin();
    let (mut calls, mut channels) = (Vec::new(), Vec::new());
    for mut client in clients {
        if work.peers == 1 {
            let frames = stream::iter((0..work.frames).map(move |number| frame(work.size, number)));
            calls.push(tokio::spawn(async move { client.push(frames).await }));
            continue;
        }
        let (sender, mut frames) = mpsc::channel(CHANNEL);
        channels.push(sender);
        let frames = stream::poll_fn(move |context| frames.poll_recv(context));
        calls.push(tokio::spawn(async move { client.push(frames).await }));
    }
    if work.peers > 1 {
        for (number, route) in work.frames_of(0) {
            let channel = &channels[route.peer];
            if let Err(TrySendError::Full(frame)) = channel.try_send(frame(work.size, number)) {
                channel.send(frame).await?;
            }
        }
    }
    drop(channels);
    for call in calls {
        call.await??;
    }
    Ok(cost.figures())
}

fn frame(size: usize, number: u64) -> Frame {
    let mut payload = Vec::with_capacity(size);
    append(&mut payload, size, number);
    Frame {
        payload: payload.into(),
    }
}

async fn receive(work: Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let addr = listener.local_addr()?;
    let (goal, reached) = Goal::new(match work.task {
        Task::Call => calls::total(&work),
        _ => work.frames,
    });
    let service = FramesServer::new(Receiver { goal }).max_decoding_message_size(usize::MAX);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(HTTP_FRAME)
        .add_service(service);

    let cost = Cost::begin();
    announce(&vec![addr; work.peers])?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let (leave, left) = oneshot::channel::<()>();
    let serving = server.serve_with_incoming_shutdown(incoming, async {
        let _ = left.await;
    });
    let serving = tokio::spawn(serving);
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    // Lets the server answer its calls before it ends.
    drop(leave);
    serving.await??;
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

struct Receiver {
    goal: Goal,
}

#[tonic::async_trait]
impl Frames for Receiver {
    async fn push(&self, request: Request<Streaming<Frame>>) -> Result<Response<Done>, Status> {
        let mut stream = request.into_inner();
        let mut frames = 0;
        while let Some(frame) = stream.message().await? {
            self.goal.begin();
            touch(&frame.payload);
            frames += 1;
            if frames == SOME {
                self.goal.add(std::mem::take(&mut frames));
            }
        }
        self.goal.add(frames);
        Ok(Response::new(Done {}))
    }

    async fn ask(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        self.goal.begin();
        let frame = request.into_inner();
        touch(&frame.payload);
        self.goal.add(1);
        Ok(Response::new(frame))
    }
}

/// Prost's codec with larger buffers.
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(GATHERED, GATHERED))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(GATHERED, GATHERED))
    }
}
