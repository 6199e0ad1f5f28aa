//! [`Origin`]: where received frames came from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The ip and port that frames came from. It tells senders apart, and is no address to send to: on a
/// connection, the port is the one that the sender dialled from, and nobody listens there. An answer goes to
/// the [`Sender`](crate::Sender).
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct Origin(SocketAddr);

impl Origin {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Origin(addr)
    }

    /// Returns the ip.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// Returns the port.
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// Returns both as an address, for those who know that somebody listens there: the sender of a datagram
    /// usually does.
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
