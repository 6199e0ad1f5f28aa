//! A careful program on plain tokio with the same wire format: what one would write without this
//! crate.
//!
//! Each side runs on one thread. The sender gives owned frames to a bounded channel; one task for
//! each connection takes all frames in the channel before it flushes. The program has no counters,
//! no bound in bytes and no reconnects.

use std::{io, net::SocketAddr};

use bytes::{Buf, Bytes};
use futures::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, error::TrySendError},
};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::{
    cost::Cost,
    figures::Figures,
    goal::Goal,
    pool::Pool,
    started::{announce, anywhere},
    work::{PREFIX, Work, append, touch},
};
use crate::Failure;

/// Bytes of a frame's group. The codec counts them as part of the frame.
const GROUP: usize = 4;

/// Bytes of one read or write.
const BUFFER: usize = 64 << 10;

/// Bounds of a channel in frames and in bytes; it always has room for a few frames of any size.
/// Longer channels are not faster.
const CHANNEL: usize = 1024;
const CHANNEL_BYTES: usize = 1 << 20;
const CHANNEL_AT_LEAST: usize = 8;

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_length(PREFIX)
        .length_adjustment(-(PREFIX as isize))
        .new_codec()
}

pub(super) async fn send(work: Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let capacity = (CHANNEL_BYTES / work.size).clamp(CHANNEL_AT_LEAST, CHANNEL);
    let (mut channels, mut writers) = (Vec::new(), Vec::new());
    for addr in to {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, frames) = mpsc::channel(capacity);
        channels.push(sender);
        writers.push(tokio::spawn(write(stream, frames)));
    }

    let cost = Cost::begin();
    let producers: Vec<_> = (0..work.producers)
        .map(|producer| tokio::spawn(produce(work.clone(), producer, channels.clone())))
        .collect();
    drop(channels);
    for producer in producers {
        producer.await??;
    }
    for writer in writers {
        writer.await??;
    }
    Ok(cost.figures())
}

async fn produce(
    work: Work,
    producer: u64,
    channels: Vec<mpsc::Sender<Bytes>>,
) -> Result<(), Failure> {
    let mut pool = Pool::default();
    for (number, route) in work.frames_of(producer) {
        let frame = pool.make(GROUP + work.size, |frame| {
            frame.extend_from_slice(&route.group.to_le_bytes());
            append(frame, work.size, number);
        });
        // Only a frame that has to wait becomes a future. A future takes longer and sometimes
        // yields, and then the writers would find the channels almost empty.
        let channel = &channels[route.peer];
        if let Err(TrySendError::Full(frame)) = channel.try_send(frame) {
            channel.send(frame).await?;
        }
    }
    Ok(())
}

async fn write(stream: TcpStream, mut frames: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut sink = FramedWrite::new(stream, codec());
    sink.set_backpressure_boundary(BUFFER);
    while let Some(frame) = frames.recv().await {
        sink.feed(frame).await?;
        while let Ok(frame) = frames.try_recv() {
            sink.feed(frame).await?;
        }
        SinkExt::<Bytes>::flush(&mut sink).await?;
    }
    SinkExt::<Bytes>::close(&mut sink).await
}

pub(super) async fn receive(work: &Work) -> Result<Figures, Failure> {
    let (mut listeners, mut addrs) = (Vec::new(), Vec::new());
    for _ in 0..work.peers {
        let listener = TcpListener::bind(anywhere()).await?;
        addrs.push(listener.local_addr()?);
        listeners.push(listener);
    }
    let (goal, reached) = Goal::new(work.frames);
    let cost = Cost::begin();
    announce(&addrs)?;
    for listener in listeners {
        let goal = goal.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            read(stream, &goal).await
        });
    }
    // Without this, the wait below would not end when all tasks have failed.
    drop(goal);
    let time = reached.await?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

async fn read(stream: TcpStream, goal: &Goal) -> io::Result<()> {
    let mut frames = FramedRead::with_capacity(stream, codec(), BUFFER);
    while let Some(frame) = frames.next().await {
        let mut frame = frame?;
        goal.begin();
        let _group = frame.get_u32_le();
        touch(&frame);
        goal.add(1);
    }
    Ok(())
}
