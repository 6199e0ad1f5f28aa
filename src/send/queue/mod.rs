//! The send queue: the frames that a `PeerWriter` or the `UdpActor` has to write.
//!
//! Keeps the bounds in frames and in bytes, the age of every frame and the counters of outgoing frames, and
//! wakes senders and the writer. Uses no actor, no socket and no clock.
//!
//! Frames are kept as bytes, in the order and the form that they have on the wire (a datagram also has a
//! length in front, which is not sent). Frames that are pushed within one tick of the clock, to the same
//! destination, are stored one after the other in one buffer, a [`Chunk`]. A chunk has one age, one
//! destination and a number of frames; its single frames are found by their lengths. So a push is a check
//! of the bounds and a copy, and the writer takes whole buffers, while bounds, ages and counters stay exact
//! to the frame. A large payload is not copied into a shared buffer: it is a chunk of its own.
//!
//! ```text
//!          full: wait in line ─ room granted ─┐
//!            │                                ▼
//! push ─► admission ──────────────────► [chunk | chunk | open chunk] ─ take ─► Batch ─ advance(n) ─► written
//!            │                                └ stale, evicted: dropped          └ dropped unfinished:
//!            └ refused: payload given back                                         the rest goes back
//! ```
//!
//! # Who wakes whom
//!
//! Who sleeps and why is decided under one lock, so no wake-up is lost. The wake-up itself happens
//! after the lock is released, as does the drop of payloads: both run code of the user, which may use
//! the queue.
//!
//! - **The writer**, or the task that stands in for it, leaves its waker as the doorbell when it finds
//!   the queue empty. The push that makes the queue non-empty takes it and returns it to its caller as a
//!   [`Doorbell`], which wakes the writer when it is dropped.
//! - **Senders** that wait for room stand in line. Whatever makes room (a write, a drop, an eviction,
//!   another sender that gives up) grants it to the first of them, then to the next, and wakes those
//!   who were granted some.
//!   Where groups have shares, a sender is held back beside the line while its group has used up its share.
//!   Whatever a group loses lets on the first of those.
//! - **Whoever waits for the queue to drain** is woken when nothing is queued or in flight.
//! - The end, [`seal`](SendQueue::seal), [`close`](SendQueue::close) or
//!   [`abandon`](SendQueue::abandon), wakes the writer and all senders.
//!
//! Only one batch may exist at a time. The callers see to that.

mod account;
mod admission;
mod apart;
mod batch;
mod burst;
mod calls;
mod chunk;
mod deferred;
mod doorbell;
mod in_line;
mod may_go;
mod own_terms;
mod parts;
mod receipts;
mod reserved;
mod shares;
mod sharing;
mod spare_buffers;
mod staged;
mod state;
mod terms;
mod unacked;
mod waiters;

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::{
    admission::Limits, batch::Batch, burst::BurstLimits, doorbell::Doorbell, parts::Parts,
    staged::Staged, terms::Terms,
};
use self::{
    admission::{Gate, GroupShare},
    chunk::Chunk,
    in_line::InLine,
    state::State,
};
use crate::{
    error::Refusal,
    ids::GroupId,
    net::clock::CoarseInstant,
    observe::stats::{Dropped, SendStats},
    wire::count::Count,
    wire::frame::HEADER,
    wire::payload::Payload,
};

/// From this length on, keeping a payload is cheaper than copying it.
pub(crate) const LARGE_FROM: usize = 8 << 10;

/// A batch takes no more chunks once it is this long.
const BATCH_BYTES: usize = 512 << 10;

/// A batch takes no more chunks once it needs so many slices: as many as one vectored write carries.
const BATCH_SLICES: usize = 64;

/// From so many chunks on, the writer is slow.
const LONG_QUEUE: usize = 32;

/// A bounded queue of frames, each for a `To`: `()` where all have the same destination.
pub(crate) struct SendQueue<To = ()> {
    limits: Limits,
    state: Mutex<State<To>>,
}

/// What [`SendQueue::take`] found.
#[must_use = "nobody else reports the drops"]
pub(crate) struct Taken<To: Copy + Eq = ()> {
    /// `None` if nothing is queued.
    pub(crate) batch: Option<Batch<To>>,
    /// The drops that have not been reported yet.
    pub(crate) dropped: Dropped,
    /// The number of the frame behind the batch: how many frames were accepted before it.
    pub(crate) behind: u64,
    /// Whether the link should ask what is acknowledged, and tell [`SendQueue::acknowledged`].
    pub(crate) ask: bool,
}

/// `Ok`: the frame is queued. Holds the doorbell to ring, and a copied payload to drop after unlocking.
/// `Err`: why the frame was refused, and the payload.
type Entered<P> = Result<(Doorbell, Option<P>), (Refusal, P)>;

/// What a full queue means to a sender.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum WhenFull {
    /// The send is refused, and counted.
    Refuse,
    /// The sender waits. The send is not counted yet.
    Wait,
}

impl<To: Copy + Eq> SendQueue<To> {
    pub(crate) fn new(limits: Limits) -> Self {
        SendQueue {
            state: Mutex::new(State::new(&limits)),
            limits,
        }
    }

