use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{expire::Expire, pending::*, queued_call::QueuedCall};
use crate::{
    call_error::CallError,
    ids::{Incarnation, NodeId},
    net::time::{self, Instant},
    wire::call::CallId,
};

const LANE: CallLane = CallLane(1);
const SECOND: Duration = Duration::from_secs(1);
const PEER: CallPeer = CallPeer {
    node: NodeId::new(2),
    incarnation: Incarnation::new(7),
};

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A call, and how often its caller was woken.
struct Caller {
    ticket: Ticket,
    woken: Arc<Woken>,
}

impl Caller {
    fn of(calls: &Arc<PendingCalls>, now: Instant, deadline: Duration) -> Self {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let ticket = calls.begin(LANE, now, now + deadline, &waker);
        let ticket = ticket.expect("begins");
        Caller { ticket, woken }
    }

    fn poll(&mut self) -> Poll<Result<Bytes, CallError>> {
        let waker = Waker::from(self.woken.clone());
        self.ticket.poll_ended(&mut Context::from_waker(&waker))
    }

    fn ended(&mut self) -> Result<Bytes, CallError> {
        match self.poll() {
            Poll::Ready(ended) => ended,
            Poll::Pending => panic!("has not ended"),
        }
    }

    fn woken(&self) -> usize {
        self.woken.0.load(SeqCst)
    }
}

fn queued(calls: &Arc<PendingCalls>, caller: &Caller) -> QueuedCall {
    let mut queued = QueuedCall::new(calls.clone(), caller.ticket.id, time::now());
    queued.is_queued();
    queued
}

/// Checks the sums, and returns how many wait.
fn pending(calls: &PendingCalls) -> u64 {
    let stats = calls.stats();
    assert_eq!(
        stats.called,
        stats.answered + stats.failed.total() + stats.pending
    );
    stats.pending
}

#[test]
fn an_answer_ends_a_call_that_was_asked_and_wakes_its_caller_once() {
    let (calls, now) = (PendingCalls::new(100, 0), time::now());
    let mut caller = Caller::of(&calls, now, SECOND);
    let (id, mut frame) = (caller.ticket.id, queued(&calls, &caller));
    assert!(caller.poll().is_pending());
    calls.answer(id, PEER, Ok("before it was asked".into()));
    assert!(frame.is_taken(Some(PEER.on(1))));
    let other_life = CallPeer {
        incarnation: Incarnation::new(8),
        ..PEER
    };
    calls.answer(id, other_life, Ok("of another life".into()));
    calls.answer(CallId(99), PEER, Ok("to nobody".into()));
    assert_eq!((calls.stats().stray, caller.woken()), (3, 0));
    // The answer may be there before it is known that the frame was written.
    calls.answer(id, PEER, Ok("yes".into()));
    calls.answer(id, PEER, Ok("twice".into()));
    frame.written();
    drop(frame);
    assert_eq!(caller.woken(), 1);
    assert_eq!(caller.ended(), Ok("yes".into()));
    assert_eq!((calls.stats().stray, pending(&calls)), (4, 0));
}

#[test]
fn a_call_is_sent_only_as_long_as_its_caller_waits() {
    let (calls, now) = (PendingCalls::new(100, 0), time::now());
    let mut late = Caller::of(&calls, now, SECOND);
    let mut gone = Caller::of(&calls, now, SECOND);
    let [mut late_frame, mut gone_frame] = [&late, &gone].map(|it| queued(&calls, it));
    assert_eq!(calls.expire(now + SECOND / 2), Some(now + SECOND));
    assert!(!gone.ticket.give_up(), "was not sent");
    assert_eq!(calls.expire(now + SECOND), None);
    assert_eq!(late.ended(), Err(CallError::Deadline { sent: false }));
    for frame in [&mut late_frame, &mut gone_frame] {
        assert!(!frame.is_taken(Some(PEER.on(1))));
    }
    let failed = calls.stats().failed;
    assert_eq!((failed.deadline, failed.cancelled), (1, 1));
    assert_eq!(pending(&calls), 0);
}

#[test]
fn a_frame_that_comes_back_was_not_sent() {
    let (calls, now) = (PendingCalls::new(100, 0), time::now());
    let mut caller = Caller::of(&calls, now, SECOND);
    let mut frame = queued(&calls, &caller);
    assert!(frame.is_taken(Some(PEER.on(1))));
    frame.is_back();
    // Its link has ended, but nothing went out on it.
    calls.link_ended(LANE, 1);
    assert!(caller.poll().is_pending());
    assert!(frame.is_taken(Some(PEER.on(2))));
    frame.written();
    calls.link_ended(CallLane(2), 2);
    assert!(caller.poll().is_pending(), "another lane");
    calls.link_ended(LANE, 2);
    assert_eq!(caller.ended(), Err(CallError::Lost { sent: true }));
    assert_eq!(pending(&calls), 0);
}

