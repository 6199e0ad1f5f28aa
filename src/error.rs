//! What can go wrong, one error per operation.
//!
//! A refused send carries its payload, so that nothing is lost by being refused; the other errors
//! name the address, group or field at fault. What goes wrong *after* a frame was accepted is not an
//! error but a counter and a [`PeerEvent`](crate::PeerEvent).

use std::{io, net::SocketAddr};

use crate::ids::GroupId;

/// Why [`Builder::bind`](crate::Builder::bind) gave no transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A field of the configuration is out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The address could not be resolved, is in use, or may not be bound.
    #[error("cannot bind {addr}: {source}")]
    Bind {
        /// The address as it was asked for.
        addr: String,
        /// What the system said.
        source: io::Error,
    },

    /// There is no actix `System` on this thread to start I/O arbiters in, or, with
    /// [`Placement::Current`](crate::Placement::Current), no runtime to run on.
    #[error("no actix system runs on this thread: call bind inside `System::run` or `block_on`")]
    NoSystem,
}

/// A field of [`Config`](crate::Config) that cannot be used.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("config field `{field}` {problem}")]
pub struct ConfigError {
    /// The field's name, as it stands in [`Config`](crate::Config).
    pub field: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

/// Which bound of a send queue was reached.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
pub enum QueueLimit {
    /// The number of frames.
    Frames,
    /// The bytes of the frames, as they stand on the wire.
    Bytes,
}

impl std::fmt::Display for QueueLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            QueueLimit::Frames => "frames",
            QueueLimit::Bytes => "bytes",
        })
    }
}

/// Why a frame was not accepted. Each variant gives the payload back as it came.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<P> {
    /// The queue holds as much as it may. Only the sends that do not wait say this.
    #[error("send queue is full, in {limit}")]
    Full {
        /// The bound that was reached.
        limit: QueueLimit,
        /// The payload, untouched.
        payload: P,
    },

    /// The frame is larger than the wire, or this queue, carries.
    #[error("payload of {} bytes is too large: the limit is {max}", .len)]
    TooLarge {
        /// The payload's length in bytes.
        len: usize,
        /// The longest payload that would have been taken.
        max: usize,
        /// The payload, untouched.
        payload: P,
    },

    /// The transport has stopped, or is draining and takes nothing new.
    #[error("transport has stopped")]
    Stopped {
        /// The payload, untouched.
        payload: P,
    },

    /// Group `0xFFFF_FFFF` is not for users: a PhxPaxos node ignores it.
    #[error("group {} is reserved", GroupId::RESERVED)]
    ReservedGroup {
        /// The payload, untouched.
        payload: P,
    },

    /// Nobody can be reached at this address: port 0, an unspecified, multicast or broadcast ip, or
    /// a family that the datagram socket does not speak.
    #[error("{addr} is not an address a frame can go to")]
    Address {
        /// The address at fault.
        addr: SocketAddr,
        /// The payload, untouched.
        payload: P,
    },

    /// The transport knows as many peers as [`Config::max_peers`](crate::Config::max_peers) allows.
    #[error("no room for a new peer: {max} are known already")]
    TooManyPeers {
        /// The cap.
        max: usize,
        /// The payload, untouched.
        payload: P,
    },

    /// This transport was configured without datagrams ([`Config::udp`](crate::Config::udp)).
    #[error("datagrams are switched off")]
    NoDatagrams {
        /// The payload, untouched.
        payload: P,
    },
}

impl<P> SendError<P> {
    /// Returns the payload that was refused.
    pub fn into_payload(self) -> P {
        match self {
            SendError::Full { payload, .. }
            | SendError::TooLarge { payload, .. }
            | SendError::Stopped { payload }
            | SendError::ReservedGroup { payload }
            | SendError::Address { payload, .. }
            | SendError::TooManyPeers { payload, .. }
            | SendError::NoDatagrams { payload } => payload,
        }
    }

    /// Returns whether the same send may succeed later, because only room was missing.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full { .. })
    }

    /// Returns whether the transport has stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(self, SendError::Stopped { .. })
    }
}

// By hand, so that it asks nothing of the payload and does not print it.
impl<P> std::fmt::Debug for SendError<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendError({self})")
    }
}

/// Why a frame was refused, without its payload: what the queue says to whoever holds the payload.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Refusal {
    Full(QueueLimit),
    TooLarge { len: usize, max: usize },
    Stopped,
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
            Refusal::ReservedGroup => SendError::ReservedGroup { payload },
            Refusal::Address(addr) => SendError::Address { addr, payload },
            Refusal::TooManyPeers { max } => SendError::TooManyPeers { max, payload },
            Refusal::NoDatagrams => SendError::NoDatagrams { payload },
        }
    }
}

/// Why [`Transport::peer`](crate::Transport::peer) gave no handle.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The transport has stopped.
    #[error("transport has stopped")]
    Stopped,
    /// Port 0, or an unspecified, multicast or broadcast ip.
    #[error("{0} is not an address a frame can go to")]
    Address(SocketAddr),
    /// The transport knows as many peers as [`Config::max_peers`](crate::Config::max_peers) allows.
    #[error("no room for a new peer: {max} are known already")]
    TooMany {
        /// The cap.
        max: usize,
    },
}

impl From<PeerError> for Refusal {
    fn from(err: PeerError) -> Self {
        match err {
            PeerError::Stopped => Refusal::Stopped,
            PeerError::Address(addr) => Refusal::Address(addr),
            PeerError::TooMany { max } => Refusal::TooManyPeers { max },
        }
    }
}

/// Why a group was not registered.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A living actor serves this group. Use [`Transport::replace`](crate::Transport::replace) to
    /// put another in its place.
    #[error("group {0} is served already")]
    Taken(GroupId),
    /// Group `0xFFFF_FFFF` is not for users.
    #[error("group {} is reserved", GroupId::RESERVED)]
    Reserved,
    /// The transport has stopped.
    #[error("the transport has stopped")]
    Stopped,
}
