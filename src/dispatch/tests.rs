//! The decoder, alone: what it finds, and what that costs, beside a reference.

use allocation_counter::{measure, opt_out};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config as Cases};

use super::*;

const LIMIT: usize = 64;

fn wire(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (group, payload) in frames {
        bytes.extend_from_slice(&frame::header(GroupId::new(*group), payload.len()));
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// What a stream of bytes holds.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The payloads of each group, the groups in the order of their first frames.
    groups: Vec<(u32, Vec<Vec<u8>>)>,
    /// Bytes of all whole frames.
    whole: usize,
    /// Whether that is where the sense ended.
    malformed: bool,
}

impl Found {
    fn add(&mut self, group: u32, payload: Vec<u8>) {
        match self.groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, payloads)) => payloads.push(payload),
            None => self.groups.push((group, vec![payload])),
        }
    }
}

/// Decodes a stream as plainly as it can be said.
fn reference(mut bytes: &[u8]) -> Found {
    let mut found = Found::default();
    while bytes.len() >= 4 {
        let len = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if !(8..=LIMIT).contains(&len) {
            found.malformed = true;
            break;
        }
        if bytes.len() < len {
            break;
        }
        let group = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        found.add(group, bytes[8..len].to_vec());
        found.whole += len;
        bytes = &bytes[len..];
    }
    found
}

/// Decodes a stream that comes in chunks as a connection does: what is left of one goes before the
/// next. Says what was found and how much memory that took at once, the stream and the finds apart.
fn decode<'c>(chunks: impl Iterator<Item = &'c [u8]>, total: usize) -> (Found, usize) {
    let mut found = Found::default();
    let mut most = 0;
    let mut splitter = Splitter::default();
    let mut buffer = BytesMut::with_capacity(total);
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        found.whole += chunk.len();
        let taken = measure(|| {
            let done = splitter.take(&mut buffer, LIMIT, |group, payload| {
                opt_out(|| found.add(group.get(), payload.to_vec()));
            });
            found.malformed = done.is_err();
        });
        most = most.max(taken.bytes_max as usize);
        if found.malformed {
            break;
        }
    }
    found.whole -= buffer.len();
    (found, most)
}

/// Cuts the stream there.
fn chunks<'b>(bytes: &'b [u8], cuts: &[Index]) -> impl Iterator<Item = &'b [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut start = 0;
    ends.into_iter().map(move |end| {
        let chunk = &bytes[start..end];
        start = end;
        chunk
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Frames of few groups, in runs and in turns, with some of groups that come once, and with anything
/// behind. Each byte is one frame: cheap to draw, and to make smaller.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = |(at, byte): (usize, u8)| match byte % 16 {
        0 => (u32::from(byte) << 24 | at as u32, vec![byte]),
        _ => (u32::from(byte % 4), vec![at as u8; usize::from(byte >> 4)]),
    };
    let bytes = (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..8));
    bytes.prop_map(move |(frames, behind)| {
        let frames: Vec<_> = frames.into_iter().enumerate().map(frame).collect();
        [wire(&frames), behind].concat()
    })
}

proptest! {
    #![proptest_config(Cases { cases: 100_000, ..Cases::default() })]

    #[test]
    fn any_bytes_in_any_chunks_are_what_the_reference_says_for_no_more_memory_than_they_take(
        bytes in prop_oneof![1 => any_bytes(), 3 => frames()],
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let (found, most) = decode(chunks(&bytes, &cuts), bytes.len());
        prop_assert_eq!(found, reference(&bytes));
        prop_assert!(most <= bytes.len() + SLACK, "{} bytes took {}", bytes.len(), most);
    }
}

/// What decoding may take beside as much again as it was given.
const SLACK: usize = 64 << 10;

/// The same for as many groups as a round reaches: their parts are kept, each some hundred bytes.
const GROUPS_SLACK: usize = 192 << 10;

#[test]
fn the_worst_there_can_be_takes_little_more_memory_than_it_is_long() {
    for (groups, frames, slack) in [
        (2, 4098, SLACK),
        (2, 33_000, SLACK),
        (3, 500_000, SLACK),
        (256, 33_000, SLACK),
        (1024, 1024, GROUPS_SLACK),
        (2000, 33_000, GROUPS_SLACK),
    ] {
        let frames: Vec<_> = (0..frames).map(|frame| (frame % groups, vec![])).collect();
        let bytes = wire(&frames);
        let (found, most) = decode(std::iter::once(&bytes[..]), bytes.len());
        assert_eq!(found.whole, bytes.len());
        let len = bytes.len();
        assert!(most <= len + slack, "{groups} groups: {len} took {most}");
    }
}

#[test]
fn a_round_reaches_a_thousand_groups_and_leaves_the_rest_for_the_next() {
    let frames: Vec<_> = (0..2000).map(|group| (group, vec![1])).collect();
    let bytes = wire(&frames);
    let mut splitter = Splitter::default();
    let split = splitter.split(&Table::default(), &bytes, LIMIT);
    assert_eq!(split.whole, ROUND_GROUPS * 9);
    assert!(matches!(split.done, Ok(false)));
}
