//! [`LinkEnd`]: who is at the other end of a link, as events and the log tell it.

use std::{net::SocketAddr, sync::Arc};

use tracing::field::{DisplayValue, display};

use crate::{ids::NodeId, net::tls::Certificate, peer_addr::PeerAddr};

/// Who is at the other end of a link.
#[derive(Debug, Clone)]
pub(crate) struct LinkEnd {
    /// What the peer is called.
    pub(crate) peer: PeerAddr,
    /// The address that the link leads to.
    pub(crate) addr: SocketAddr,
    /// The node that is meant, or that has answered.
    pub(crate) node: Option<NodeId>,
    /// What it has shown, if the link is encrypted.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl LinkEnd {
    /// Returns what a line of the log shows: the peer; its address, if the peer has a name; and the node.
    pub(super) fn fields(
        &self,
    ) -> (
        &PeerAddr,
        Option<DisplayValue<SocketAddr>>,
        Option<DisplayValue<NodeId>>,
    ) {
        let addr = self.peer.host().map(|_| display(self.addr));
        (&self.peer, addr, self.node.map(display))
    }
}
