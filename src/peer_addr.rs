//! [`PeerAddr`]: how a peer is called, by a name and a port or by an ip and a port.
//!
//! Knows no network. What address a name has is found out in `net/names`, at each dial.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    str::FromStr,
    sync::Arc,
};

use crate::ids::NodeId;

/// The longest host name, and the longest part of one between two dots: what the domain name system
/// allows.
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// Where a peer is reached: a host name and a port, or an ip and a port. Or a node that listens nowhere and
/// can only be answered. Cheap to clone.
///
/// A name is kept as a name. It is resolved again at each dial, so frames that wait for
/// `node-3.svc:7000` go to whatever address the name has by then. The peer is known by what it is called:
/// `node-3.svc:7000` and the ip that it has now are two peers, each with a queue of its own. Capital
/// letters count as small ones, and an IPv4 address that is mapped into IPv6 counts as itself.
///
/// ```
/// use actix_transport::PeerAddr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let by_name: PeerAddr = "Node-3.svc:7000".parse()?;
/// assert_eq!(by_name.to_string(), "node-3.svc:7000");
/// assert_eq!((by_name.host(), by_name.port()), (Some("node-3.svc"), 7000));
///
/// let by_ip = PeerAddr::try_from("[::1]:7000")?;
/// assert_eq!(by_ip.ip_addr(), Some("[::1]:7000".parse()?));
///
/// let err = PeerAddr::try_from("node-3.svc").unwrap_err();
/// assert!(err.to_string().contains("node-3.svc"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd)]
pub struct PeerAddr(Kind);

/// The ips come first, so that a list of peers is ordered by address, and names follow.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd)]
enum Kind {
    /// In the [`canonical`] form.
    Ip(SocketAddr),
    /// `host:port`, in small letters.
    Name { text: Arc<str>, port: u16 },
    /// Listens nowhere.
    Node(NodeId),
}

impl PeerAddr {
    /// Returns the ip and port, or `None` if this is a name, or a node that listens nowhere.
    #[inline]
    pub fn ip_addr(&self) -> Option<SocketAddr> {
        match self.0 {
            Kind::Ip(addr) => Some(addr),
            Kind::Name { .. } | Kind::Node(_) => None,
        }
    }

    /// Returns the host name, or `None` if there is none.
    pub fn host(&self) -> Option<&str> {
        match &self.0 {
            Kind::Ip(_) | Kind::Node(_) => None,
            Kind::Name { text, .. } => text.rsplit_once(':').map(|(host, _)| host),
        }
    }

    /// Returns the node, if it listens nowhere ([`Builder::connect_only`](crate::Builder::connect_only)) and
    /// can only be answered, on the connections that it makes itself.
    pub fn node(&self) -> Option<NodeId> {
        match self.0 {
            Kind::Ip(_) | Kind::Name { .. } => None,
            Kind::Node(node) => Some(node),
        }
    }

    /// Calls a node that listens nowhere.
    pub(crate) fn of_node(node: NodeId) -> Self {
        PeerAddr(Kind::Node(node))
    }

    /// Returns the port, 0 if there is none.
    pub fn port(&self) -> u16 {
        match self.0 {
            Kind::Ip(addr) => addr.port(),
            Kind::Name { port, .. } => port,
            Kind::Node(_) => 0,
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    #[inline]
    fn from(addr: SocketAddr) -> Self {
        PeerAddr(Kind::Ip(canonical(addr)))
    }
}

impl From<&PeerAddr> for PeerAddr {
    fn from(addr: &PeerAddr) -> Self {
        addr.clone()
    }
}

impl FromStr for PeerAddr {
    type Err = PeerAddrError;

    fn from_str(text: &str) -> Result<Self, PeerAddrError> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let bad = |problem| PeerAddrError {
            text: text.to_owned(),
            problem,
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
        check_host(host).map_err(bad)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        let port: u16 = port.ok_or_else(|| bad("its port must be a number from 1 to 65535"))?;
        let text = format!("{}:{port}", host.to_ascii_lowercase()).into();
        Ok(PeerAddr(Kind::Name { text, port }))
    }
}

/// Says what is wrong with a host name.
fn check_host(host: &str) -> Result<(), &'static str> {
    if host.contains([':', '[', ']']) {
        return Err("an IPv6 address is written as `[ip]:port`");
    }
    // One dot at the end says that the name is complete.
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.is_empty() || labels.len() > MAX_HOST {
        return Err("its host name must have 1 to 253 characters");
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !labels.bytes().all(in_name) {
        return Err("a host name has only letters, digits, `-`, `.` and `_`");
    }
    let fits = |label: &str| (1..=MAX_LABEL).contains(&label.len());
    if !labels.split('.').all(fits) {
        return Err("the parts of a host name between its dots have 1 to 63 characters");
    }
    // A resolver would take `10.0.0` as 10.0.0.0. Whoever wrote it meant something else.
    let last = labels.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it ends in a number, but is no ip address");
    }
    Ok(())
}

impl TryFrom<&str> for PeerAddr {
    type Error = PeerAddrError;

    fn try_from(text: &str) -> Result<Self, PeerAddrError> {
        text.parse()
    }
}

impl TryFrom<&String> for PeerAddr {
    type Error = PeerAddrError;

    fn try_from(text: &String) -> Result<Self, PeerAddrError> {
        text.parse()
    }
}

impl TryFrom<String> for PeerAddr {
    type Error = PeerAddrError;

