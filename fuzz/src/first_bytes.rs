//! Any limit of frames, and any bytes as the front of a connection on a port that takes TLS and frames.
//!
//! Whatever is taken for TLS is malformed for the decoder of frames, so nothing that a node without TLS
//! sends is taken for TLS. The decision is made by the first byte, and stays.

use actix_transport::test_internals::{
    Decoder,
    tls::{begins_with_tls, leaves_apart},
};
use bytes::BytesMut;

/// The least and the most that the limit may be.
const LIMITS: (usize, usize) = (64, 1 << 30);

pub fn run(data: &[u8]) {
    let Some((limit, arrived)) = data.split_first_chunk::<4>() else {
        return;
    };
    let limit = LIMITS.0 + u32::from_be_bytes(*limit) as usize % (LIMITS.1 - LIMITS.0 + 1);
    let tls = begins_with_tls(arrived);
    assert_eq!(tls.is_none(), arrived.is_empty());
    for more in 1..=arrived.len() {
        assert_eq!(begins_with_tls(&arrived[..more]), tls);
    }
    if leaves_apart(limit) {
        let both = tls == Some(true) && may_begin_a_frame(arrived, limit);
        assert!(!both, "limit {limit}");
    } else {
        // The limit is refused for a reason: this frame is within it.
        assert_eq!(begins_with_tls(b"\x16\0\0\0"), Some(true));
        assert!(may_begin_a_frame(b"\x16\0\0\0", limit), "limit {limit}");
    }
}

/// Returns whether the decoder takes the bytes, or takes the shortest length that can still come of them.
fn may_begin_a_frame(arrived: &[u8], limit: usize) -> bool {
    let mut bytes = BytesMut::from(arrived);
    if bytes.len() < 4 {
        bytes.resize(4, 0);
    }
    let mut begins = false;
    let whole = Decoder::default().groups(&mut bytes, limit, |_, _| begins = true);
    whole || begins
}
