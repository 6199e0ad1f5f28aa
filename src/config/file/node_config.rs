//! [`NodeConfig`]: a whole node in one file.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};

use super::value::Value;
use crate::{config::Config, peer_addr::PeerAddr};

/// The configuration of one node, to be read from a file: its address, its peers by name, its settings.
/// Needs the feature `serde`.
///
/// ```
/// use actix_transport::{NodeConfig, Transport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node: NodeConfig = toml::from_str(
///     r#"
///     listen = "127.0.0.1:0"
///
///     [peers]
///     two = "10.0.0.2:7000"
///     three = "node-3.svc:7000"
///
///     [config]
///     stale_after = "2s"
///     queue_bytes = "64MiB"
///     "#,
/// )?;
/// actix::System::new().block_on(async {
///     let transport = Transport::builder().config(node.config).bind(&node.listen)?;
///     let two = transport.peer(&node.peers["two"])?;
///     # let _ = two;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Where the node listens, as [`Builder::bind`](crate::Builder::bind) takes it: `0.0.0.0:7000`.
    pub listen: String,
    /// Where its peers are reached, as ip and port or as name and port, by what the program calls them. May be
    /// left out.
    pub peers: BTreeMap<String, PeerAddr>,
    /// The settings. May be left out; each setting left out has its default.
    pub config: Config,
}

impl<'de> Deserialize<'de> for NodeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadNode)
    }
}

struct ReadNode;

impl<'de> Visitor<'de> for ReadNode {
    type Value = NodeConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with `listen`, `peers` and `config`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeConfig, A::Error> {
        let (mut listen, mut peers, mut config) = (None, BTreeMap::new(), Config::default());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "listen" => listen = Some(listen_addr(map.next_value()?).map_err(Error::custom)?),
                "peers" => peers = peer_addrs(map.next_value()?).map_err(Error::custom)?,
                "config" => config = map.next_value()?,
                _ => return Err(Error::custom(format!("unknown field `{name}` of a node"))),
            }
        }
        let listen =
            listen.ok_or_else(|| Error::custom("field `listen` of the node is missing"))?;
        Ok(NodeConfig {
            listen,
            peers,
            config,
        })
    }
}

fn listen_addr(value: Value) -> Result<String, String> {
    match value {
        Value::Text(addr) => Ok(addr),
        other => Err(format!(
            r#"`listen` is {other}, but must be an address such as "0.0.0.0:7000""#
        )),
    }
}

fn peer_addrs(value: Value) -> Result<BTreeMap<String, PeerAddr>, String> {
    let Value::Table(peers) = value else {
        return Err(format!(
            "`peers` is {value}, but must be a table of names and addresses"
        ));
    };
    let addrs = peers.into_iter().map(|(name, value)| {
        let addr = match &value {
            Value::Text(addr) => addr.parse().ok(),
            _ => None,
        };
        let problem = || {
            format!(r#"peer `{name}` is {value}, but must be an address such as "10.0.0.2:7000" or "node-2.svc:7000""#)
        };
        Ok((name.clone(), addr.ok_or_else(problem)?))
    });
    addrs.collect()
}
