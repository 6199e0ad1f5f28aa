//! The counters of connections and actors.

/// Counters of connections, actors and errors of datagrams. `Stats::balance` does not look at them.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LinkStats {
    /// Outgoing connections tried.
    pub dials: u64,
    /// How often a connection to a peer came up for sending, whoever dialled it.
    pub connects: u64,
    /// How often such a connection was lost or closed.
    pub disconnects: u64,
    /// Peers known now.
    pub peers: u64,
    /// Incoming connections accepted.
    pub accepted: u64,
    /// Incoming connections closed at once, because as many as allowed were open.
    pub turned_away: u64,
    /// How often accepting paused after an error of the listening socket, such as no free descriptors
    /// or memory.
    pub accept_stalls: u64,
    /// How often the listening socket was broken from outside and bound again at the same address.
    pub rebinds: u64,
    /// How often sending and receiving datagrams paused, because the system had no descriptor or no
    /// memory for the socket, or because the socket was shut down from outside and had to be bound again.
    pub datagram_stalls: u64,
    /// Datagrams that arrived and that the system dropped before they were read, most often because the
    /// socket's buffer was full ([`Config::udp_receive_buffer`](crate::Config::udp_receive_buffer)).
    /// Counted within a second, on Linux only; other systems do not tell, and the number stays 0. These
    /// datagrams are no part of [`ReceiveStats`](crate::ReceiveStats).
    pub datagrams_lost: u64,
    /// Incoming connections open now.
    pub connections: u64,
    /// How many incoming connections may be open at the same time. Lower than
    /// [`Config::max_connections`](crate::Config::max_connections) if the process may not have enough
    /// descriptors.
    pub connection_limit: u64,
    /// How often an actor of the transport ended unexpectedly and was restarted.
    pub restarts: u64,
    /// Outgoing connections that ended because the peer refused this node, or this node the peer
    /// ([`DownReason::Refused`](crate::DownReason::Refused)).
    pub refused: u64,
    /// Incoming connections whose node was refused when it introduced itself, or that were closed because a
    /// later incarnation of the same node came.
    pub refusals: u64,
    /// Incoming connections closed because no `Hello` came although
    /// [`Sessions::Required`](crate::Sessions::Required) needs one, or because what two nodes say to
    /// introduce themselves came damaged, twice, or at the wrong time.
    pub bad_handshakes: u64,
    /// How often a node introduced itself and was welcome ([`PeerEvent::Heard`](crate::PeerEvent::Heard)).
    pub heard: u64,
    /// How often a node said that it stops ([`PeerEvent::Goodbye`](crate::PeerEvent::Goodbye)).
    pub goodbyes: u64,
    /// How often frames of a node were missing ([`PeerEvent::Gap`](crate::PeerEvent::Gap)). How many they
    /// were is in [`ReceiveStats::missing`](crate::ReceiveStats::missing).
    pub gaps: u64,
    /// Datagrams that the system refused to send, by the kind of error it returned.
    pub datagram_errors: DatagramErrors,
}

/// Datagrams that the system refused to send, by kind of error.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DatagramErrors {
    /// The system cannot send a datagram of this length (`EMSGSIZE`).
    pub too_long: u64,
    /// There was no route, or a firewall refused the datagram.
    pub unreachable: u64,
    /// No socket was bound to the address, as the answer to an earlier datagram said.
    pub refused: u64,
    /// Any other error.
    pub other: u64,
}
