//! What can go wrong, one error per operation.
//!
//! The error of a refused send gives the payload back; the other errors name the address, group or
//! field at fault. Losses *after* a frame was accepted are left to the counters and to
//! [`PeerEvent`](crate::PeerEvent).

use std::{convert::Infallible, io, net::SocketAddr};

use crate::{
    ids::{GroupId, NodeId},
    peer_addr::PeerAddrError,
};

/// Why [`Builder::bind`](crate::Builder::bind) or [`Builder::bind_with`](crate::Builder::bind_with) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A field of the configuration is out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The address cannot be resolved, is in use, or may not be bound; or the system lacks what the
    /// transport needs to start.
    #[error("cannot bind {addr}: {source}")]
    Bind {
        /// The address, as it was given to `bind`.
        addr: String,
        /// What the system said.
        source: io::Error,
    },

    /// A group given to the builder, or registered in
    /// [`Builder::bind_with`](crate::Builder::bind_with), cannot be served.
    #[error("cannot register: {0}")]
    Register(#[from] RegisterError),

    /// What was given to [`Builder::peer`](crate::Builder::peer) is no address of a peer.
    #[error(transparent)]
    Peer(#[from] PeerError),

    /// The identity given to [`Builder::identity`](crate::Builder::identity) cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),

    /// The keys given to `Builder::tls` cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::tls_error::TlsError),

    /// [`Placement::Current`](crate::Placement::Current) runs the transport on the actix arbiter of this
    /// thread, and this thread has none.
    #[error(
        "no actix arbiter runs on this thread: call bind inside `actix::System::block_on`, or use \
         `Placement::Dedicated`, which needs none"
    )]
    NoSystem,
}

/// A field of [`Config`](crate::Config) whose value is out of bounds.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("config field `{field}` {problem}")]
pub struct ConfigError {
    /// The name of the field.
    pub field: &'static str,
    /// What is wrong with its value: the end of a sentence that begins with the field's name.
    pub problem: String,
}

/// What is wrong with an [`Identity`](crate::Identity).
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The name of the cluster is empty, or longer than 255 bytes.
    #[error("name of the cluster has {len} bytes, but must have 1 to 255")]
    Cluster {
        /// How many bytes it has.
        len: usize,
    },
    /// Nobody can reach the advertised address: it has no port or port 0, an ip that no machine has, or a
    /// host name that is too long or has other characters than letters, digits, `-`, `.` and `_`.
    #[error("advertised address `{addr}` is not an ip:port or name:port that others can reach")]
    Advertised {
        /// The address, as it was given.
        addr: String,
    },
}

/// Which bound of a send queue was reached.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
pub enum QueueLimit {
    /// The number of frames: [`Config::queue_frames`](crate::Config::queue_frames), or
    /// [`Config::udp_queue_frames`](crate::Config::udp_queue_frames) for datagrams.
    Frames,
    /// The number of bytes: [`Config::queue_bytes`](crate::Config::queue_bytes), or
    /// [`Config::udp_queue_bytes`](crate::Config::udp_queue_bytes) for datagrams.
    Bytes,
    /// What one group may have of the queue, in frames or in bytes:
    /// [`Config::group_share`](crate::Config::group_share). Other groups may still have room.
    GroupShare,
}

impl std::fmt::Display for QueueLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            QueueLimit::Frames => "frames",
            QueueLimit::Bytes => "bytes",
            QueueLimit::GroupShare => "frames of this group, which has used up its share",
        })
    }
}

