//! The messages to one node that may be longer than a frame. They are sent one after the other, so that their
//! number in memory is bounded, and beside all that the node's thread does meanwhile.

use actix_transport::{GroupId, Peer};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::message::{Message, NodeId};

/// How many messages may wait to be sent: the values that a replica which catches up asks for, and some new ones.
/// Further ones count as lost, as if a queue of the transport were full.
const WAITING: usize = 4;

pub(crate) struct LongSends {
    me: NodeId,
    group: GroupId,
    peer: Peer,
    /// `None` until the first message: few groups ever have one for each node.
    waiting: Option<mpsc::Sender<Message>>,
}

impl LongSends {
    pub(crate) fn new(me: NodeId, group: GroupId, peer: Peer) -> Self {
        Self {
            me,
            group,
            peer,
            waiting: None,
        }
    }

    /// Sends a message if not too many wait. Must be called on the thread of an arbiter.
    pub(crate) fn send(&mut self, message: &Message) {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (waiting, messages) = mpsc::channel(WAITING);
            actix::spawn(send_all(self.me, self.group, self.peer.clone(), messages));
            waiting
        });
        let _ = waiting.try_send(message.clone());
    }
}

async fn send_all(me: NodeId, group: GroupId, peer: Peer, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        // To copy 10 MiB takes milliseconds, in which this thread would serve nobody.
        let encoded = spawn_blocking(move || {
            let mut encoded = Vec::with_capacity(message.values_len() + 1024);
            message.encode(me, &mut encoded);
            encoded
        });
        let Ok(encoded) = encoded.await else { return };
        // If it fails, the message counts as lost.
        let _ = peer.send_large(group, encoded).await;
    }
}
