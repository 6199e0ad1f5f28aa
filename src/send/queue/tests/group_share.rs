//! A group may fill its share of the queue, and no more.

use std::pin::Pin;

use bytes::Bytes;

use super::*;
use crate::{
    calls::{
        pending::{CallLane, CallPeer, PendingCalls},
        queued_call::QueuedCall,
    },
    ids::{Incarnation, NodeId},
    wire::call::CallFrame,
};

pub(super) const NOISY: GroupId = GroupId::new(7);
pub(super) const QUIET: GroupId = GroupId::new(8);

pub(super) const SHARE_FULL: Refusal = Refusal::Full(QueueLimit::GroupShare);

/// Eight frames or 1,000 bytes, of which a group may have three frames or 300 bytes.
pub(super) fn shared(overflow: Overflow) -> Arc<SendQueue> {
    queue(Limits {
        frames: 8,
        bytes: 1000,
        overflow,
        share: Some(GroupShare {
            frames: 3,
            bytes: 300,
        }),
        ..limits()
    })
}

pub(super) fn push_to(queue: &SendQueue, group: GroupId, payload: &[u8]) -> Result<(), Refusal> {
    let pushed = queue.push((), group, payload, at(0));
    pushed.map(drop).map_err(|(refusal, back)| {
        assert_eq!(back, payload);
        refusal
    })
}

type Pushing<'q> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'q>>;

/// Starts a sender that has to wait.
fn waiting<'q>(
    queue: &'q SendQueue,
    group: GroupId,
    payload: &'q [u8],
    waker: &Waker,
) -> Pushing<'q> {
    let mut pushing: Pushing<'q> = Box::pin(async move {
        let pushed = queue.push_wait((), group, payload, || at(0)).await;
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    });
    assert!(poll_with(&mut pushing, waker).is_pending());
    pushing
}

fn poll_with(pushing: &mut Pushing<'_>, waker: &Waker) -> Poll<Result<(), Refusal>> {
    pushing.as_mut().poll(&mut Context::from_waker(waker))
}

fn is_ready(pushing: &mut Pushing<'_>) -> bool {
    match poll_with(pushing, Waker::noop()) {
        Poll::Ready(pushed) => pushed.is_ok(),
        Poll::Pending => false,
    }
}

/// Returns the groups and payloads of the frames of the batch.
pub(super) fn contents(batch: &Batch) -> Vec<(GroupId, Vec<u8>)> {
    let mut contents = Vec::new();
    for chunk in &batch.chunks {
        let bytes = chunk.parts().concat();
        let mut bytes = &bytes[..];
        while let Some(head) = frame::peek(bytes, usize::MAX).expect("well formed") {
            contents.push((head.group, bytes[HEADER..head.len].to_vec()));
            bytes = &bytes[head.len..];
        }
    }
    contents
}

/// Returns how many groups the queue counts.
fn groups(queue: &SendQueue) -> usize {
    queue.locked(|state| state.shares.as_ref().map_or(0, |shares| shares.groups()))
}

/// Takes a batch, with gaps or without, and counts all of it as written.
fn write_all(queue: &Arc<SendQueue>) {
    let mut batch = take(queue, 0);
    batch.advance(batch.count().bytes as usize);
}

#[test]
fn a_group_is_refused_above_its_share_in_frames_or_bytes_and_the_others_have_room() {
    let queue = shared(Overflow::RejectNewest);
    for _ in 0..3 {
        push_to(&queue, NOISY, b"x").unwrap();
    }
    assert_eq!(push_to(&queue, NOISY, b"x"), Err(SHARE_FULL));
    assert_eq!(push_to(&queue, QUIET, &[0; 92]), Ok(()));
    assert_eq!(push_to(&queue, QUIET, &[0; 193]), Err(SHARE_FULL));
    assert_eq!(push_to(&queue, QUIET, &[0; 192]), Ok(()), "300 bytes");
    let rejected = balanced(&queue).rejected;
    assert_eq!(rejected.full_share, Count::new(2, 9 + 201));
    assert_eq!(rejected.total(), rejected.full_share);
}

