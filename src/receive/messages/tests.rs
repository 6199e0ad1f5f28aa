use super::*;
use crate::net::time;

const GROUP: GroupId = GroupId::new(3);
const SECOND: Duration = Duration::from_secs(1);

fn messages() -> Messages {
    Messages::new(1 << 20, SECOND, 1 << 10)
}

fn part(message: u64, total: u64, offset: u64) -> PartHead {
    PartHead {
        message,
        group: GROUP,
        total,
        offset,
    }
}

fn incomplete(received: usize) -> Option<Incomplete> {
    Some(Incomplete {
        group: GROUP,
        count: Count::one(HEADER + received),
    })
}

/// Takes a part. Returns the message if it is whole by then.
fn take(messages: &mut Messages, part: PartHead, bytes: &[u8]) -> Option<BytesMut> {
    let now = time::now();
    let Place::Message(index) = messages.place(&part, bytes, now) else {
        panic!("no place for {part:?}");
    };
    let needs = messages.needs(index, bytes.len());
    let before = messages.held();
    let whole = messages.append(index, bytes, now);
    match &whole {
        None => assert_eq!(messages.held(), needs),
        Some(_) => assert!(messages.held() <= before),
    }
    whole
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame::header(GROUP, payload.len()).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn a_message_is_whole_with_its_last_part_and_others_may_come_between() {
    let mut messages = messages();
    assert_eq!(take(&mut messages, part(1, 9, 0), b"abcd"), None);
    assert_eq!(take(&mut messages, part(2, 2, 0), b"x"), None);
    assert_eq!(take(&mut messages, part(1, 9, 4), b"efgh"), None);
    let second = take(&mut messages, part(2, 2, 1), b"y").expect("whole");
    assert_eq!(second, framed(b"xy"));
    let first = take(&mut messages, part(1, 9, 8), b"i").expect("whole");
    assert_eq!(first, framed(b"abcdefghi"));
    assert!(messages.is_empty());
}

#[test]
fn a_part_that_does_not_follow_drops_the_whole_message() {
    let now = time::now();
    for (wrong, len) in [
        (part(1, 9, 5), 4),
        (part(1, 9, 0), 4),
        (part(1, 8, 4), 4),
        (part(1, 9, 4), 6),
        (part(1, 9, 4), 0),
        (
            PartHead {
                group: GroupId::new(4),
                ..part(1, 9, 4)
            },
            4,
        ),
        (part(1, u64::MAX, 4), 4),
    ] {
        let mut messages = messages();
        take(&mut messages, part(1, 9, 0), b"abcd");
        let place = messages.place(&wrong, &[0; 9][..len], now);
        assert_eq!(place, Place::Nowhere(incomplete(4)), "{wrong:?}");
        // It was counted, and what follows belongs to nothing.
        let rest = messages.place(&part(1, 9, 4), b"efghi", now);
        assert_eq!(rest, Place::Nowhere(None));
    }
}

#[test]
fn what_cannot_be_taken_is_refused_at_its_first_part() {
    let now = time::now();
    let mut messages = messages();
    for (refused, len) in [
        (part(1, (1 << 20) + 1, 0), 4),
        (part(1, 1 << 63, 0), 4),
        (part(1, 3, 0), 4),
        (part(1, 3, 0), 0),
    ] {
        let place = messages.place(&refused, &[0; 4][..len], now);
        assert_eq!(place, Place::Nowhere(incomplete(len)), "{refused:?}");
    }
    let reserved = PartHead {
        group: GroupId::RESERVED,
        ..part(1, 9, 0)
    };
    assert!(matches!(
        messages.place(&reserved, b"atpd", now),
        Place::Nowhere(Some(_))
    ));
    assert_eq!(messages.held(), 0);
}

#[test]
fn there_are_no_more_than_sixteen_at_a_time() {
    let mut messages = messages();
    for number in 0..1000 {
        let dropped = messages.make_room(&part(number, 9, 0));
        assert_eq!(dropped.len(), usize::from(number >= MAX_MESSAGES as u64));
        take(&mut messages, part(number, 9, 0), b"a");
    }
    assert_eq!(messages.clear().len(), MAX_MESSAGES);
}

#[test]
fn memory_follows_what_came() {
    const TOTAL: usize = 64 << 20;
    let mut messages = Messages::new(TOTAL, SECOND, 1 << 10);
    let bytes = vec![1; 64 << 10];
    for offset in (0..TOTAL).step_by(bytes.len()) {
        let whole = take(&mut messages, part(1, TOTAL as u64, offset as u64), &bytes);
        let received = offset + bytes.len();
        assert_eq!(whole.is_some(), received == TOTAL);
        let most = (received + received / 4 + MIN_STEP + 16).min(TOTAL + HEADER);
        assert!(messages.held() <= most, "{} of {received}", messages.held());
    }
}

#[test]
fn a_message_that_waits_too_long_for_a_part_is_dropped() {
    let begun = time::now();
    let mut messages = messages();
    let Place::Message(index) = messages.place(&part(1, 9, 0), b"a", begun) else {
        panic!("it is the first");
    };
    messages.append(index, b"a", begun);
    assert_eq!(messages.due(), Some(begun + SECOND));
    assert_eq!(messages.expire(begun + SECOND / 2), []);
    messages.restart(begun + SECOND / 2);
    assert_eq!(messages.expire(begun + SECOND), []);
    let late = messages.expire(begun + 2 * SECOND);
    assert_eq!(late.first().copied(), incomplete(1));
    assert_eq!((messages.due(), messages.held()), (None, 0));
}

#[test]
fn a_message_that_comes_too_slowly_is_dropped_although_it_goes_on() {
    let mut now = time::now();
    // A second for a part, and three for its length.
    let end = now + 4 * SECOND;
    let mut messages = messages();
    let mut offset = 0;
    while now < end {
        let Place::Message(index) = messages.place(&part(1, 3 << 10, offset), b"a", now) else {
            panic!("it was dropped before");
        };
        messages.append(index, b"a", now);
        offset += 1;
        now += SECOND / 2;
        let late = messages.expire(now);
        assert_eq!(late.is_empty(), now < end, "{offset}");
    }
    assert!(messages.is_empty());
}

#[test]
fn all_together_are_no_longer_than_one_may_be_and_the_newest_has_room() {
    let mut messages = messages();
    take(&mut messages, part(1, 600 << 10, 0), b"abcd");
    assert_eq!(messages.make_room(&part(2, 400 << 10, 0)), []);
    take(&mut messages, part(2, 400 << 10, 0), b"ab");
    assert_eq!(messages.make_room(&part(2, 400 << 10, 2)), [], "it goes on");
    assert_eq!(
        messages.make_room(&part(3, 1 << 63, 0)),
        [],
        "it is refused"
    );
    let dropped = messages.make_room(&part(3, 500 << 10, 0));
    assert_eq!(dropped.first().copied(), incomplete(4), "the oldest");
    take(&mut messages, part(3, 500 << 10, 0), b"abcd");
    assert_eq!(messages.len(), 2);
}

#[test]
fn one_can_be_kept_alone() {
    let mut messages = messages();
    for number in 1..=3 {
        take(&mut messages, part(number, 9, 0), b"abcd");
    }
    assert_eq!(messages.total(), 27);
    assert_eq!(messages.keep_only(1).len(), 2);
    assert_eq!(messages.total(), 9);
    let whole = take(&mut messages, part(2, 9, 4), b"efghi");
    assert_eq!(whole.expect("whole"), framed(b"abcdefghi"));
}

#[test]
fn a_message_can_be_cancelled() {
    let mut messages = messages();
    take(&mut messages, part(1, 9, 0), b"abcd");
    assert_eq!(messages.cancel(2), None);
    assert_eq!(messages.cancel(1), incomplete(4));
    assert_eq!(messages.cancel(1), None);
}
