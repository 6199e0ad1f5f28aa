//! [`Identity`]: who this node is, as its user says.

use crate::{
    error::IdentityError,
    ids::{ClusterName, Incarnation, NodeId},
    net::{addr, time},
    peer_addr::PeerAddr,
};

/// Who this node is. Give it to [`Builder::identity`](crate::Builder::identity), so that nodes know who
/// they talk to, and can answer; see [`Sessions`](crate::Sessions).
///
/// ```
/// use actix_transport::{Identity, NodeId};
///
/// let identity = Identity::new(NodeId::new(2))
///     .cluster("kv")
///     .advertise("10.0.0.2:7000");
/// # let _ = identity;
/// ```
#[derive(Debug, Clone, Eq, PartialEq)]
pub struct Identity {
    node: NodeId,
    cluster: Option<String>,
    advertised: Option<String>,
    incarnation: Option<Incarnation>,
}

impl Identity {
    /// Makes the identity of a node that belongs to no named cluster.
    pub fn new(node: NodeId) -> Self {
        Identity {
            node,
            cluster: None,
            advertised: None,
            incarnation: None,
        }
    }

    /// Sets the name of the cluster, 1 to 255 bytes. A node of another cluster, or of none, is refused
    /// and refuses this one.
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = Some(name.into());
        self
    }

    /// Sets the address that other nodes reach this one at: `ip:port` or `name:port`, at most 259 bytes.
    /// They send their answers there. Without it, and where it has a name, they use the ip that they see,
    /// with the port that this node listens on.
    #[must_use]
    pub fn advertise(mut self, addr: impl Into<String>) -> Self {
        self.advertised = Some(addr.into());
        self
    }

    /// Sets which life of the node this is. It must grow with every start, such as a counter on disk. The
    /// default is the wall clock at the start, in microseconds: a clock that is set back between two starts
    /// makes the second one out of date.
    #[must_use]
    pub fn incarnation(mut self, number: u64) -> Self {
        self.incarnation = Some(Incarnation::new(number));
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Checks the identity. Takes the incarnation from the clock if none was given.
    pub(crate) fn resolve(&self) -> Result<Resolved, IdentityError> {
        let cluster = match &self.cluster {
            None => None,
            Some(name) => {
                let len = name.len();
                Some(ClusterName::new(name).ok_or(IdentityError::Cluster { len })?)
            }
        };
        let advertised = self.advertised.clone();
        if let Some(addr) = advertised.as_ref().filter(|addr| !is_reachable(addr)) {
            return Err(IdentityError::Advertised { addr: addr.clone() });
        }
        let from_clock = || Incarnation::new(time::wall_clock_micros());
        Ok(Resolved {
            node: self.node,
            cluster,
            advertised,
            incarnation: self.incarnation.unwrap_or_else(from_clock),
            from_clock: self.incarnation.is_none(),
        })
    }
}

/// An identity that keeps its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) node: NodeId,
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) advertised: Option<String>,
    pub(crate) incarnation: Incarnation,
    pub(crate) from_clock: bool,
}

/// Returns whether this is an address that others can reach: a usable `ip:port`, or a name and a port.
fn is_reachable(addr: &str) -> bool {
    let addr = PeerAddr::try_from(addr);
    addr.is_ok_and(|addr| addr.ip_addr().is_none_or(addr::is_usable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(NodeId::new(2))
    }

    #[test]
    fn a_cluster_has_a_name_of_1_to_255_bytes() {
        for (len, fits) in [(0, false), (1, true), (255, true), (256, false)] {
            let resolved = identity().cluster("k".repeat(len)).resolve();
            assert_eq!(resolved.is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn an_advertised_address_has_a_host_and_a_port() {
        for good in ["10.0.0.2:7000", "[::1]:7000", "node-2.svc:7000"] {
            let resolved = identity().advertise(good).resolve().expect(good);
            assert_eq!(resolved.advertised.as_deref(), Some(good));
        }
        let long = format!("{}:1", "a".repeat(254));
        for bad in [
            "",
            "node",
            "node:",
            ":1",
            "a b:1",
            "node:0",
            "0.0.0.0:7000",
            &long,
        ] {
            let err = identity().advertise(bad).resolve().expect_err(bad);
            assert!(err.to_string().contains(&format!("`{bad}`")), "{err}");
        }
    }

    #[test]
    fn an_incarnation_from_the_clock_is_later_than_one_of_2020() {
        let resolved = identity().resolve().expect("valid");
        assert!(resolved.incarnation > Incarnation::new(1_577_836_800_000_000));
        let given = identity().incarnation(7).resolve().expect("valid");
        assert_eq!(given.incarnation, Incarnation::new(7));
    }
}
