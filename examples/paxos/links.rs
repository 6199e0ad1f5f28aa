//! The links of one replica to the others; encodes each message once, and sends what one turn of an
//! actor has for a node in one call.
//!
//! Which lane a message takes:
//!
//! | lane      | messages                                     | why                                             |
//! |-----------|----------------------------------------------|-------------------------------------------------|
//! | `CONTROL` | `Heartbeat`, `Prepare`, `Reject`             | A late one starts an election. Only the last of a kind counts, so it replaces those that still wait. |
//! | `CONTROL` | `Promise`, if it is not long                 | An election waits for it.                       |
//! | `BULK`    | `Learn`, and whatever has a long value       | It can wait, and may be longer than a frame.    |
//! | `NORMAL`  | all others                                   |                                                 |
//!
//! Order holds within a lane only. Paxos needs none; what arrives too early costs a `Fetch` at most.

use std::{mem, net::SocketAddr, ops::Range};

use actix_transport::{GroupId, Lane, Peer, PeerError, SendOptions, Transport};

use crate::{
    long_sends::{LongMessage, LongSends},
    message::{Message, NodeId, REPLICAS},
    value::LONG,
};

/// The address of each replica by its number.
pub(crate) type Addresses = [SocketAddr; REPLICAS];

/// Holds resolved peers, used for every message. After a new bind a node needs new links.
pub(crate) struct Links {
    me: NodeId,
    group: GroupId,
    /// By node.
    links: Vec<Link>,
    /// The messages of this turn, encoded.
    encoded: Vec<u8>,
    use_lanes: bool,
}

struct Link {
    normal: Peer,
    control: Peer,
    bulk: LongSends,
    /// Where this node's messages for `normal` are in `encoded`.
    outgoing: Vec<Range<usize>>,
}

/// How a message travels.
#[derive(Copy, Clone)]
enum Way {
    Normal,
    Control(SendOptions),
    Bulk,
}

impl Links {
    /// Without `use_lanes`, everything goes on one lane, in the order of sending and each message as one frame.
    pub(crate) fn new(
        me: NodeId,
        group: GroupId,
        transport: &Transport,
        addresses: &Addresses,
        use_lanes: bool,
    ) -> Result<Self, PeerError> {
        let lane = |lane| if use_lanes { lane } else { Lane::NORMAL };
        let link = |&addr: &SocketAddr| -> Result<Link, PeerError> {
            let normal = transport.peer(addr)?;
            Ok(Link {
                control: normal.lane(lane(Lane::CONTROL)),
                bulk: LongSends::new(group, normal.lane(lane(Lane::BULK)), use_lanes),
                normal,
                outgoing: Vec::new(),
            })
        };
        Ok(Self {
            me,
            group,
            links: addresses.iter().map(link).collect::<Result<_, _>>()?,
            encoded: Vec::new(),
            use_lanes,
        })
    }

    /// Adds a message, which is sent by the next [`flush`](Links::flush) at the latest.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.send_to([to], message);
    }

    /// Adds a message to every replica but the sender.
    pub(crate) fn send_others(&mut self, message: Message) {
        let me = self.me;
        self.send_to(NodeId::replicas().filter(|&node| node != me), message);
    }

    fn send_to(&mut self, nodes: impl IntoIterator<Item = NodeId>, message: Message) {
        let way = self.way(&message);
        if let Way::Bulk = way {
            let message = LongMessage::new(self.me, message);
            for node in nodes {
                self.links[node.index()].bulk.send(message.clone());
            }
            return;
        }
        let start = self.encoded.len();
        message.encode(self.me, &mut self.encoded);
        let frame = start..self.encoded.len();
        for node in nodes {
            let link = &mut self.links[node.index()];
            let Way::Control(options) = way else {
                link.outgoing.push(frame.clone());
                continue;
            };
            // A refused frame counts as lost, as in `flush`.
            let bytes = self.encoded[frame.clone()].to_vec();
            let _ = link.control.try_send_with(self.group, bytes, options);
        }
    }

    fn way(&self, message: &Message) -> Way {
        match message {
            message if message.values_len() > LONG => Way::Bulk,
            _ if !self.use_lanes => Way::Normal,
            Message::Heartbeat { .. } | Message::Prepare { .. } | Message::Reject { .. } => {
                Way::Control(SendOptions::new().latest(message.kind().into()))
            }
            Message::Promise { .. } => Way::Control(SendOptions::new()),
            Message::Learn { .. } => Way::Bulk,
            _ => Way::Normal,
        }
    }

    /// Sends the added messages. If a frame is refused, because a queue is full or the transport has
    /// stopped, it and those behind it count as lost: Paxos copes with lost frames.
    pub(crate) fn flush(&mut self) {
        let encoded = mem::take(&mut self.encoded);
        for link in &mut self.links {
            let frames = link.outgoing.drain(..);
            let frames = frames.map(|frame| (self.group, &encoded[frame]));
            let _ = link.normal.try_send_all(frames);
        }
        self.encoded = encoded;
        self.encoded.clear();
    }
}
