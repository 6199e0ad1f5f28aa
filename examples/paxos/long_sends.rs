//! The messages to one node that may be longer than a frame. They are sent one after the other, so that their
//! number in memory is bounded, and beside all that the node's thread does meanwhile.

use std::sync::{Arc, OnceLock};

use actix_transport::{GroupId, Peer};
use bytes::Bytes;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::message::{Message, NodeId};

/// How many messages may wait to be sent: the values that a replica which catches up asks for, and some new ones.
/// Further ones count as lost, as if a queue of the transport were full.
const WAITING: usize = 8;

/// A message for one node or several.
pub(crate) struct LongMessage {
    sender: NodeId,
    message: Message,
    encoded: OnceLock<Bytes>,
}

impl LongMessage {
    pub(crate) fn new(sender: NodeId, message: Message) -> Arc<Self> {
        Arc::new(Self {
            sender,
            message,
            encoded: OnceLock::new(),
        })
    }

    /// Encodes the message when it is asked for first. To copy 10 MiB takes milliseconds.
    fn encoded(&self) -> Bytes {
        let encoded = self.encoded.get_or_init(|| {
            let mut encoded = Vec::with_capacity(self.message.values_len() + 1024);
            self.message.encode(self.sender, &mut encoded);
            encoded.into()
        });
        encoded.clone()
    }
}

pub(crate) struct LongSends {
    group: GroupId,
    peer: Peer,
    in_parts: bool,
    /// `None` until the first message: few groups ever have one for each node.
    waiting: Option<mpsc::Sender<Arc<LongMessage>>>,
}

impl LongSends {
    /// Unless they go `in_parts`, each message is one frame, and the transport must allow frames that long.
    pub(crate) fn new(group: GroupId, peer: Peer, in_parts: bool) -> Self {
        Self {
            group,
            peer,
            in_parts,
            waiting: None,
        }
    }

    /// Sends a message if not too many wait. Must be called on the thread of an arbiter.
    pub(crate) fn send(&mut self, message: Arc<LongMessage>) {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (waiting, messages) = mpsc::channel(WAITING);
            let (group, peer) = (self.group, self.peer.clone());
            actix::spawn(send_all(group, peer, self.in_parts, messages));
            waiting
        });
        let _ = waiting.try_send(message);
    }
}

async fn send_all(
    group: GroupId,
    peer: Peer,
    in_parts: bool,
    mut messages: mpsc::Receiver<Arc<LongMessage>>,
) {
    while let Some(message) = messages.recv().await {
        // On another thread, because this one would serve nobody meanwhile.
        let encoded = spawn_blocking(move || message.encoded());
        let Ok(encoded) = encoded.await else { return };
        // If it fails, the message counts as lost.
        if in_parts {
            let _ = peer.send_large(group, encoded).await;
        } else {
            let _ = peer.send(group, encoded).await;
        }
    }
}
