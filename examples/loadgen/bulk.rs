//! Bulk frames: beat keeps sending them beside its heartbeats, and echo only counts them.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::{GroupId, Inbound, Peer};
use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinSet, time::sleep};

use crate::received::{GetReceived, Received};

/// The group that echo does not answer. Far from those that roles count from 0 on.
pub(crate) const GROUP: GroupId = GroupId::new(0x7FFF_FFFF);

/// Below this size the queue copies a payload and drops it at once, which would say nothing about when the
/// frame was written.
pub(crate) const MIN_SIZE: usize = 8 << 10;

/// Keeps sending frames of `size` bytes until it is dropped.
pub(crate) struct Beside {
    _senders: JoinSet<()>,
}

impl Beside {
    /// Starts `frames` senders. Each has one frame on its way: it waits for room, waits in the queue, or is
    /// being written. All frames share one payload, so that memory limits neither their number nor their rate.
    pub(crate) fn start(peer: &Peer, frames: u32, size: usize) -> Self {
        let payload = Bytes::from(vec![0x5A; size]);
        let senders = (0..frames).map(|_| send_again_and_again(peer.clone(), payload.clone()));
        Self {
            _senders: senders.collect(),
        }
    }
}

async fn send_again_and_again(peer: Peer, bytes: Bytes) {
    loop {
        let (left_tx, left) = oneshot::channel();
        let frame = Bytes::from_owner(Leaving {
            bytes: bytes.clone(),
            _left_tx: left_tx,
        });
        // Fails when the transport stops.
        if peer.send(GROUP, frame).await.is_err() {
            return;
        }
        // Always an error, because nothing is sent: the transport has dropped the payload.
        let _ = left.await;
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
