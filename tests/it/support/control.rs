//! What nodes say to each other on the reserved group, in bytes that the tests make by hand.

use actix_transport::{Identity, NodeId, Transport};
use bytes::Bytes;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::{LONG, dial, wire, write};

pub(crate) const RESERVED: u32 = u32::MAX;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
pub(crate) const START: u8 = 4;
pub(crate) const GAP: u8 = 5;
pub(crate) const GOODBYE: u8 = 6;

pub(crate) fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("short");
    [&[tag], &len.to_be_bytes()[..], value].concat()
}

pub(crate) fn control(kind: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let payload = [b"atps", &[kind, 1, 1, 0][..], &fields.concat()].concat();
    wire(RESERVED, &payload)
}

/// What a node says about itself: number, incarnation, cluster and port.
pub(crate) fn about(node: u64, incarnation: u64, cluster: &str, port: u16) -> Vec<Vec<u8>> {
    let mut fields = vec![
        field(1, &node.to_be_bytes()),
        field(2, &incarnation.to_be_bytes()),
    ];
    if !cluster.is_empty() {
        fields.push(field(3, cluster.as_bytes()));
    }
    fields.push(field(5, &port.to_be_bytes()));
    fields.push(field(6, &((10u32 << 20) + 4).to_be_bytes()));
    fields
}

/// Says that frames may go both ways on the link, and that they are numbered.
pub(crate) fn both_ways() -> Vec<u8> {
    field(10, &1u32.to_be_bytes())
}

/// Says that too, and that the node takes calls, as all nodes of this release do.
pub(crate) fn all_features() -> Vec<u8> {
    field(10, &(1u32 | 4).to_be_bytes())
}

/// The first frame that this node sends to a peer of its own comes next.
pub(crate) fn start() -> (u32, Bytes) {
    let fields = [field(12, &[0; 8]), field(13, &[0; 8])].concat();
    let payload = [b"atps", &[START, 1, 1, 0][..], &fields].concat();
    (RESERVED, payload.into())
}

pub(crate) fn hello(node: u64, incarnation: u64) -> Vec<u8> {
    control(HELLO, &about(node, incarnation, "kv", 7000))
}

pub(crate) fn welcome(node: u64, incarnation: u64) -> Vec<u8> {
    control(WELCOME, &about(node, incarnation, "kv", 7000))
}

pub(crate) fn refused(reason: u16, known: Option<u64>) -> Vec<u8> {
    let known = known.map(|known| field(9, &known.to_be_bytes()));
    let fields: Vec<_> = [Some(field(8, &reason.to_be_bytes())), known]
        .into_iter()
        .flatten()
        .collect();
    control(REFUSED, &fields)
}

/// A `Start` of this stream with this number.
pub(crate) fn start_at(stream: u64, next: u64) -> Vec<u8> {
    let fields = [
        field(12, &stream.to_be_bytes()),
        field(13, &next.to_be_bytes()),
    ];
    control(START, &fields)
}

pub(crate) fn gap(next: u64) -> Vec<u8> {
    control(GAP, &[field(13, &next.to_be_bytes())])
}

pub(crate) fn goodbye() -> Vec<u8> {
    control(GOODBYE, &[])
}

/// A `Hello` of a node that takes frames on the link, too.
pub(crate) fn hello_both_ways(node: u64, incarnation: u64, port: u16) -> Vec<u8> {
    let mut fields = about(node, incarnation, "kv", port);
    fields.push(both_ways());
    control(HELLO, &fields)
}

/// A `Welcome` of a node that takes frames on the link, too.
pub(crate) fn welcome_both_ways(node: u64, incarnation: u64, port: u16) -> Vec<u8> {
    let mut fields = about(node, incarnation, "kv", port);
    fields.push(both_ways());
    control(WELCOME, &fields)
}

/// A node of the cluster `kv`, in its seventh incarnation.
pub(crate) fn identity(node: u64) -> Identity {
    Identity::new(NodeId::new(node))
        .cluster("kv")
        .incarnation(7)
}

/// A connection that the test dialled.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Connects and says this.
    pub(crate) async fn saying(transport: &Transport, bytes: &[u8]) -> Self {
        let mut stream = dial(transport).await;
        write(&mut stream, bytes).await;
        Raw(stream)
    }

    /// Connects as this node, and reads the `Welcome`.
    pub(crate) async fn welcomed(transport: &Transport, node: u64, incarnation: u64) -> Self {
        let mut raw = Raw::saying(transport, &hello(node, incarnation)).await;
        raw.read_control(WELCOME).await;
        raw
    }

    /// Reads one control frame of this kind.
    pub(crate) async fn read_control(&mut self, kind: u8) -> Vec<u8> {
        let mut frame = vec![0; 4];
        let reading = async {
            self.0.read_exact(&mut frame).await.expect("an answer");
            let length = u32::from_be_bytes(frame[..].try_into().expect("four"));
            frame.resize(length as usize, 0);
            self.0.read_exact(&mut frame[4..]).await.expect("all of it");
        };
        let read = timeout(LONG, reading).await;
        read.expect("nothing came");
        assert_eq!(frame[12], kind, "{frame:?}");
        frame
    }
}