#[test]
fn what_can_never_enter_is_refused_for_that_and_not_for_a_full_share() {
    let queue = shared(Overflow::RejectNewest);
    for _ in 0..3 {
        push_to(&queue, NOISY, b"x").unwrap();
    }
    let refused = push_to(&queue, NOISY, &[0; 50_000]);
    assert!(
        matches!(refused, Err(Refusal::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn frames_in_flight_count_until_they_are_written() {
    let queue = shared(Overflow::RejectNewest);
    for payload in [b"1", b"2", b"3"] {
        push_to(&queue, NOISY, payload).unwrap();
        push_to(&queue, QUIET, payload).unwrap();
    }
    let mut batch = take(&queue, 0);
    assert_eq!(push_to(&queue, NOISY, b"x"), Err(SHARE_FULL));
    // The first frame is of the noisy group. Half of the next one is written, too.
    batch.advance(9 + 4);
    assert_eq!(push_to(&queue, QUIET, b"x"), Err(SHARE_FULL));
    assert_eq!(push_to(&queue, NOISY, b"4"), Ok(()));
    assert_eq!(push_to(&queue, NOISY, b"5"), Err(SHARE_FULL));
    drop(batch);
    assert_eq!(
        push_to(&queue, NOISY, b"5"),
        Err(SHARE_FULL),
        "they came back"
    );
    write_all(&queue);
    assert_eq!(groups(&queue), 0, "who has nothing is not counted");
    for group in [NOISY, QUIET] {
        assert_eq!(push_to(&queue, group, b"x"), Ok(()));
    }
    balanced(&queue);
}

#[test]
fn what_went_stale_makes_room_in_its_group() {
    let queue = shared(Overflow::RejectNewest);
    for _ in 0..3 {
        push_to(&queue, NOISY, b"x").unwrap();
    }
    let mut batch = take(&queue, 0);
    batch.advance(4);
    batch.expire(at(100));
    push_to(&queue, NOISY, b"x").unwrap();
    push_to(&queue, NOISY, b"x").unwrap();
    assert_eq!(
        push_to(&queue, NOISY, b"x"),
        Err(SHARE_FULL),
        "one was begun"
    );
    drop(batch);
    assert_eq!(queue.expire(at(100)).stale.frames, 5);
    assert_eq!(groups(&queue), 0);
}

#[test]
fn one_frame_longer_than_the_share_enters_when_its_group_has_nothing_else() {
    for overflow in [Overflow::RejectNewest, Overflow::DropOldest] {
        let queue = shared(overflow);
        push_to(&queue, QUIET, b"x").unwrap();
        assert_eq!(push_to(&queue, NOISY, &[0; 700]), Ok(()));
        assert_eq!(groups(&queue), 2);
    }
    let queue = shared(Overflow::RejectNewest);
    push_to(&queue, NOISY, b"x").unwrap();
    assert_eq!(push_to(&queue, NOISY, &[0; 700]), Err(SHARE_FULL));
    let mut long = waiting(&queue, NOISY, &[0; 700], Waker::noop());
    assert_eq!(push_to(&queue, NOISY, b"x"), Err(SHARE_FULL), "it waits");
    write_all(&queue);
    assert!(is_ready(&mut long));
    balanced(&queue);
}

#[test]
fn a_group_evicts_its_own_oldest_frames_wherever_they_are() {
    let queue = shared(Overflow::DropOldest);
    for payload in [b"1", b"2", b"3", b"4"] {
        push_to(&queue, QUIET, payload).unwrap();
        push_to(&queue, NOISY, payload).unwrap();
        push_to(&queue, NOISY, payload).unwrap();
    }
    let stats = balanced(&queue);
    assert_eq!(stats.dropped.overflow.frames, 1 + 5);
    let kept = contents(&take(&queue, 0));
    let of = |group| kept.iter().filter(move |(of, _)| *of == group);
    let payloads = |group| of(group).map(|(_, payload)| payload[0]).collect::<Vec<_>>();
    assert_eq!(payloads(QUIET), b"234");
    assert_eq!(payloads(NOISY), b"344");
}

#[test]
fn if_evicting_all_of_its_own_makes_no_room_none_is_evicted() {
    let queue = shared(Overflow::DropOldest);
    push_to(&queue, NOISY, b"1").unwrap();
    push_to(&queue, NOISY, b"2").unwrap();
    let batch = take(&queue, 0);
    push_to(&queue, NOISY, b"3").unwrap();
    assert_eq!(push_to(&queue, NOISY, &[0; 300]), Err(SHARE_FULL));
    assert_eq!(push_to(&queue, NOISY, b"4"), Ok(()), "3 made way");
    assert_eq!(balanced(&queue).dropped.overflow.frames, 1);
    // What was in flight is older than what is queued, and makes way first.
    drop(batch);
    push_to(&queue, NOISY, b"5").unwrap();
    let kept = contents(&take(&queue, 0));
    let kept: Vec<_> = kept.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(kept, b"245");
}

#[test]
fn who_waits_for_the_share_of_its_group_holds_up_no_other_group() {
    let queue = shared(Overflow::RejectNewest);
    for _ in 0..3 {
        push_to(&queue, NOISY, b"x").unwrap();
    }
    let (woken, waker) = Woken::new();
    let mut first = waiting(&queue, NOISY, b"1", &waker);
    let mut second = waiting(&queue, NOISY, b"2", &waker);
    for _ in 0..3 {
        assert_eq!(push_to(&queue, QUIET, b"x"), Ok(()));
    }
    // Room is left for two frames. They do not need it yet, so others may have it.
    for group in [20, 21] {
        assert_eq!(push_to(&queue, GroupId::new(group), b"x"), Ok(()));
    }
    let mut other = waiting(&queue, GroupId::new(22), b"x", &waker);
    let mut batch = take(&queue, 0);
    batch.advance(9);
    // The first of the noisy group asked before the other, and has a place in its share now.
    assert_eq!(woken.times(), 1);
    assert!(is_ready(&mut first));
    assert!(!is_ready(&mut other) && !is_ready(&mut second));
    batch.advance(9 * 5);
    assert!(is_ready(&mut other) && is_ready(&mut second));
    balanced(&queue);
}

#[test]
fn a_sender_that_gives_up_lets_on_the_next_of_its_group() {
    let queue = shared(Overflow::RejectNewest);
    push_to(&queue, NOISY, &[0; 92]).unwrap();
    let (woken, waker) = Woken::new();
    let long = waiting(&queue, NOISY, &[0; 250], Waker::noop());
    let mut short = waiting(&queue, NOISY, b"x", &waker);
    drop(long);
    assert_eq!(woken.times(), 1);
    assert!(is_ready(&mut short));
    // One that was let on and gives up gives back the room in the share, too.
    push_to(&queue, NOISY, b"x").unwrap();
    let granted = waiting(&queue, NOISY, b"x", Waker::noop());
    let mut next = waiting(&queue, NOISY, b"x", &waker);
    write_all(&queue);
    drop(granted);
    assert!(is_ready(&mut next));
    write_all(&queue);
    assert_eq!(groups(&queue), 0);
}

#[test]
fn whatever_a_group_loses_wakes_its_next_sender() {
    let lose: [fn(&Arc<SendQueue>); 4] = [
        write_all,
        |queue| assert_eq!(queue.expire(at(100)).stale.frames, 3),
        |queue| take(queue, 0).expire(at(100)),
        |queue| {
            // The third link that ends in the middle of a frame drops it.
            for _ in 0..3 {
                let mut batch = take(queue, 0);
                batch.advance(1);
                batch.link_ended();
            }
        },
    ];
    for (number, lose) in lose.iter().enumerate() {
        let queue = shared(Overflow::RejectNewest);
        for _ in 0..3 {
            push_to(&queue, NOISY, b"x").unwrap();
        }
        let (woken, waker) = Woken::new();
        let mut pushing = waiting(&queue, NOISY, b"y", &waker);
        lose(&queue);
        assert_eq!(woken.times(), 1, "{number}");
        assert!(is_ready(&mut pushing));
    }
}

#[test]
fn a_frame_with_a_key_needs_no_more_of_the_share_than_the_one_it_replaces() {
    let queue = shared(Overflow::RejectNewest);
    let latest = |payload: Vec<u8>| {
        let terms = Terms {
            key: Some((NOISY, 1)),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (NOISY, payload), terms, at(0));
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    };
    latest(vec![0; 92]).unwrap();
    push_to(&queue, NOISY, &[0; 92]).unwrap();
    push_to(&queue, NOISY, &[0; 42]).unwrap();
    assert_eq!(latest(vec![0; 143]), Err(SHARE_FULL));
    assert_eq!(latest(vec![0; 142]), Ok(()));
    let mut pushing = waiting(&queue, NOISY, b"x", Waker::noop());
    assert_eq!(latest(vec![0; 10]), Ok(()));
    assert!(!is_ready(&mut pushing), "three frames are there still");
    write_all(&queue);
    assert!(is_ready(&mut pushing));
    assert_eq!(balanced(&queue).dropped.replaced.frames, 2);
}

#[test]
fn parts_of_a_message_count_for_the_group_of_the_message() {
    let queue = shared(Overflow::RejectNewest);
    let parts = Parts::on(queue.link());
    let push_part = || {
        let terms = Terms {
            part: Some(parts.part()),
            ..Terms::default()
        };
        let pushed = queue.push_apart((), (NOISY, vec![0; 92]), terms, at(0));
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    };
    push_part().unwrap();
    push_part().unwrap();
    assert_eq!(queue.half_of_frames(100), 1, "of the share");
    push_to(&queue, NOISY, b"x").unwrap();
    assert_eq!(push_part(), Err(SHARE_FULL));
    assert_eq!(push_to(&queue, NOISY, b"x"), Err(SHARE_FULL));
    // For another link they are dropped.
    queue.link_begins(None, None);
    write_all(&queue);
    assert_eq!(groups(&queue), 0);
    assert_eq!(balanced(&queue).dropped.incomplete.frames, 2);
}

/// What takes the place of a call that is given up is a frame of the reserved group, as answers are.
#[test]
fn a_call_counts_for_its_group_until_it_is_given_up() {
    let far = CallPeer {
        node: NodeId::new(2),
        incarnation: Incarnation::new(1),
    };
    let queue = shared(Overflow::RejectNewest);
    queue.link_begins(None, Some(far));
    let (calls, left) = (PendingCalls::new(100, 0), Duration::from_secs(60));
    let now = crate::net::time::now();
    let ticket = calls.begin(CallLane(1), now, now + left, Waker::noop());
    let ticket = ticket.expect("not stopped");
    let head = CallFrame::Call { group: NOISY, left }.encode(ticket.id);
    let terms = Terms {
        call: Some(QueuedCall::new(calls.clone(), ticket.id, now + left)),
        ..Terms::default()
    };
    let call = (NOISY, (head, Bytes::from(vec![0; 200])));
    let pushed = queue.push_apart((), call, terms, at(0));
    drop(pushed.expect("room"));
    assert_eq!(push_to(&queue, NOISY, &[0; 92]), Err(SHARE_FULL));
    queue.withdraw(ticket.id);
    assert_eq!(push_to(&queue, NOISY, &[0; 192]), Ok(()));
    assert_eq!(groups(&queue), 2);
    let answer = || {
        let pushed = queue.push_reserved((), b"answer", at(0), WhenFull::Refuse);
        pushed.map(drop).map_err(|(refusal, _)| refusal)
    };
    assert_eq!(
        [answer(), answer(), answer()],
        [Ok(()), Ok(()), Err(SHARE_FULL)]
    );
    write_all(&queue);
    assert_eq!(groups(&queue), 0);
    balanced(&queue);
}

#[test]
fn frames_that_are_offered_together_are_looked_at_one_by_one() {
    let queue = shared(Overflow::RejectNewest);
    let groups = [NOISY, QUIET, NOISY, NOISY, NOISY, QUIET];
    let mut staged = Staged::new();
    staged.refill(&mut groups.into_iter().map(|group| (group, b"x")));
    let (doorbell, pushed) = queue.push_staged((), &mut staged, at(0), WhenFull::Refuse);
    drop(doorbell);
    assert_eq!((pushed, staged.accepted()), (Err(SHARE_FULL), 4));
    assert_eq!(balanced(&queue).rejected.full_share, Count::one(9));
    let sent = contents(&take(&queue, 0));
    let sent: Vec<_> = sent.into_iter().map(|(group, _)| group).collect();
    assert_eq!(sent, groups[..4]);
}

#[test]
fn the_end_refuses_those_who_are_held_back_as_well() {
    for end in [SendQueue::<()>::seal, SendQueue::close] {
        let queue = shared(Overflow::RejectNewest);
        for _ in 0..3 {
            push_to(&queue, NOISY, b"x").unwrap();
        }
        let (woken, waker) = Woken::new();
        let mut first = waiting(&queue, NOISY, b"y", &waker);
        let gives_up = waiting(&queue, NOISY, b"y", &waker);
        end(&queue);
        assert_eq!(woken.times(), 2);
        let stopped = Poll::Ready(Err(Refusal::Stopped));
        assert_eq!(poll_with(&mut first, Waker::noop()), stopped);
        drop(gives_up);
        assert_eq!(balanced(&queue).rejected.stopped.frames, 1);
    }
}
