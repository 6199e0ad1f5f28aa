//! A node's way to the other nodes, for one group.

use std::net::SocketAddr;

use actix_transport::{GroupId, Peer, PeerError, Transport};

use crate::message::{Message, NodeId, REPLICAS};

/// Where each node listens, by its number: the replicas, then the clients.
pub(crate) type Addresses = [SocketAddr; REPLICAS + 1];

/// Resolved once, used for every message. A node that binds anew needs new ones.
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
        self.put(to);
    }

    /// Sends to every replica but the sender.
    pub(crate) fn send_others(&mut self, message: &Message) {
        self.encode(message);
        for node in NodeId::replicas().filter(|&node| node != self.me) {
            self.put(node);
        }
    }

    fn encode(&mut self, message: &Message) {
        self.scratch.clear();
        message.encode(self.me, &mut self.scratch);
    }

    /// A frame that is refused, because a queue is full or the transport has stopped, is a frame
    /// lost. The transport counts it, and Paxos has to cope with lost frames anyway.
    fn put(&self, to: NodeId) {
        let frame = self.scratch.as_slice();
        let _ = self.peers[to.index()].try_send(self.group, frame);
    }
}
