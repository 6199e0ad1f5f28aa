//! The links of one replica to the other nodes; encodes each message once.

use std::net::SocketAddr;

use actix_transport::{GroupId, Peer, PeerError, Transport};

use crate::message::{Message, NodeId, REPLICAS};

/// The address of each node by its number: the replicas, then the clients.
pub(crate) type Addresses = [SocketAddr; REPLICAS + 1];

/// Holds resolved peers, used for every message. After a new bind a node needs new links.
pub(crate) struct Links {
    me: NodeId,
    group: GroupId,
    peers: Vec<Peer>,
    scratch: Vec<u8>,
}

impl Links {
    pub(crate) fn new(
        me: NodeId,
        group: GroupId,
        transport: &Transport,
        addresses: &Addresses,
    ) -> Result<Self, PeerError> {
        let peers = addresses.iter().map(|&addr| transport.peer(addr));
        Ok(Self {
            me,
            group,
            peers: peers.collect::<Result<_, _>>()?,
            scratch: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, to: NodeId, message: &Message) {
        self.encode(message);
        self.send_encoded(to);
    }

    /// Sends to every replica but the sender.
    pub(crate) fn send_others(&mut self, message: &Message) {
        self.encode(message);
        for node in NodeId::replicas().filter(|&node| node != self.me) {
            self.send_encoded(node);
        }
    }

    fn encode(&mut self, message: &Message) {
        self.scratch.clear();
        message.encode(self.me, &mut self.scratch);
    }

    /// Sends the encoded message. A frame that is refused, because a queue is full or the transport
    /// has stopped, counts as lost: the transport counts it, and Paxos copes with lost frames.
    fn send_encoded(&self, to: NodeId) {
        let frame = self.scratch.as_slice();
        let _ = self.peers[to.index()].try_send(self.group, frame);
    }
}
