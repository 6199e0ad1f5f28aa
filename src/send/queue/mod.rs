//! The send queue: what a `PeerWriter` or the `UdpActor` has still to write.
//!
//! Owns the bound in frames and in bytes, the age of every frame, the counters of the way out and the
//! bells between those who push and the one who writes. Knows no actor, no socket and no clock.
//!
//! Frames are kept as bytes, in the order and the form they will have on the wire. Frames pushed
//! within one tick of the clock, to the same place, lie behind one another in one buffer: a [`Run`].
//! A run carries once what its frames share (age, destination) and what is asked of them together
//! (how many, how long); whoever must look at a single frame finds it by walking the lengths. So a
//! push is a bounds check and a copy, the writer takes whole buffers, and the bounds, the ages and
//! the counters stay exact to the frame. A payload too long to be worth the copy is a run of its own.
//!
//! ```text
//! push ─► [ run | run | open run ] ─ take ─► Batch ─ advance(n) ─► written
//!            └ stale, evicted: dropped         └ dropped with the rest of it: back to the front
//! ```
//!
//! # Who wakes whom
//!
//! All of it happens under one lock, so no wake-up is lost. The writer that finds the queue empty
//! leaves its waker as the *doorbell*; the push that makes the queue non-empty takes it and, the lock
//! released, rings. Senders that wait for room queue at a fair turnstile; the one at its head leaves
//! its waker as the *room bell*, which rings when a write, a drop or the end makes a difference.
//! A queue may lend out one batch at a time.

mod batch;
mod run;
mod state;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::batch::{Batch, Together};
use self::{
    run::Run,
    state::{Gate, State},
};
use crate::{
    config::Overflow,
    error::{QueueLimit, Refusal},
    ids::GroupId,
    net::clock::CoarseInstant,
    observe::stats::{Dropped, SendStats},
    wire::count::Count,
    wire::frame::HEADER,
    wire::payload::Payload,
};

/// From this length on, a payload is better written from where it lies than copied.
pub(crate) const CHAIN_FROM: usize = 8 << 10;

/// A batch takes no more runs once it is this long.
const BATCH_BYTES: usize = 512 << 10;

/// A batch takes no more runs than one vectored write carries slices for: two a run.
const BATCH_RUNS: usize = 32;

/// The bounds of a queue.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Limits {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// The longest frame, header included.
    pub(crate) frame: usize,
    pub(crate) stale_after: Duration,
    pub(crate) overflow: Overflow,
    /// From this length on, a payload is kept as it is instead of being copied.
    pub(crate) chain_from: usize,
}

impl Limits {
    /// What there is too little of for a frame of `len` bytes beside what is taken.
    #[inline]
    fn missing(&self, taken: Count, len: usize) -> Option<QueueLimit> {
        if taken.frames as usize + 1 > self.frames {
            return Some(QueueLimit::Frames);
        }
        if taken.bytes as usize + len > self.bytes {
            return Some(QueueLimit::Bytes);
        }
        None
    }
}

/// A bounded queue of frames, each for a `To`: `()` where all go the same way.
pub(crate) struct SendQueue<To = ()> {
    limits: Limits,
    state: Mutex<State<To>>,
    /// Held by the one sender that waits for room; the others wait for this, first come first served.
    turnstile: tokio::sync::Mutex<()>,
}

