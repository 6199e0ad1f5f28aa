//! Messages that are longer than a frame, and their parts by hand.

use actix_transport::{Config, Transport};
use bytes::Bytes;

use super::{RESERVED, Raw, identity, start_at, wire, write};

/// A node with sessions.
pub(crate) fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

/// Bytes that show when a part is missing, twice or at another place.
pub(crate) fn message(len: usize) -> Bytes {
    (0..len / 4 + 1)
        .flat_map(|word| (word as u32).wrapping_mul(2_654_435_761).to_be_bytes())
        .take(len)
        .collect::<Vec<_>>()
        .into()
}

/// The frame of a part.
pub(crate) fn part(number: u64, to: u32, total: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let head = [
        b"atpm\x01\0\0\0".to_vec(),
        number.to_be_bytes().to_vec(),
        to.to_be_bytes().to_vec(),
        total.to_be_bytes().to_vec(),
        offset.to_be_bytes().to_vec(),
    ];
    wire(RESERVED, &[head.concat(), bytes.to_vec()].concat())
}

/// A connection of node 1 whose frames are numbered from 0 on.
pub(crate) async fn begun(b: &Transport) -> Raw {
    let mut raw = Raw::welcomed(b, 1, 4).await;
    write(&mut raw.0, &start_at(0, 0)).await;
    raw
}

pub(crate) fn incomplete(node: &Transport) -> u64 {
    node.stats().inbound.dropped.incomplete.frames
}
