//! [`LinkEnd`]: who is at the other end of a link, as events and the log tell it.

use std::{net::SocketAddr, sync::Arc};

use tracing::field::{DisplayValue, display};

use crate::{
    ids::NodeId,
    lane::{Lane, PeerLane},
    net::tls::Certificate,
    peer_addr::PeerAddr,
};

/// Who is at the other end of a link.
#[derive(Debug, Clone)]
pub(crate) struct LinkEnd {
    /// What the peer is called, and the lane.
    pub(crate) to: PeerLane,
    /// The address that the link leads to.
    pub(crate) addr: SocketAddr,
    /// The node that is meant, or that has answered.
    pub(crate) node: Option<NodeId>,
    /// What it has shown, if the link is encrypted.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// What a line of the log shows, if anything.
pub(super) type Shown<T> = Option<DisplayValue<T>>;

/// Returns what a line of the log shows of a lane: nothing if it is the normal one.
pub(super) fn shown(lane: Lane) -> Shown<Lane> {
    (lane != Lane::NORMAL).then(|| display(lane))
}

impl LinkEnd {
    /// Returns what a line of the log shows: the peer; the lane, if it is not the normal one;
    /// its address, if the peer has a name; and the node.
    pub(super) fn fields(&self) -> (&PeerAddr, Shown<Lane>, Shown<SocketAddr>, Shown<NodeId>) {
        let PeerLane { peer, .. } = &self.to;
        let addr = peer.host().map(|_| display(self.addr));
        (peer, shown(self.to.lane), addr, self.node.map(display))
    }
}