    // ---- senders ------------------------------------------------------------------------------

    /// Takes the frame, or says at once why not and gives the payload back.
    #[inline]
    pub(crate) fn push<P: Payload>(
        &self,
        to: To,
        group: GroupId,
        payload: P,
        now: CoarseInstant,
    ) -> Result<Doorbell, (Refusal, P)> {
        // Not in a closure, which would not be inlined here; see `locked`.
        let mut state = self.state.lock();
        let entered = state.enter(&self.limits, to, group, payload, now, WhenFull::Refuse);
        release(state);
        entered.map(|(doorbell, _)| doorbell)
    }

    /// Takes the frame as soon as there is room for it.
    ///
    /// Room is granted in the order of asking. A sender that is cancelled while it waits gives its
    /// place, or the room it was granted, to the next. It has sent nothing, and is not counted.
    pub(crate) async fn push_wait<P: Payload>(
        &self,
        to: To,
        group: GroupId,
        payload: P,
        now: impl Fn() -> CoarseInstant,
    ) -> Result<Doorbell, (Refusal, P)> {
        let at = now();
        let entered =
            self.locked(|state| state.enter(&self.limits, to, group, payload, at, WhenFull::Wait));
        let entered = match entered {
            Err((Refusal::Full(_), payload)) => {
                let mut place = InLine::new(self, group, HEADER + payload.byte_len());
                poll_fn(|cx| place.poll_granted(cx)).await;
                let at = now();
                place.enter(payload, |state, payload| {
                    state.put_granted(&self.limits, to, group, payload, at)
                })
            }
            decided => decided,
        };
        entered.map(|(doorbell, _)| doorbell)
    }

    /// Counts a frame that was refused before it came to the queue.
    pub(crate) fn refuse(&self, refusal: Refusal, payload: usize) {
        let frame = Count::one(HEADER + payload);
        self.locked(|state| state.account.offer(Err(refusal), frame));
    }

    /// Stores the doorbell again if there is still nothing for the writer to do. Otherwise returns it: the
    /// caller must wake the writer.
    pub(crate) fn rehang(&self, doorbell: Doorbell) -> Option<Doorbell> {
        let mut waker = doorbell.into_waker();
        let rehung = self.locked(|state| {
            let idle = state.is_idle();
            if idle {
                state.rehang_doorbell(&mut waker);
            }
            idle
        });
        match rehung {
            // If the writer has left a newer one, this one is not needed, and is not woken.
            true => None,
            false => waker.map(Doorbell::new),
        }
    }

    // ---- the writer ---------------------------------------------------------------------------

