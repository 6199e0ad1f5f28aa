//! What `Grouping` finds, compared with a plain reference decoder, and how much memory it takes.

use allocation_counter::{measure, opt_out};
use proptest::{collection::vec, prelude::*, test_runner::Config as Cases};

use super::*;
use crate::wire::{control::Control, frame::HEADER};

const LIMIT: usize = 64;

const ANY_NUMBER: RoundLimits = RoundLimits {
    max_frame: LIMIT,
    max_frames: usize::MAX,
    control: false,
};

/// A limit that would show memory being allocated for an announced length.
const LARGE: usize = 10 << 20;

/// There are no groups whose frames are kept together.
fn none(_: GroupId) -> bool {
    false
}

fn wire(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (group, payload) in frames {
        bytes.extend_from_slice(&frame::header(GroupId::new(*group), payload.len()));
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// The frames found in a stream of bytes.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The payloads of each group, the groups in the order of their first frames.
    groups: Vec<(u32, Vec<Vec<u8>>)>,
    /// Bytes of all whole frames together.
    whole: usize,
    /// Whether the bytes behind the whole frames cannot be a frame.
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

/// The simplest decoder there can be.
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

/// Decodes a stream that comes in chunks, as a connection does: what is left of a chunk stays in front
/// of the next. Returns what was found, and the most memory that was in use for it at one time,
/// without the stream and the results.
fn decode<'c>(
    chunks: impl Iterator<Item = &'c [u8]>,
    total: usize,
    limit: usize,
) -> (Found, usize) {
    let mut found = Found::default();
    let mut most = 0;
    let mut grouping = Grouping::default();
    let mut buffer = BytesMut::with_capacity(total);
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        found.whole += chunk.len();
        let taken = measure(|| {
            found.malformed = loop {
                let limits = RoundLimits::frames_of(limit);
                let (groups, round) = grouping.round(&mut buffer, limits, none);
                for mut frames in groups {
                    check_total(frames.clone());
                    let group = frames.group().get();
                    while let Some(payload) = frames.next_slice() {
                        opt_out(|| found.add(group, payload.to_vec()));
                    }
                }
                match round {
                    Ok(Round::Complete) => break false,
                    Ok(Round::Bounded | Round::Control) => {}
                    Err(_) => break true,
                }
            };
        });
        most = most.max(taken.bytes_max as usize);
        if found.malformed {
            break;
        }
    }
    found.whole -= buffer.len();
    (found, most)
}

fn check_total(frames: GroupFrames) {
    let total = frames.total();
    let found = frames.map(|payload| Count::one(HEADER + payload.len()));
    assert_eq!(found.sum::<Count>(), total);
}

/// Cuts the stream at places given by the bytes of `cuts`. Zero bytes cut nothing.
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

/// Any bytes, drawn eight at a time: drawing each byte alone would be most of the work.
fn drawn(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let cut = bytes.first().map_or(0, |byte| usize::from(byte % 8));
    bytes.truncate(bytes.len() - cut);
    bytes
}