#[test]
fn what_the_queue_drops_fails_with_what_is_known() {
    let (calls, now) = (PendingCalls::new(100, 0), time::now());
    let mut evicted = Caller::of(&calls, now, SECOND);
    let mut stale = Caller::of(&calls, now - SECOND, SECOND / 2);
    let mut unsupported = Caller::of(&calls, now, SECOND);
    for caller in [&evicted, &stale] {
        drop(queued(&calls, caller));
    }
    let mut frame = queued(&calls, &unsupported);
    assert!(!frame.is_taken(None));
    assert!(unsupported.poll().is_pending());
    drop(frame);
    assert_eq!(evicted.ended(), Err(CallError::Lost { sent: false }));
    assert_eq!(stale.ended(), Err(CallError::Deadline { sent: false }));
    assert_eq!(unsupported.ended(), Err(CallError::Unsupported));
    // One that was refused was never in the queue: its caller says why.
    let mut refused = Caller::of(&calls, now, SECOND);
    drop(QueuedCall::new(calls.clone(), refused.ticket.id, now));
    assert!(refused.poll().is_pending());
    let why = CallError::Full;
    assert_eq!(refused.ticket.fail(why.clone()), why);
    assert_eq!(pending(&calls), 0);
}

#[test]
fn a_dial_that_fails_ends_those_calls_of_its_lane_that_were_not_sent() {
    let (calls, now) = (PendingCalls::new(100, 0), time::now());
    let [mut sent, mut waits] = [(); 2].map(|()| Caller::of(&calls, now, SECOND));
    let other = calls
        .begin(CallLane(2), now, now + SECOND, Waker::noop())
        .expect("begins");
    let mut frame = queued(&calls, &sent);
    assert!(frame.is_taken(Some(PEER.on(1))));
    frame.written();
    assert!(waits.poll().is_pending());
    calls.unreachable(LANE, SECOND);
    assert_eq!(waits.woken(), 1);
    let since = SECOND;
    assert_eq!(waits.ended(), Err(CallError::Unreachable { since }));
    assert!(sent.poll().is_pending());
    assert_eq!(pending(&calls), 2);
    calls.stop();
    assert_eq!(sent.ended(), Err(CallError::Stopped));
    drop(other);
    let refused = calls.begin(LANE, now, now + SECOND, Waker::noop());
    assert_eq!(refused.expect_err("stopped"), CallError::Stopped);
    assert_eq!(pending(&calls), 0);
}

#[test]
fn answers_that_wait_for_their_callers_are_bounded() {
    let (calls, now) = (PendingCalls::new(10, 0), time::now());
    let [mut first, mut second, mut third] = [(); 3].map(|()| Caller::of(&calls, now, SECOND));
    for caller in [&first, &second, &third] {
        let mut frame = queued(&calls, caller);
        assert!(frame.is_taken(Some(PEER.on(1))));
        frame.written();
        calls.answer(caller.ticket.id, PEER, Ok("12345".into()));
    }
    assert_eq!(third.ended(), Err(CallError::Lost { sent: true }));
    assert_eq!(first.ended(), Ok("12345".into()));
    assert_eq!(second.ended(), Ok("12345".into()));
    // Their bytes are free again.
    let mut fourth = Caller::of(&calls, now, SECOND);
    let mut frame = queued(&calls, &fourth);
    assert!(frame.is_taken(Some(PEER.on(1))));
    frame.written();
    calls.answer(fourth.ticket.id, PEER, Ok("1234567890".into()));
    assert_eq!(fourth.ended(), Ok("1234567890".into()));
    assert_eq!(pending(&calls), 0);
}

#[test]
fn no_time_is_too_late_and_a_very_long_one_is_not() {
    let (calls, now) = (PendingCalls::new(10, 0), time::now());
    let zero = calls
        .begin(LANE, now, now, Waker::noop())
        .expect_err("too late");
    assert_eq!(zero, CallError::Deadline { sent: false });
    let mut long = Caller::of(&calls, now, super::deadlines::LATEST);
    assert!(calls.expire(now + SECOND).is_some());
    assert!(long.poll().is_pending());
}