impl<To> std::fmt::Debug for SendQueue<To> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendQueue")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<To: Copy + Eq> SendQueue<To> {
    pub(crate) fn new(limits: Limits) -> Self {
        SendQueue {
            limits,
            state: Mutex::new(State::default()),
            turnstile: tokio::sync::Mutex::new(()),
        }
    }

    // ---- those who push -----------------------------------------------------------------------

    /// Takes the frame, or says at once why not and gives the payload back.
    #[inline]
    pub(crate) fn push<P: Payload>(
        &self,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Result<(), (Refusal, P)> {
        let mut state = self.state.lock();
        let len = HEADER + payload.as_ref().len();
        let admitted = match state.waiting.frames {
            0 => state.admit(&self.limits, group, len),
            _ => state.admit_beside(&self.limits, group, len),
        };
        if let Err(refusal) = state.decide(admitted, len) {
            return Err((refusal, payload));
        }
        let copied = state.put(&self.limits, to, group, payload, now);
        ring_doorbell(state);
        // An owner's drop is code of the user's, and the lock must be free when it runs.
        drop(copied);
        Ok(())
    }

    /// Takes the frame as soon as there is room, in the order of asking. Given up before, it has
    /// done nothing.
    pub(crate) async fn push_wait<P: Payload>(
        &self,
        to: To,
        group: GroupId,
        payload: P,
        now: impl Fn() -> CoarseInstant,
    ) -> Result<(), (Refusal, P)> {
        let len = HEADER + payload.as_ref().len();
        let mut payload = Some(payload);
        // With a context its turn has come, and what it waits for is room.
        let mut try_push = |turn: Option<&Context<'_>>| {
            let mut state = self.state.lock();
            let admitted = match turn {
                None if state.waiting.frames > 0 => {
                    let sensible = state.check(&self.limits, group, len);
                    sensible.and(Err(Refusal::Full(QueueLimit::Frames)))
                }
                _ => state.admit(&self.limits, group, len),
            };
            if let Err(Refusal::Full(_)) = admitted {
                turn.into_iter().for_each(|cx| leave(&mut state.room, cx));
                return Poll::Pending;
            }
            let payload = payload.take().expect("it is admitted or refused once");
            if let Err(refusal) = state.decide(admitted, len) {
                return Poll::Ready(Err((refusal, payload)));
            }
            let copied = state.put(&self.limits, to, group, payload, now());
            ring_doorbell(state);
            drop(copied);
            Poll::Ready(Ok(()))
        };

        // Nobody waits and there is room: the usual case, without the turnstile.
        if let Poll::Ready(result) = try_push(None) {
            return result;
        }
        let _in_line = InLine::join(self, len);
        let _turn = self.turnstile.lock().await;
        poll_fn(|cx| try_push(Some(cx))).await
    }

    /// Counts a frame that was refused before it came to the bounds.
    pub(crate) fn refuse(&self, refusal: Refusal, payload: usize) {
        // The caller tells it; here it is only counted.
        let _ = self.state.lock().decide(Err(refusal), HEADER + payload);
    }

    // ---- the one who writes -------------------------------------------------------------------

    /// Is ready when there is something to take or the queue is sealed or closed; until then the
    /// caller's waker is the doorbell.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.runs.is_empty() && state.gate == Gate::Open {
            leave(&mut state.doorbell, cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Drops what went stale and lends out what is next. None when nothing is queued.
    pub(crate) fn take(self: &Arc<Self>, now: CoarseInstant) -> Option<Batch<To>> {
        self.expire(now);
        let mut state = self.state.lock();
        let mut runs = VecDeque::new();
        let mut count = Count::ZERO;
        while let Some(run) = state.runs.pop_front() {
            count += run.count();
            runs.push_back(run);
            if count.bytes >= BATCH_BYTES as u64 || runs.len() == BATCH_RUNS {
                break;
            }
        }
        state.counters.queued -= count;
        state.counters.in_flight += count;
        drop(state);
        (!runs.is_empty()).then(|| Batch::new(self.clone(), runs))
    }

    /// Drops what has waited for longer than it may.
    pub(crate) fn expire(&self, now: CoarseInstant) {
        let mut state = self.state.lock();
        let fresh = state.runs.iter().position(|run| !self.is_stale(run, now));
        let fresh = fresh.unwrap_or(state.runs.len());
        if fresh == 0 {
            return;
        }
        let State { runs, trash, .. } = &mut *state;
        trash.extend(runs.drain(..fresh));
        let stale: Count = trash.iter().map(Run::count).sum();
        state.counters.queued -= stale;
        state.drop_stale(stale);
        let bells = state.room_bells();
        ring(state, bells);
    }

    /// How long until the oldest frame that waits is stale. None when none waits.
    pub(crate) fn next_expiry(&self, now: CoarseInstant) -> Option<Duration> {
        self.expiry_of(self.state.lock().runs.front(), now)
    }

    fn expiry_of(&self, run: Option<&Run<To>>, now: CoarseInstant) -> Option<Duration> {
        Some(self.limits.stale_after.saturating_sub(now.since(run?.at)))
    }

    fn is_stale(&self, run: &Run<To>, now: CoarseInstant) -> bool {
        now.since(run.at) >= self.limits.stale_after
    }

    /// Gives back the memory that is kept for speed; asked for when nothing has come for a while.
    pub(crate) fn trim(&self) {
        let mut state = self.state.lock();
        state.spare = Vec::new();
        state.runs.shrink_to_fit();
    }

    /// Drops since the last time this was asked.
    pub(crate) fn take_untold(&self) -> Dropped {
        std::mem::take(&mut self.state.lock().untold)
    }

    // ---- those who end it, and those who look -------------------------------------------------

    /// Lets nothing in any more. What is queued may still be written.
    pub(crate) fn seal(&self) {
        let mut state = self.state.lock();
        if state.gate == Gate::Open {
            state.gate = Gate::Sealed;
        }
        let [room, empty] = state.room_bells();
        let doorbell = state.doorbell.take();
        ring(state, [doorbell, room, empty]);
    }

    /// Lets nothing in or out any more, and drops what is left.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.gate = Gate::Closed;
        let State { runs, trash, .. } = &mut *state;
        trash.extend(runs.drain(..));
        let left: Count = trash.iter().map(Run::count).sum();
        state.counters.queued -= left;
        state.counters.dropped.stopped += left;
        state.untold.stopped += left;
        let [room, empty] = state.room_bells();
        let doorbell = state.doorbell.take();
        ring(state, [doorbell, room, empty]);
    }

    /// Whether anything waits to be taken.
    pub(crate) fn has_frames(&self) -> bool {
        !self.state.lock().runs.is_empty()
    }

    /// Whether the writer has nothing more to do here: no frame can come, and none is left.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.gate != Gate::Open && state.runs.is_empty()
    }

    /// Waits until nothing is queued or in flight.
    pub(crate) async fn drained(&self) {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.used().is_zero() {
                return Poll::Ready(());
            }
            leave(&mut state.empty, cx);
            Poll::Pending
        })
        .await;
    }

    /// What is queued or in flight now.
    pub(crate) fn left(&self) -> Count {
        self.state.lock().used()
    }

    pub(crate) fn stats(&self) -> SendStats {
        self.state.lock().counters
    }
}

