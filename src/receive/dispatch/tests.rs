//! The decoder, alone: what it finds, and what that costs, beside a reference.

use allocation_counter::{measure, opt_out};
use proptest::{collection::vec, prelude::*, test_runner::Config as Cases};

use super::*;

const LIMIT: usize = 64;

/// Where memory would be had for the asking, if it were given for what is announced.
const LARGE: usize = 10 << 20;

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
fn reference(mut bytes: &[u8], limit: usize) -> Found {
    let mut found = Found::default();
    while bytes.len() >= 4 {
        let len = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if !(8..=limit).contains(&len) {
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
fn decode<'c>(
    chunks: impl Iterator<Item = &'c [u8]>,
    total: usize,
    limit: usize,
) -> (Found, usize) {
    let mut found = Found::default();
    let mut most = 0;
    let mut splitter = Splitter::default();
    let mut buffer = BytesMut::with_capacity(total);
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        found.whole += chunk.len();
        let taken = measure(|| {
            let done = splitter.take(&mut buffer, limit, |group, payload| {
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

/// Cuts the stream at places drawn from these bytes; those that are zero do not count.
fn chunks(bytes: &[u8], cuts: u64) -> impl Iterator<Item = &[u8]> {
    let places = cuts.to_le_bytes().into_iter().filter(|place| *place > 0);
    let mut ends: Vec<_> = places
        .map(|place| usize::from(place) * bytes.len() / 256)
        .collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut start = 0;
    ends.into_iter().map(move |end| {
        let chunk = &bytes[start..end];
        start = end;
        chunk
    })
}

/// Any bytes, drawn eight at a time: a tree for each would be most of the work.
fn drawn(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let cut = bytes.first().map_or(0, |byte| usize::from(byte % 8));
    bytes.truncate(bytes.len() - cut);
    bytes
}

/// Frames of few groups, in runs and in turns, with some of groups that come once, one for each byte;
/// and with anything behind.
fn frames(drawn: &[u8], behind: u64) -> Vec<u8> {
    let frame = |(at, byte): (usize, &u8)| match byte % 16 {
        0 => (u32::from(*byte) << 24 | at as u32, vec![*byte]),
        _ => (u32::from(byte % 4), vec![at as u8; usize::from(byte >> 4)]),
    };
    let frames: Vec<_> = drawn.iter().enumerate().map(frame).collect();
    let behind = behind.to_le_bytes();
    [wire(&frames), behind[..usize::from(behind[7] % 8)].to_vec()].concat()
}

proptest! {
    #![proptest_config(Cases { cases: 100_000, ..Cases::default() })]

    #[test]
    fn any_bytes_in_any_chunks_are_what_the_reference_says_for_no_more_memory_than_they_take(
        words in vec(any::<u64>(), 0..25),
        (cuts, behind, sense) in (any::<u64>(), any::<u64>(), 0..4),
    ) {
        let (bytes, limit) = match sense {
            // No frames but by chance.
            0 => (drawn(&words), LIMIT),
            // A frame of which there is no more than the header, and that is long.
            1 => {
                let announced = frame::header(GroupId::new(1), LARGE - 8 - behind as usize % LIMIT);
                let frames = frames(&drawn(&words[..words.len() / 4]), 0);
                ([&frames[..], &announced].concat(), LARGE)
            }
            _ => (frames(&drawn(&words[..words.len() / 4]), behind), LIMIT),
        };
        let (found, most) = decode(chunks(&bytes, cuts), bytes.len(), limit);
        prop_assert_eq!(found, reference(&bytes, limit));
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
        (256, 3700, GROUPS_SLACK),
        (1024, 1024, GROUPS_SLACK),
        (2000, 33_000, GROUPS_SLACK),
    ] {
        let frames: Vec<_> = (0..frames).map(|frame| (frame % groups, vec![])).collect();
        let bytes = wire(&frames);
        let (found, most) = decode(std::iter::once(&bytes[..]), bytes.len(), LIMIT);
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
