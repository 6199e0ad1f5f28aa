//! Bulk frames and messages: beat keeps sending them beside its heartbeats, and echo only counts them.

use std::{
    future::pending,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::{Config, GroupId, Inbound, Peer};
use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinSet, time::sleep};

use crate::{
    Failure,
    received::{GetReceived, Received},
};

/// The group that echo does not answer. Far from those that roles count from 0 on.
pub(crate) const GROUP: GroupId = GroupId::new(0x7FFF_FFFF);

/// Below this size the queue copies a payload and drops it at once, which would say nothing about when the
/// frame was written.
pub(crate) const MIN_SIZE: usize = 8 << 10;

/// Bytes of a frame in addition to its payload.
const HEADER: usize = 8;

/// Keeps sending frames or messages until it is dropped.
pub(crate) struct Beside {
    senders: JoinSet<Failure>,
    /// How many were written.
    written: Arc<AtomicU64>,
}

impl Beside {
    /// Starts `frames` senders. Each has one frame on its way: it waits for room, waits in the queue, or is
    /// being written. All frames share one payload, so that memory limits neither their number nor their rate.
    /// What is longer than a frame is sent as a message in parts.
    pub(crate) fn start(peer: &Peer, frames: u32, size: usize, config: &Config) -> Self {
        let payload = Bytes::from(vec![0x5A; size]);
        let is_large = HEADER + size > config.max_frame;
        let (mut senders, written) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for _ in 0..frames {
            let (peer, payload, written) = (peer.clone(), payload.clone(), written.clone());
            match is_large {
                true => senders.spawn(send_messages(peer, payload, written)),
                false => senders.spawn(send_frames(peer, payload, written)),
            };
        }
        Self { senders, written }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Waits until a sender fails. Without senders, for ever.
    pub(crate) async fn failure(&mut self) -> Failure {
        match self.senders.join_next().await {
            Some(ended) => ended.unwrap_or_else(Failure::from),
            None => pending().await,
        }
    }
}

/// Sends messages until one fails, also because the transport stops.
async fn send_messages(peer: Peer, bytes: Bytes, written: Arc<AtomicU64>) -> Failure {
    loop {
        if let Err(err) = peer.send_large(GROUP, bytes.clone()).await {
            return err.into();
        }
        written.fetch_add(1, Relaxed);
    }
}

/// Sends frames until one is refused, because the transport stops.
async fn send_frames(peer: Peer, bytes: Bytes, written: Arc<AtomicU64>) -> Failure {
    loop {
        let (left_tx, left) = oneshot::channel();
        let frame = Bytes::from_owner(Leaving {
            bytes: bytes.clone(),
            _left_tx: left_tx,
        });
        if let Err(err) = peer.send(GROUP, frame).await {
            return err.to_string().into();
        }
        // Always an error, because nothing is sent: the transport has dropped the payload.
        let _ = left.await;
        written.fetch_add(1, Relaxed);
    }
}

/// A payload whose sender learns when the transport has dropped it: it was written, or dropped.
struct Leaving {
    bytes: Bytes,
    _left_tx: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Receives the frames of [`GROUP`]: counts them, and takes a while for each.
pub(crate) struct Counter {
    received: Received,
    delay: Duration,
}

impl Counter {
    pub(crate) fn new(delay: Duration) -> Self {
        Self {
            received: Received::default(),
            delay,
        }
    }
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Counter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> ResponseFuture<()> {
        let count = inbound.remaining();
        self.received.add(count, Instant::now());
        let delay = self.delay.saturating_mul(count.frames as u32);
        Box::pin(async move {
            for payload in inbound {
                black_box((payload.first(), payload.last()));
            }
            if !delay.is_zero() {
                sleep(delay).await;
            }
        })
    }
}

impl Handler<GetReceived> for Counter {
    type Result = Received;

    fn handle(&mut self, _: GetReceived, _: &mut Context<Self>) -> Received {
        self.received
    }
}