/// Releases the lock after a push. Most of the time the writer is awake and nothing was evicted, and
/// looking is cheaper than moving: this took a third of the time of a push.
#[inline]
fn ring_doorbell<To>(mut state: MutexGuard<'_, State<To>>) {
    if state.doorbell.is_some() || !state.trash.is_empty() {
        let doorbell = state.doorbell.take();
        ring(state, [doorbell]);
    }
}

/// Releases the lock, then rings and empties the trash: who is woken, or dropped, finds it free.
fn ring<To, const N: usize>(mut state: MutexGuard<'_, State<To>>, bells: [Option<Waker>; N]) {
    let trash = std::mem::take(&mut state.trash);
    drop(state);
    bells.into_iter().flatten().for_each(Waker::wake);
    drop(trash);
}

/// Leaves the caller's waker as a bell, unless it hangs there already.
fn leave(bell: &mut Option<Waker>, cx: &Context<'_>) {
    match bell {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *bell = Some(cx.waker().clone()),
    }
}

/// A place in the line at the turnstile, with a frame in hand.
struct InLine<'q, To: Copy + Eq>(&'q SendQueue<To>, Count);

impl<'q, To: Copy + Eq> InLine<'q, To> {
    fn join(queue: &'q SendQueue<To>, len: usize) -> Self {
        let frame = Count::one(len);
        queue.state.lock().waiting += frame;
        InLine(queue, frame)
    }
}

impl<To: Copy + Eq> Drop for InLine<'_, To> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= self.1;
    }
}

#[cfg(test)]
mod tests;