/// One frame for each byte of `drawn`. Most belong to a few groups, which alternate or follow one
/// another; some groups have a single frame. Up to seven bytes of `behind` follow the frames.
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
    fn any_bytes_in_any_chunks_give_what_the_reference_finds_in_bounded_memory(
        words in vec(any::<u64>(), 0..25),
        (cuts, behind, sense) in (any::<u64>(), any::<u64>(), 0..4),
    ) {
        let (bytes, limit) = match sense {
            // Random bytes, which are frames only by chance.
            0 => (drawn(&words), LIMIT),
            // Frames, and behind them the header of a long frame that does not come.
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

/// The memory that decoding may take beyond the length of the stream.
const SLACK: usize = 128 << 10;

/// The same for as many groups as a round has: some hundred bytes are kept for each.
const GROUPS_SLACK: usize = 256 << 10;

#[test]
fn many_groups_and_alternating_groups_take_little_more_memory_than_was_received() {
    for (groups, frames, slack) in [
        (2, 9000, SLACK),
        (2, 33_000, SLACK),
        (3, 500_000, SLACK),
        (256, 33_000, SLACK),
        (256, 8192, GROUPS_SLACK),
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
fn a_round_takes_no_more_than_its_number_of_groups() {
    let frames: Vec<_> = (0..2000).map(|group| (group, vec![1])).collect();
    let mut buffer = BytesMut::from(&wire(&frames)[..]);
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
    assert_eq!((round, groups.count()), (Ok(Round::Bounded), ROUND_GROUPS));
    assert_eq!(buffer.len(), (2000 - ROUND_GROUPS) * 9, "left for the next");
}

#[test]
fn a_round_with_all_its_groups_takes_more_frames_of_these() {
    let is_rest = |group: GroupId| group.get() >= 5000;
    let groups = (0..ROUND_GROUPS as u32 - 1).chain([5000, 3, 5001, 4]);
    let frames: Vec<_> = groups.chain([2000]).map(|group| (group, vec![1])).collect();
    let mut buffer = BytesMut::from(&wire(&frames)[..]);
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, is_rest);
    assert_eq!((round, groups.len()), (Ok(Round::Bounded), ROUND_GROUPS));
    assert_eq!(
        buffer,
        wire(&[(2000, vec![1])]),
        "the first of another group"
    );
}

#[test]
fn a_round_takes_no_more_than_its_number_of_spans() {
    let frames: Vec<_> = (0..9000).map(|frame| (frame % 2, vec![1])).collect();
    let mut buffer = BytesMut::from(&wire(&frames)[..]);
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
    assert_eq!(round, Ok(Round::Bounded));
    assert_eq!(groups.total().frames as usize, ROUND_SPANS);
    let totals = groups.map(|frames| frames.total().frames as usize);
    assert_eq!(totals.sum::<usize>(), ROUND_SPANS);
    assert_eq!(buffer.len(), (9000 - ROUND_SPANS) * 9, "left for the next");
}

#[test]
fn a_round_takes_no_more_than_its_number_of_frames() {
    let frames: Vec<_> = [1, 1, 1, 2, 1, 1]
        .map(|group| (group, vec![group as u8]))
        .into();
    let mut buffer = BytesMut::from(&wire(&frames)[..]);
    let mut grouping = Grouping::default();
    for (max_frames, expected, end) in [
        (2, vec![(1, 2)], Round::Bounded),
        (3, vec![(1, 2), (2, 1)], Round::Bounded),
        (1, vec![(1, 1)], Round::Complete),
    ] {
        let limits = RoundLimits {
            max_frames,
            ..ANY_NUMBER
        };
        let (groups, round) = grouping.round(&mut buffer, limits, none);
        let got: Vec<_> = groups
            .map(|frames| (frames.group().get(), frames.count()))
            .collect();
        assert_eq!((got, round), (expected, Ok(end)));
    }
}

#[test]
fn frames_before_a_malformed_one_are_handed_on_and_it_stays_in_the_buffer() {
    let malformed = 7u32.to_be_bytes();
    let bytes = [&wire(&[(1, vec![1])])[..], &malformed].concat();
    let mut buffer = BytesMut::from(&bytes[..]);
    let mut payloads = Vec::new();
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
    payloads.extend(groups.flatten());
    assert_eq!(round, Err(Malformed { length: 7 }));
    assert_eq!(payloads, [&[1][..]]);
    assert_eq!(buffer, &malformed[..]);
}

#[test]
fn payloads_are_slices_of_the_buffer_they_came_in() {
    let mut buffer = BytesMut::from(&wire(&[(1, vec![1]), (2, vec![2]), (1, vec![3])])[..]);
    let range = buffer.as_ptr_range();
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
    for payload in groups.flatten() {
        assert!(range.contains(&payload.as_ptr()), "not copied");
    }
    assert_eq!(round, Ok(Round::Complete));
}

#[test]
fn a_copy_of_the_first_frames_that_fit_shares_nothing_with_the_buffer() {
    // Two spans of group 1, with a frame of group 2 between them.
    let frames = [1, 1, 2, 1, 1].map(|group| (group, vec![group as u8; 2]));
    let mut buffer = BytesMut::from(&wire(&frames)[..]);
    let range = buffer.as_ptr_range();
    let mut grouping = Grouping::default();
    let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
    for frames in groups {
        if frames.group() == GroupId::new(1) {
            assert_eq!(frames.fitting(9), Count::ZERO);
            assert_eq!(frames.fitting(40), frames.total());
            let fitting = frames.fitting(39);
            assert_eq!(fitting, Count::new(3, 30));
            let copied = frames.copied(fitting);
            assert_eq!(copied.total(), fitting);
            let payloads: Vec<_> = copied.collect();
            assert_eq!(payloads, [&[1, 1][..]; 3]);
            assert!(payloads.iter().all(|own| !range.contains(&own.as_ptr())));
        }
    }
    assert_eq!(round, Ok(Round::Complete));
}

/// Whatever their groups are, and whoever else is sent to between them.
#[test]
fn frames_of_the_rest_are_kept_together_in_their_order() {
    let groups = [7, 1, 8, 8, 2, 7, 1, 9];
    let frames: Vec<_> = (0..)
        .zip(groups)
        .map(|(at, group)| (group, vec![at]))
        .collect();
    let is_rest = |group: GroupId| group.get() > 2;
    for max_frames in 1..=groups.len() {
        let mut buffer = BytesMut::from(&wire(&frames)[..]);
        let limits = RoundLimits {
            max_frames,
            ..ANY_NUMBER
        };
        let (mut rest, mut others) = (Vec::new(), Vec::new());
        let mut grouping = Grouping::default();
        loop {
            let (groups, round) = grouping.round(&mut buffer, limits, is_rest);
            for mut frames in groups {
                check_total(frames.clone());
                let found = match frames.group_of_all() {
                    None => &mut rest,
                    Some(_) => &mut others,
                };
                for _ in 0..frames.total().frames {
                    let group = frames.group().get();
                    found.push((group, frames.next().expect("one is left").to_vec()));
                }
                assert_eq!(frames.next(), None);
                let last = found.last().map(|(group, _)| *group);
                assert_eq!(Some(frames.group().get()), last);
            }
            if round == Ok(Round::Complete) {
                break;
            }
        }
        let (in_order, mut grouped): (Vec<_>, Vec<_>) =
            frames.iter().cloned().partition(|(group, _)| *group > 2);
        assert_eq!(rest, in_order, "{max_frames} at once");
        others.sort();
        grouped.sort();
        assert_eq!(others, grouped);
    }
}

/// A frame of the reserved group that is none of the transport's own is a frame like any other.
#[test]
fn a_frame_of_the_transport_ends_a_round_where_such_frames_are_looked_for() {
    const RESERVED: u32 = GroupId::RESERVED.get();

    let others = wire(&[
        (1, vec![1]),
        (1, vec![2]),
        (RESERVED, vec![3; 20]),
        (RESERVED, vec![4; 20]),
        (1, vec![5]),
        (1, vec![6]),
        (1, vec![7]),
    ]);
    let own = Control::Goodbye.encode();
    let bytes = [&others[..], &own, &own].concat();
    let round = |control| {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut grouping = Grouping::default();
        let limits = RoundLimits {
            control,
            ..ANY_NUMBER
        };
        let (groups, round) = grouping.round(&mut buffer, limits, none);
        assert_eq!(groups.len(), 2);
        let counts: Vec<_> = groups.map(|frames| frames.count()).collect();
        let spans = grouping.shared_spans.as_ref().map(|spans| spans.len());
        (counts, round, buffer, spans)
    };
    let (counts, ended, left, spans) = round(true);
    assert_eq!((counts, ended), (vec![5, 2], Ok(Round::Control)));
    assert_eq!(left, [&own[..], &own].concat());
    // One for the second frame of the reserved group, and one for all that follow of the other group.
    assert_eq!(spans, Some(2));
    let (counts, ended, left, spans) = round(false);
    assert_eq!((counts, ended), (vec![5, 4], Ok(Round::Complete)));
    assert!(left.is_empty());
    assert_eq!(spans, Some(2));
}

#[test]
fn spans_get_little_room_first_then_all_that_a_round_may_need_and_that_is_used_again() {
    let frames: Vec<_> = (0..200).map(|frame| (frame % 2, vec![1])).collect();
    let mut grouping = Grouping::default();
    let mut round = |frames: &[(u32, Vec<u8>)]| {
        let mut buffer = BytesMut::from(&wire(frames)[..]);
        let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
        assert_eq!((groups.len(), round), (2, Ok(Round::Complete)));
        drop(groups);
        let spans = grouping.shared_spans.as_ref();
        let spans = spans.expect("the groups alternate");
        (spans.capacity(), spans.as_ptr())
    };
    assert_eq!(round(&frames[..3]).0, FEW_SPANS);
    let (room, place) = round(&frames);
    assert_eq!(room, ROUND_SPANS);
    assert_eq!(round(&frames), (room, place));
}

#[test]
fn the_last_group_has_the_buffer_for_itself() {
    let mut buffer = BytesMut::from(&wire(&[(1, vec![1]), (2, vec![2])])[..]);
    let mut grouping = Grouping::default();
    let (mut groups, _) = grouping.round(&mut buffer, ANY_NUMBER, none);
    assert_eq!(groups.size_hint(), (2, Some(2)));
    drop(groups.next());
    assert_eq!(groups.len(), 1);
    let mut last = groups.next().expect("the second group");
    assert_eq!(groups.len(), 0);
    let payload = last.next().expect("its frame");
    drop((last, buffer));
    assert!(payload.is_unique(), "and not its round");
}

/// As each small read of a long frame does.
#[test]
fn a_round_without_a_whole_frame_allocates_nothing() {
    let bytes = wire(&[(1, vec![1; 40])]);
    let mut buffer = BytesMut::from(&bytes[..20]);
    let mut grouping = Grouping::default();
    let taken = measure(|| {
        let (groups, round) = grouping.round(&mut buffer, ANY_NUMBER, none);
        assert_eq!((groups.len(), round), (0, Ok(Round::Complete)));
    });
    assert_eq!(taken.count_total, 0);
}