    /// Is ready when there is something to take, or the queue is sealed or closed. Until then the
    /// caller's waker is the doorbell.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Wakers are foreign code. This one is cloned before the lock is taken, and the one that it
        // replaces is dropped after the lock is released.
        let mut waker = Some(cx.waker().clone());
        self.locked(|state| {
            if !state.is_idle() {
                return Poll::Ready(());
            }
            state.hang_doorbell(&mut waker);
            Poll::Pending
        })
    }

    /// Drops what went stale and lends out what is next.
    pub(crate) fn take(self: &Arc<Self>, now: CoarseInstant) -> Taken<To> {
        let (chunks, dropped, behind, [noting, ask]) = self.locked(|state| {
            state.expire(&self.limits, now);
            let chunks = state.take_batch(&self.limits);
            let dropped = state.account.take_untold();
            let (behind, unacked) = (state.first_queued(), &state.unacked);
            let noted = [unacked.is_noting(), unacked.is_long()];
            (chunks, dropped, behind, noted)
        });
        let batch = (!chunks.is_empty()).then(|| Batch::new(self.clone(), chunks, noting));
        Taken {
            batch,
            dropped,
            behind,
            ask,
        }
    }

    /// Drops what went stale. Returns the drops that nobody has been told of yet.
    #[must_use = "the drops are told to nobody else"]
    pub(crate) fn expire(&self, now: CoarseInstant) -> Dropped {
        self.locked(|state| {
            state.expire(&self.limits, now);
            state.account.take_untold()
        })
    }

    /// Returns why no frame may enter, if none may.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.locked(|state| (state.gate != Gate::Open).then(|| state.gate.refusal()))
    }

    /// Returns the longest frame that may enter, with its header.
    pub(crate) fn longest_frame(&self) -> usize {
        self.limits.frame
    }

    /// Returns how many frames of this length fill half of the queue, or of what one group may have of it.
    pub(crate) fn half_of_frames(&self, len: usize) -> usize {
        let all = GroupShare {
            frames: self.limits.frames,
            bytes: self.limits.bytes,
        };
        let share = self.limits.share.unwrap_or(all);
        (share.bytes / 2 / len).min(share.frames / 2)
    }

    /// Returns how long a frame may wait.
    pub(crate) fn stale_after(&self) -> Duration {
        self.limits.stale_after
    }

    /// Returns the number of the link that frames are written on, or were last.
    pub(crate) fn link(&self) -> u64 {
        self.locked(|state| state.links)
    }

    /// Returns the number of the next frame that is accepted.
    pub(crate) fn next_number(&self) -> u64 {
        self.locked(|state| state.account.next_number())
    }

    /// Returns the number of the first queued frame, or of the next that is accepted. Called when nothing
    /// is in flight.
    pub(crate) fn first_queued(&self) -> u64 {
        self.locked(|state| state.first_queued())
    }

    /// Returns how long it takes until the oldest queued frame is stale, or `None` if none is queued.
    pub(crate) fn next_expiry(&self, now: CoarseInstant) -> Option<Duration> {
        self.locked(|state| {
            // Those that have no terms of their own are in the order of their ages.
            let looked_at = match state.apart.is_empty() {
                true => 1,
                false => state.chunks.len(),
            };
            self.first_expiry(state.chunks.iter().take(looked_at), now)
        })
    }

    /// Returns how long it takes until the first of these chunks is stale.
    fn first_expiry<'c>(
        &self,
        chunks: impl Iterator<Item = &'c Chunk<To>>,
        now: CoarseInstant,
    ) -> Option<Duration>
    where
        To: 'c,
    {
        let left = |chunk: &Chunk<To>| {
            let limit = chunk.age_limit(&self.limits);
            limit.saturating_sub(now.since(chunk.at))
        };
        chunks.map(left).min()
    }

    /// Gives back the memory that is kept for speed. Called when no frame has come for a while.
    pub(crate) fn trim(&self) {
        self.locked(State::trim);
    }

    /// Returns the drops that nobody has been told of yet.
    #[must_use = "the drops are told to nobody else"]
    pub(crate) fn take_untold(&self) -> Dropped {
        self.locked(|state| state.account.take_untold())
    }

    // ---- the end, and what can be seen --------------------------------------------------------

    /// Accepts no more frames. What is queued may still be written.
    pub(crate) fn seal(&self) {
        self.locked(|state| state.shut(Gate::Sealed));
    }

    /// Accepts no more frames and drops all that are queued. A batch that is being written may still be
    /// finished; if it is returned, it is dropped.
    pub(crate) fn close(&self) {
        self.locked(|state| state.shut(Gate::Closed));
    }

    /// Closes the queue of a forgotten peer and counts what is queued as dropped. Returns the payloads and
    /// the wakers: the caller must drop them without holding a lock, because that runs foreign code.
    #[must_use = "it runs foreign code when it is dropped"]
    pub(crate) fn abandon(&self) -> impl Sized + use<To> {
        let mut state = self.state.lock();
        state.abandon();
        mem::take(&mut state.deferred)
    }

    /// Returns whether anything waits to be taken.
    pub(crate) fn has_frames(&self) -> bool {
        self.locked(|state| !state.chunks.is_empty())
    }

    /// Returns whether the writer has nothing more to do: no frame can come, and none is queued.
    pub(crate) fn is_done(&self) -> bool {
        self.locked(|state| state.gate != Gate::Open && state.chunks.is_empty())
    }

    /// Waits until nothing is queued or in flight.
    pub(crate) async fn drained(&self) {
        poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            self.locked(|state| {
                if state.account.held().is_zero() {
                    return Poll::Ready(());
                }
                state.hang_drained(&mut waker);
                Poll::Pending
            })
        })
        .await;
    }

    /// Returns what is queued or in flight.
    pub(crate) fn left(&self) -> Count {
        self.locked(|state| state.account.held())
    }

    pub(crate) fn stats(&self) -> SendStats {
        self.locked(|state| state.account.stats())
    }

    /// Runs `act` under the lock. What `act` defers runs after unlocking.
    ///
    /// Always inlined: otherwise the result is written to memory and read back while the lock is held. It
    /// is written in small stores and read in wide loads, so the processor cannot forward it from one to
    /// the other. Sending 64 B frames took 23 % longer.
    #[expect(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    fn locked<R>(&self, act: impl FnOnce(&mut State<To>) -> R) -> R {
        let mut state = self.state.lock();
        let result = act(&mut state);
        release(state);
        result
    }
}

/// Releases the lock, and then runs what was deferred.
#[inline]
fn release<To>(state: MutexGuard<'_, State<To>>) {
    // Most of the time nothing is deferred, and looking first is cheaper than moving.
    if !state.deferred.is_empty() {
        release_and_run(state);
    }
}

/// Not inlined, because few pushes have deferred anything.
#[cold]
#[inline(never)]
fn release_and_run<To>(mut state: MutexGuard<'_, State<To>>) {
    let deferred = mem::take(&mut state.deferred);
    drop(state);
    drop(deferred);
}

impl<To> std::fmt::Debug for SendQueue<To> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendQueue")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Closes a queue when it is dropped, so that no frame waits for a writer that is gone.
#[derive(Debug)]
pub(crate) struct CloseOnDrop<To: Copy + Eq = ()>(Arc<SendQueue<To>>);

impl<To: Copy + Eq> CloseOnDrop<To> {
    pub(crate) fn new(queue: Arc<SendQueue<To>>) -> Self {
        CloseOnDrop(queue)
    }
}

impl<To: Copy + Eq> Drop for CloseOnDrop<To> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
