//! [`Sender`]: who sent received frames, as they introduced themselves.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use crate::{
    error::PeerError,
    ids::{Incarnation, NodeId},
    lane::Lane,
    net::tls::Certificate,
    peer_addr::PeerAddr,
    send::{peer::Peer, peers::Peers},
    wire::control::node_info::NodeInfo,
};

/// The node that sent frames, as it introduced itself. Cheap to clone.
///
/// Without TLS, nothing proves what it says: on a network with strangers, anybody can claim to be any node. With
/// TLS, its certificate covers its number.
#[derive(Clone)]
pub struct Sender {
    node: NodeId,
    incarnation: Incarnation,
    addr: PeerAddr,
    /// The lane of the connection.
    lane: Lane,
    /// Weak, so that a batch does not keep the transport's peers.
    peers: Weak<Peers>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is none"))]
    certificate: Option<Arc<Certificate>>,
}

impl Sender {
    /// Makes the sender whose connection comes from `seen`.
    pub(crate) fn new(
        info: &NodeInfo,
        lane: Lane,
        seen: SocketAddr,
        peers: Weak<Peers>,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        let advertised = info.advertised.as_deref();
        let advertised = advertised.and_then(|addr| PeerAddr::try_from(addr).ok());
        let seen = || {
            // Not made of ip and port alone: a link-local address has a scope, too.
            let mut listening = seen;
            listening.set_port(info.port);
            match info.port {
                0 => PeerAddr::of_node(info.node),
                _ => PeerAddr::from(listening),
            }
        };
        Sender {
            node: info.node,
            incarnation: info.incarnation,
            addr: advertised.unwrap_or_else(seen),
            lane,
            peers,
            certificate,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Returns the node's number.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns which life of the node sent the frames.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns the certificate that the node has shown. `None` without TLS.
    #[cfg(feature = "tls")]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// Returns where the node is reached: at the address that it advertises
    /// ([`Identity::advertise`](crate::Identity::advertise)), otherwise at the ip that its connection comes
    /// from, with the port that it listens on. If it listens nowhere, this is the node itself
    /// ([`PeerAddr::node`]).
    pub fn addr(&self) -> PeerAddr {
        self.addr.clone()
    }

    /// Returns a handle to the node as a peer, to send an answer: on the normal lane, whatever the lane of the frames;
    /// [`Peer::lane`] sends on another one. Frames leave on the connection that the
    /// node has made, if no others leave there already, or on one that is dialled to
    /// [`addr`](Sender::addr), never to the port that the node dialled from.
    ///
    /// No other node at that address gets the frames that wait for this one. If all of them go stale in vain,
    /// the peer is again whoever is found at its address, unless the node was given to
    /// [`Builder::peer`](crate::Builder::peer).
    ///
    /// If the node is a peer already, because it was given to
    /// [`Builder::peer`](crate::Builder::peer) or was found at a peer's address, this is that peer.
    ///
    /// # Errors
    ///
    /// As for [`Transport::peer`](crate::Transport::peer).
    pub fn peer(&self) -> Result<Peer, PeerError> {
        let peers = self.peers.upgrade().ok_or(PeerError::Stopped)?;
        Ok(peers.of_node(self.node, &self.addr)?)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::node_info::Features;

    #[test]
    fn the_address_is_the_advertised_one_or_the_ip_that_is_seen_with_the_listening_port() {
        let addr = |seen: &str, advertised: Option<&str>| {
            let info = NodeInfo {
                node: NodeId::new(1),
                incarnation: Incarnation::new(2),
                cluster: None,
                advertised: advertised.map(str::to_owned),
                port: 7000,
                max_frame: None,
                max_message: None,
                features: Features::default(),
            };
            let seen = seen.parse().expect("an address");
            Sender::new(&info, Lane::NORMAL, seen, Weak::new(), None)
                .addr()
                .to_string()
        };
        let mapped = "[::ffff:10.0.0.9]:50000";
        assert_eq!(addr(mapped, Some("10.0.0.2:7002")), "10.0.0.2:7002");
        assert_eq!(addr(mapped, Some("node-2.svc:7002")), "node-2.svc:7002");
        assert_eq!(addr(mapped, Some("?")), "10.0.0.9:7000");
        assert_eq!(addr(mapped, None), "10.0.0.9:7000");
        assert_eq!(addr("[fe80::1%3]:50000", None), "[fe80::1%3]:7000");
    }
}