/// Why a frame was not accepted. Each variant gives the payload back, unchanged.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<P> {
    /// The send queue is full, or its part for this group is. [`Transport::send`](crate::Transport::send) and
    /// [`Peer::send`](crate::Peer::send) never return this: they wait for room.
    #[error("send queue is full: no room for more {limit}")]
    Full {
        /// The bound that was reached.
        limit: QueueLimit,
        /// The payload, unchanged.
        payload: P,
    },

    /// The payload is longer than [`Config::max_frame`](crate::Config::max_frame) allows, or, for
    /// datagrams, [`Config::max_datagram`](crate::Config::max_datagram).
    #[error("payload of {} bytes is too large: the limit is {max}", .len)]
    TooLarge {
        /// The payload's length in bytes.
        len: usize,
        /// The longest payload that is allowed, in bytes.
        max: usize,
        /// The payload, unchanged.
        payload: P,
    },

    /// The transport has stopped, or is stopping and accepts no new frames.
    #[error("transport has stopped")]
    Stopped {
        /// The payload, unchanged.
        payload: P,
    },

    /// The peer was forgotten ([`Peer::forget`](crate::Peer::forget)), and this is a handle from before that.
    #[error("peer was forgotten, and this is a handle from before that")]
    Forgotten {
        /// The payload, unchanged.
        payload: P,
    },

    /// Group `0xFFFF_FFFF` cannot be used: PhxPaxos nodes ignore it.
    #[error("group {} is reserved", GroupId::RESERVED)]
    ReservedGroup {
        /// The payload, unchanged.
        payload: P,
    },

    /// No frame can be sent to this address: it has port 0, or an unspecified, multicast or broadcast
    /// ip. Or it is an IPv6 address, and the datagram socket is bound to an IPv4 address.
    #[error("cannot send to {addr}: no peer can be reached at this address")]
    Address {
        /// The address.
        addr: SocketAddr,
        /// The payload, unchanged.
        payload: P,
    },

    /// The transport knows as many peers as [`Config::max_peers`](crate::Config::max_peers) allows, and
    /// none of them can be forgotten.
    #[error("too many peers: the limit is {max}")]
    TooManyPeers {
        /// The limit.
        max: usize,
        /// The payload, unchanged.
        payload: P,
    },

    /// Datagrams are off: [`Config::udp`](crate::Config::udp) is false, or TLS is on and does not allow them.
    #[error("datagrams are off: config field `udp` is false, or TLS is on and does not allow them")]
    NoDatagrams {
        /// The payload, unchanged.
        payload: P,
    },
}

impl<P> SendError<P> {
    /// Returns the same error without the payload.
    pub(crate) fn without_payload(self) -> SendError<()> {
        let payload = ();
        match self {
            SendError::Full { limit, .. } => SendError::Full { limit, payload },
            SendError::TooLarge { len, max, .. } => SendError::TooLarge { len, max, payload },
            SendError::Stopped { .. } => SendError::Stopped { payload },
            SendError::Forgotten { .. } => SendError::Forgotten { payload },
            SendError::ReservedGroup { .. } => SendError::ReservedGroup { payload },
            SendError::Address { addr, .. } => SendError::Address { addr, payload },
            SendError::TooManyPeers { max, .. } => SendError::TooManyPeers { max, payload },
            SendError::NoDatagrams { .. } => SendError::NoDatagrams { payload },
        }
    }

    /// Returns the payload that was refused.
    pub fn into_payload(self) -> P {
        match self {
            SendError::Full { payload, .. }
            | SendError::TooLarge { payload, .. }
            | SendError::Stopped { payload }
            | SendError::Forgotten { payload }
            | SendError::ReservedGroup { payload }
            | SendError::Address { payload, .. }
            | SendError::TooManyPeers { payload, .. }
            | SendError::NoDatagrams { payload } => payload,
        }
    }

    /// Returns whether the send queue, or the group's share of it, was full. The same send may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full { .. })
    }

    /// Returns whether the transport is stopping or has stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(self, SendError::Stopped { .. })
    }
}

// Written by hand: the payload need not be `Debug`, and is not printed.
impl<P> std::fmt::Debug for SendError<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendError({self})")
    }
}

/// Why a frame was refused. The caller, who holds the payload, turns this into a [`SendError`].
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Refusal {
    Full(QueueLimit),
    TooLarge { len: usize, max: usize },
    Stopped,
    Forgotten,
    ReservedGroup,
    Address(SocketAddr),
    TooManyPeers { max: usize },
    NoDatagrams,
}

