//! The counters that a transport shows, and the sums that hold between them.
//!
//! Counting is left to the send queues and to `receive_accounts`. Each of these changes all its counters
//! under one lock, so each snapshot balances; a sum of balanced snapshots balances as well.

mod balance;
mod call_stats;
mod drop_reason;
mod group_stats;
mod link_state;
mod link_stats;
mod receipt;
mod receive_stats;
mod send_stats;

use std::net::SocketAddr;

use self::balance::check;

#[cfg(feature = "tls")]
use crate::net::tls::{Certificate, TlsStats};
use crate::{ids::NodeId, lane::Lane, peer_addr::PeerAddr};

pub use self::{
    balance::Imbalance,
    call_stats::{CallFailures, CallStats, ServedStats},
    drop_reason::DropReason,
    group_stats::GroupStats,
    link_state::LinkState,
    link_stats::{DatagramErrors, LinkStats},
    receipt::Receipt,
    receive_stats::{ReceiveStats, Undelivered},
    send_stats::{Dropped, Rejected, SendStats},
};

/// A snapshot of a transport's counters, for all peers and groups together.
///
/// With the feature `serde`, it can be written in any format that serde supports.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Outgoing frames for connections to all peers, including peers that were forgotten.
    pub tcp: SendStats,
    /// The same by lane, in the order of their numbers ([`Lane::get`]). Together they are `tcp`.
    pub lanes: [SendStats; Lane::COUNT],
    /// Outgoing frames sent as datagrams.
    pub udp: SendStats,
    /// Frames received over connections and as datagrams.
    pub inbound: ReceiveStats,
    /// Calls that this node has made.
    pub calls: CallStats,
    /// Calls of other nodes that this node has received.
    pub served: ServedStats,
    /// Connections and actors.
    pub links: LinkStats,
    /// TLS handshakes.
    #[cfg(feature = "tls")]
    pub tls: TlsStats,
}

impl Stats {
    /// Checks that every frame, and every call, is counted in exactly one place.
    ///
    /// # Errors
    ///
    /// Returns the equation that does not hold. That would be a bug in this crate.
    pub fn balance(&self) -> Result<(), Imbalance> {
        self.calls.balance()?;
        self.served.balance()?;
        self.tcp.balance("tcp")?;
        for lane in &self.lanes {
            lane.balance("lane")?;
        }
        let of_lanes = self.lanes.iter().map(|lane| lane.offered).sum();
        check(
            "tcp",
            "offered = offered on all lanes",
            self.tcp.offered,
            of_lanes,
        )?;
        self.udp.balance("udp")?;
        self.inbound.balance()
    }
}

/// The name, the connection and the counters of one lane of one peer.
#[derive(Debug, Clone, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerStats {
    /// What the peer is called: its name and port, or its ip and port.
    pub peer: PeerAddr,
    /// The lane. Each lane in use has counters of its own.
    pub lane: Lane,
    /// The ip and port in use. If the peer is called by a name, this is where the name led when the last
    /// connection was made; `None` before the first one.
    pub addr: Option<SocketAddr>,
    /// The node's number: the one that must answer there ([`Builder::peer`](crate::Builder::peer)), or else the
    /// one that answered the `Hello` of the last connection, if frames waited for that. `None` if not known.
    pub node: Option<NodeId>,
    /// What was sent to the peer and what became of it.
    pub frames: SendStats,
    /// Whether there is a connection now, and if not, why.
    pub state: LinkState,
    /// Whether there is a connection to the peer now.
    pub connected: bool,
    /// How many connections have been made since the peer became known. This is also the number of the
    /// last one. It starts over when a peer was forgotten and becomes known again.
    pub epoch: u64,
    /// The certificate of the node at the other end of the last connection. `None` before the first one, and
    /// without TLS.
    #[cfg(feature = "tls")]
    pub certificate: Option<Certificate>,
}

impl PeerStats {
    /// Checks that every frame for this peer is counted in exactly one place.
    ///
    /// # Errors
    ///
    /// Returns the equation that does not hold. That would be a bug in this crate.
    pub fn balance(&self) -> Result<(), Imbalance> {
        self.frames.balance("peer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::count::Count;

    #[test]
    fn a_frame_in_two_places_or_in_none_is_an_imbalance() {
        let mut stats = Stats::default();
        stats.udp.offered = Count::one(72);
        assert!(stats.balance().is_err(), "offered, but in no place");
        stats.udp.accepted = Count::one(72);
        stats.udp.queued = Count::one(72);
        assert_eq!(stats.balance(), Ok(()));
        stats.udp.written = Count::one(72);
        let text = stats.balance().expect_err("in two places").to_string();
        assert!(text.starts_with("udp: accepted = written"), "{text}");
    }

    #[test]
    fn no_more_is_confirmed_or_in_doubt_than_was_written() {
        let mut stats = Stats::default();
        for count in [
            &mut stats.udp.offered,
            &mut stats.udp.accepted,
            &mut stats.udp.written,
            &mut stats.udp.confirmed,
        ] {
            *count = Count::one(72);
        }
        assert_eq!(stats.balance(), Ok(()));
        stats.udp.in_doubt = Count::one(72);
        assert!(stats.balance().is_err(), "one frame in both");
    }

    #[test]
    fn bytes_must_agree_as_well_as_frames() {
        let mut stats = Stats::default();
        stats.inbound.received = Count::one(72);
        stats.inbound.delivered = Count::one(71);
        assert!(stats.balance().is_err());
    }
}
