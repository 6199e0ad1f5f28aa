//! The links of one replica to the other nodes; encodes each message once, and sends what one turn of an
//! actor has for a node in one call.

use std::{mem, net::SocketAddr, ops::Range};

use actix_transport::{GroupId, Peer, PeerError, Transport};

use crate::message::{Message, NodeId, REPLICAS};

/// The address of each node by its number: the replicas, then the clients.
pub(crate) type Addresses = [SocketAddr; REPLICAS + 1];

/// Holds resolved peers, used for every message. After a new bind a node needs new links.
pub(crate) struct Links {
    me: NodeId,
    group: GroupId,
    peers: Vec<Peer>,
    /// The messages of this turn, encoded.
    encoded: Vec<u8>,
    /// Where the messages for each node are in `encoded`.
    outgoing: [Vec<Range<usize>>; REPLICAS + 1],
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
            encoded: Vec::new(),
            outgoing: Default::default(),
        })
    }

    /// Adds a message, which [`flush`](Links::flush) sends.
    pub(crate) fn send(&mut self, to: NodeId, message: &Message) {
        let frame = self.encode(message);
        self.outgoing[to.index()].push(frame);
    }

    /// Adds a message to every replica but the sender.
    pub(crate) fn send_others(&mut self, message: &Message) {
        let frame = self.encode(message);
        for node in NodeId::replicas().filter(|&node| node != self.me) {
            self.outgoing[node.index()].push(frame.clone());
        }
    }

    fn encode(&mut self, message: &Message) -> Range<usize> {
        let start = self.encoded.len();
        message.encode(self.me, &mut self.encoded);
        start..self.encoded.len()
    }

    /// Sends the added messages. If a frame is refused, because a queue is full or the transport has
    /// stopped, it and those behind it count as lost: Paxos copes with lost frames.
    pub(crate) fn flush(&mut self) {
        let encoded = mem::take(&mut self.encoded);
        for (peer, frames) in self.peers.iter().zip(&mut self.outgoing) {
            let frames = frames.drain(..).map(|frame| (self.group, &encoded[frame]));
            let _ = peer.try_send_all(frames);
        }
        self.encoded = encoded;
        self.encoded.clear();
    }
}