impl Refusal {
    pub(crate) fn with<P>(self, payload: P) -> SendError<P> {
        match self {
            Refusal::Full(limit) => SendError::Full { limit, payload },
            Refusal::TooLarge { len, max } => SendError::TooLarge { len, max, payload },
            Refusal::Stopped => SendError::Stopped { payload },
            Refusal::Forgotten => SendError::Forgotten { payload },
            Refusal::ReservedGroup => SendError::ReservedGroup { payload },
            Refusal::Address(addr) => SendError::Address { addr, payload },
            Refusal::TooManyPeers { max } => SendError::TooManyPeers { max, payload },
            Refusal::NoDatagrams => SendError::NoDatagrams { payload },
        }
    }
}

/// Why a message in parts was not sent ([`Peer::send_large`](crate::Peer::send_large)). No receiver gets any of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LargeError {
    /// The node at the other end takes no messages in parts: it has no sessions, its release is too old, or it has
    /// switched them off ([`Config::max_message`](crate::Config::max_message)). Or this node has no sessions.
    #[error("the peer takes no messages in parts")]
    Unsupported,
    /// The node at the other end takes no message as long as this.
    #[error("message of {} bytes is too large: the peer takes {max}", .len)]
    TooLarge {
        /// The payload's length in bytes.
        len: usize,
        /// The longest payload that the node takes, in bytes.
        max: u64,
    },
    /// There was no connection to the peer for as long as a frame may wait.
    #[error("no connection to the peer in time")]
    NoConnection,
    /// Three connections ended in the middle of it.
    #[error("connections ended in the middle of the message")]
    Cut,
    /// A part of it was dropped from the queue: it went stale, or had to make room.
    #[error("a part of the message was dropped from the queue")]
    Dropped,
    /// The queue refused a part of it.
    #[error(transparent)]
    Refused(SendError<()>),
}

/// Why [`Transport::peer`](crate::Transport::peer) or [`Transport::peer_of`](crate::Transport::peer_of)
/// failed.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The transport is stopping or has stopped.
    #[error("transport has stopped")]
    Stopped,
    /// The address cannot be that of a peer: it has port 0, or an unspecified, multicast or broadcast
    /// ip.
    #[error("cannot send to {0}: no peer can be reached at this address")]
    Address(SocketAddr),
    /// The transport knows as many peers as [`Config::max_peers`](crate::Config::max_peers) allows, and
    /// none of them can be forgotten.
    #[error("too many peers: the limit is {max}")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The text is neither an ip:port nor a name:port.
    #[error(transparent)]
    Text(#[from] PeerAddrError),
    /// No address of this node was given to [`Builder::peer`](crate::Builder::peer).
    #[error("no address of node {0} was given to the builder")]
    UnknownNode(NodeId),
}

/// Why there is no peer to send to.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum NoPeer {
    Stopped,
    Address(SocketAddr),
    TooMany { max: usize },
}

impl From<NoPeer> for PeerError {
    fn from(why: NoPeer) -> Self {
        match why {
            NoPeer::Stopped => PeerError::Stopped,
            NoPeer::Address(addr) => PeerError::Address(addr),
            NoPeer::TooMany { max } => PeerError::TooMany { max },
        }
    }
}

impl From<NoPeer> for Refusal {
    fn from(why: NoPeer) -> Self {
        match why {
            NoPeer::Stopped => Refusal::Stopped,
            NoPeer::Address(addr) => Refusal::Address(addr),
            NoPeer::TooMany { max } => Refusal::TooManyPeers { max },
        }
    }
}

/// Lets [`Transport::peer`](crate::Transport::peer) take what always is an address.
impl From<Infallible> for PeerError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why an actor could not be registered for a group.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A running actor already serves this group.
    /// [`Transport::replace`](crate::Transport::replace) replaces it.
    #[error("group {0} is already served")]
    Taken(GroupId),
    /// A running actor already serves messages with this id in this group (feature `remote`).
    #[error("messages with id {id} are already served in group {group}")]
    TakenMessage {
        /// The group.
        group: GroupId,
        /// The id of the message.
        id: u32,
    },
    /// Group `0xFFFF_FFFF` cannot be used.
    #[error("group {} is reserved", GroupId::RESERVED)]
    Reserved,
    /// The transport has stopped.
    #[error("transport has stopped")]
    Stopped,
}
