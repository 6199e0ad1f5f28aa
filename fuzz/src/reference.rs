//! A decoder that is as simple as possible, to compare the real one with.

/// The result of decoding a stream of bytes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Groups and payloads, in the order of the stream.
    pub(crate) frames: Vec<(u32, Vec<u8>)>,
    /// Bytes behind the last whole frame.
    pub(crate) rest: usize,
    /// Whether those bytes cannot begin a frame.
    pub(crate) malformed: bool,
}

pub(crate) fn reference(mut bytes: &[u8], limit: usize) -> Found {
    let mut found = Found::default();
    while let Some(length) = bytes.first_chunk::<4>() {
        let len = u32::from_be_bytes(*length) as usize;
        found.malformed = len < 8 || len > limit;
        if found.malformed || bytes.len() < len {
            break;
        }
        let group = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        found.frames.push((group, bytes[8..len].to_vec()));
        bytes = &bytes[len..];
    }
    found.rest = bytes.len();
    found
}

/// The frames sorted by group. Those of one group stay in order, as delivery promises no more.
pub(crate) fn by_group(mut frames: Vec<(u32, Vec<u8>)>) -> Vec<(u32, Vec<u8>)> {
    frames.sort_by_key(|(group, _)| *group);
    frames
}
