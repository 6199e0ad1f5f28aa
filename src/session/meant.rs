//! [`Meant`]: which node is meant at which address, as the user says.

use std::collections::HashMap;

use crate::{ids::NodeId, peer_addr::PeerAddr};

/// Which nodes are meant at which addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meant {
    nodes: HashMap<PeerAddr, NodeId>,
    addrs: HashMap<NodeId, PeerAddr>,
}

impl Meant {
    /// Says that `node` is meant at `addr`. Of several nodes at one address, and of several addresses of one
    /// node, the last one counts. The other addresses of the node still demand it.
    pub(crate) fn insert(&mut self, node: NodeId, addr: PeerAddr) {
        if let Some(before) = self.nodes.insert(addr.clone(), node)
            && self.addrs.get(&before) == Some(&addr)
        {
            self.addrs.remove(&before);
        }
        self.addrs.insert(node, addr);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the node that is meant at `addr`.
    pub(crate) fn node_at(&self, addr: &PeerAddr) -> Option<NodeId> {
        self.nodes.get(addr).copied()
    }

    /// Returns where `node` is reached.
    pub(crate) fn addr_of(&self, node: NodeId) -> Option<&PeerAddr> {
        self.addrs.get(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_node_at_an_address_and_the_last_address_of_a_node_count() {
        let [one, two] = [1, 2].map(NodeId::new);
        let [a, b] = ["a.svc:7", "10.0.0.2:7"].map(|text| PeerAddr::try_from(text).expect("valid"));
        let mut meant = Meant::default();
        meant.insert(one, a.clone());
        meant.insert(one, b.clone());
        assert_eq!(
            (meant.node_at(&a), meant.node_at(&b)),
            (Some(one), Some(one))
        );
        assert_eq!(meant.addr_of(one), Some(&b));
        meant.insert(two, b.clone());
        assert_eq!(
            (meant.node_at(&b), meant.addr_of(two)),
            (Some(two), Some(&b))
        );
        assert_eq!(meant.addr_of(one), None, "another node is meant there");
    }
}