    fn try_from(text: String) -> Result<Self, PeerAddrError> {
        text.parse()
    }
}

/// An ip hashes as the `SocketAddr` does, so looking a peer up by ip costs no more than before there were
/// names.
impl Hash for PeerAddr {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Kind::Ip(addr) => addr.hash(state),
            Kind::Name { text, .. } => text.hash(state),
            Kind::Node(node) => node.hash(state),
        }
    }
}

/// Equal if this is an ip and not a name.
impl PartialEq<SocketAddr> for PeerAddr {
    fn eq(&self, addr: &SocketAddr) -> bool {
        self.ip_addr() == Some(canonical(*addr))
    }
}

impl PartialEq<SocketAddr> for &PeerAddr {
    fn eq(&self, addr: &SocketAddr) -> bool {
        **self == *addr
    }
}

impl PartialEq<PeerAddr> for SocketAddr {
    fn eq(&self, addr: &PeerAddr) -> bool {
        addr == self
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Ip(addr) => addr.fmt(f),
            Kind::Name { text, .. } => f.pad(text),
            Kind::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// As it displays, like a `SocketAddr`.
impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes it as text.
#[cfg(feature = "serde")]
impl serde::Serialize for PeerAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads it from text.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for PeerAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no [`PeerAddr`].
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not the ip:port or name:port of a peer: {problem}")]
pub struct PeerAddrError {
    text: String,
    problem: &'static str,
}

impl PeerAddrError {
    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Returns the one form in which addresses are compared: IPv4 without the IPv6 mapping, and without
/// the parts of an IPv6 address that do not tell two peers apart.
#[inline]
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, addr.port()).into(),
        IpAddr::V6(ip) => {
            // The flow label never identifies a machine; the scope does so for link-local addresses.
            let scope = match addr {
                SocketAddr::V6(addr) if ip.is_unicast_link_local() => addr.scope_id(),
                _ => 0,
            };
            SocketAddrV6::new(ip, addr.port(), 0, scope).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<PeerAddr, PeerAddrError> {
        text.parse()
    }

    #[test]
    fn a_name_has_a_host_and_a_port_and_an_address_is_no_name() {
        for (text, host, port) in [
            ("node-3.svc:7000", "node-3.svc", 7000),
            ("LOCALHOST:1", "localhost", 1),
            ("_raft._tcp.kv.:65535", "_raft._tcp.kv.", 65535),
            ("10.0.0.2.in-addr:07", "10.0.0.2.in-addr", 7),
        ] {
            let addr = parse(text).expect(text);
            assert_eq!((addr.host(), addr.port()), (Some(host), port));
            assert_eq!(addr.ip_addr(), None);
        }
        for text in ["10.0.0.2:7000", "[fe80::1%3]:7000"] {
            let addr = parse(text).expect(text);
            assert_eq!((addr.host(), addr.port()), (None, 7000));
            assert_eq!(addr.ip_addr(), text.parse().ok());
        }
        assert_eq!(
            parse("node:07").expect("valid"),
            parse("NODE:7").expect("valid")
        );
    }

    #[test]
    fn what_is_no_address_is_named_with_its_problem() {
        let long_label = format!("{}:7000", "x".repeat(64));
        let long_host = format!("{}x:7000", "x.".repeat(127));
        for (text, problem) in [
            ("", "no port"),
            ("node-3", "no port"),
            ("node-3:", "from 1 to 65535"),
            ("node-3:0", "from 1 to 65535"),
            ("node-3:+7", "from 1 to 65535"),
            ("node-3:65536", "from 1 to 65535"),
            (":7000", "1 to 253"),
            (".:7000", "1 to 253"),
            (&long_host, "1 to 253"),
            ("node 3:7000", "only letters"),
            ("http://node:7000", "IPv6"),
            ("::1:7000", "IPv6"),
            ("[::1]7000:1", "IPv6"),
            ("node..svc:7000", "between its dots"),
            (&long_label, "between its dots"),
            ("10.0.0.256:7000", "ends in a number"),
            ("7:7", "ends in a number"),
            ("10.0.0:7000", "ends in a number"),
        ] {
            let err = parse(text).expect_err(text);
            assert_eq!(err.text(), text);
            let said = err.to_string();
            assert!(
                said.contains(problem) && said.contains(&format!("`{text}`")),
                "{said}"
            );
        }
    }

    #[test]
    fn an_ip_is_found_by_its_socket_address_and_a_name_never_is() {
        let addr: SocketAddr = "10.0.0.2:7000".parse().expect("an address");
        let mapped: SocketAddr = "[::ffff:10.0.0.2]:7000".parse().expect("an address");
        let (by_ip, hasher) = (PeerAddr::from(addr), RandomState::new());
        assert_eq!(PeerAddr::from(mapped), by_ip);
        assert_eq!(by_ip, mapped);
        assert_eq!(hasher.hash_one(&by_ip), hasher.hash_one(addr));
        let name = parse("ten.svc:7000").expect("valid");
        assert!(name != addr && by_ip < name);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_read_again_from_what_it_displays(text in "[a-cA-C0-9._:%\\[\\]-]{0,12}(:[0-9]{1,5})?") {
            if let Ok(addr) = parse(&text) {
                let shown = addr.to_string();
                prop_assert_eq!(parse(&shown), Ok(addr.clone()));
                prop_assert_eq!(addr.host().is_some(), addr.ip_addr().is_none());
                let port = addr.port().to_string();
                prop_assert!(shown.ends_with(&port));
            }
        }

        #[test]
        fn every_ip_and_port_is_the_same_as_text(ip: IpAddr, port: u16) {
            let addr = PeerAddr::from(SocketAddr::from((ip, port)));
            prop_assert_eq!(parse(&addr.to_string()), Ok(addr));
        }
    }
}
