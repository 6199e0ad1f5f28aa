//! Any bytes in any chunks. The decoder finds what the reference finds.

use actix_transport::test_internals::Decoder;
use bytes::BytesMut;

use super::reference::{by_group, reference};

const LIMIT: usize = 300;

/// The first byte says how the others are cut: into equal chunks, or, from 128 on, into growing
/// ones.
pub fn run(data: &[u8]) {
    let Some((how, stream)) = data.split_first() else {
        return;
    };
    let mut step = usize::from(how & 127) + 1;
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let (mut frames, mut malformed, mut at) = (Vec::new(), false, 0);
    while at < stream.len() && !malformed {
        let chunk = &stream[at..stream.len().min(at + step)];
        at += chunk.len();
        step += usize::from(how >> 7);
        buffer.extend_from_slice(chunk);
        malformed = !decoder.groups(&mut buffer, LIMIT, |group, payloads| {
            frames.extend(payloads.map(|payload| (group.get(), payload.to_vec())));
        });
    }
    let expected = reference(&stream[..at], LIMIT);
    assert_eq!(malformed, expected.malformed);
    assert_eq!(buffer.len(), expected.rest);
    assert_eq!(by_group(frames), by_group(expected.frames));
}
