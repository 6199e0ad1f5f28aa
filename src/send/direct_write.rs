//! A sender writes a lone frame to an idle link itself, without waking the writer.
//!
//! A frame is lone if the three frames before it came alone as well: each time the writer woke up, one frame
//! was queued.
//!
//! Waking the writer means waking another thread, which takes far longer than writing one frame: a lone
//! frame from another thread reached the socket after 7 µs instead of 33 µs (medians of 2,000, two cores),
//! and a round trip between two processes took 5 % less time and 13 % less processor. Two sends in quick
//! succession are the beginning of more, and those are best written together: then the sender wakes the
//! writer.
//!
//! # Who may write
//!
//! The writer leaves its waker in the queue, as the doorbell, when it has nothing to write. The push that
//! makes the queue non-empty takes the doorbell, and the sender that holds it comes here. It may write
//! only while [`LinkState`] is `Idle`, and it holds the lock on that state while it writes. So neither the
//! writer nor another sender writes at the same time. What a sender has begun and cannot finish, because
//! the kernel is full, becomes `Unfinished`; the writer finishes it before it takes anything else.

use std::{
    fmt,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    net::{
        clock::CoarseInstant,
        time::{self, Instant},
    },
    observe::stats::Dropped,
    runtime::failpoints::Failpoints,
    send::{
        numbering::Numbering,
        queue::{Batch, Doorbell, SendQueue},
        wire::Wire,
    },
};

/// A longer batch is left to the writer, so that a sender is not held up for long.
const MAX_BYTES: u64 = 8 << 10;

/// The same for a batch that its sender has collected.
const MAX_BURST_BYTES: u64 = 64 << 10;

/// Slices of one vectored write: two for each of the few chunks that so short a batch may have.
const SLICES: usize = 4;

/// Direct writes on the links of one peer.
pub(crate) struct DirectWrite {
    state: Mutex<LinkState>,
    last: Arc<LastDirectWrite>,
    /// If a failpoint is armed, senders do not write: the failpoints are in the writer.
    failpoints: Failpoints,
}

/// How the frames come that a sender may write.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Comes {
    /// More may follow soon.
    OneByOne,
    /// The sender has collected them: no more follow soon.
    Together,
}

/// Who may write to the link.
enum LinkState {
    /// Only the writer: it is at work, or there is no link.
    Busy,
    /// Whoever holds the doorbell: the writer waits for something to do.
    Idle(IdleLink),
    /// Only the writer: a sender has written a part of this batch.
    Unfinished(IdleLink, Batch),
}

struct IdleLink {
    wire: Arc<Wire>,
    pattern: SendPattern,
    numbering: Numbering,
}

/// What the writer and the senders leave each other when a link becomes idle, and when it is idle no more.
#[derive(Default)]
pub(super) struct Idle {
    pub(super) pattern: SendPattern,
    pub(super) numbering: Numbering,
    /// What a sender has begun and not finished.
    pub(super) unfinished: Option<Batch>,
}

impl DirectWrite {
    pub(crate) fn new(last: Arc<LastDirectWrite>, failpoints: Failpoints) -> Self {
        DirectWrite {
            state: Mutex::new(LinkState::Busy),
            last,
            failpoints,
        }
    }

    /// Lets senders write to the link until the returned guard goes away. Called by the writer when it
    /// has nothing to write.
    pub(super) fn begin_idle(&self, wire: &Arc<Wire>, idle: &Idle) -> IdlePeriod<'_> {
        *self.state.lock() = LinkState::Idle(IdleLink {
            wire: wire.clone(),
            pattern: idle.pattern,
            numbering: idle.numbering,
        });
        IdlePeriod(self)
    }

    /// Writes what is queued, if that is at most 8 KiB and frames have been coming alone. Otherwise wakes
    /// the writer. Called by the sender that was given the doorbell. Returns what was dropped as stale.
    pub(super) fn write_or_ring(
        &self,
        queue: &Arc<SendQueue>,
        doorbell: Doorbell,
        comes: Comes,
    ) -> Dropped {
        let mut state = self.state.lock();
        let (dropped, doorbell) = self.try_write(&mut state, queue, doorbell, comes);
        drop(state);
        // Dropping the doorbell runs the writer's waker, so the lock is released before.
        drop(doorbell);
        dropped
    }

    /// Returns what was dropped as stale, and the doorbell if the writer must be woken.
    fn try_write(
        &self,
        state: &mut LinkState,
        queue: &Arc<SendQueue>,
        doorbell: Doorbell,
        comes: Comes,
    ) -> (Dropped, Option<Doorbell>) {
        let LinkState::Idle(link) = state else {
            return (Dropped::default(), Some(doorbell));
        };
        let is_for_sender = match comes {
            Comes::OneByOne => link.is_for_sender(&self.last),
            Comes::Together => !link.wire.may_be_over(),
        };
        if !self.failpoints.spent() || !is_for_sender {
            return (Dropped::default(), Some(doorbell));
        }
        let taken = queue.take(CoarseInstant::now());
        if taken.ask {
            queue.acknowledged(link.wire.acknowledged());
        }
        let Some(mut batch) = taken.batch else {
            return (taken.dropped, Some(doorbell));
        };
        let most = match comes {
            Comes::OneByOne => MAX_BYTES,
            Comes::Together => MAX_BURST_BYTES,
        };
        if batch.count().bytes <= most {
            link.write(&mut batch, &self.last);
        }
        if batch.is_empty() {
            return (taken.dropped, queue.rehang(doorbell));
        }
        *state = match mem::replace(state, LinkState::Busy) {
            LinkState::Idle(link) => LinkState::Unfinished(link, batch),
            other => other,
        };
        (taken.dropped, Some(doorbell))
    }
}

impl fmt::Debug for DirectWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectWrite").finish_non_exhaustive()
    }
}

impl IdleLink {
    /// Returns whether the next frame is for its sender to write.
    fn is_for_sender(&mut self, last: &LastDirectWrite) -> bool {
        if !self.pattern.is_alone() {
            return false;
        }
        if last.is_close_to(time::now()) {
            self.pattern.alone = 0;
            return false;
        }
        !self.wire.may_be_over()
    }

    /// Writes once. If it fails, the writer will see the same error when it tries. If frames are missing
    /// before these, the writer says so, and writes them.
    fn write(&mut self, batch: &mut Batch, last: &LastDirectWrite) {
        let begun = time::now();
        let told = batch.begins_with();
        if !told.is_some_and(|next| self.numbering.goes_on_with(next)) {
            return;
        }
        if self.wire.try_write::<SLICES>(batch, usize::MAX).is_ok() {
            self.numbering.reached(batch.reached());
            let ended = time::now();
            last.note(begun, ended);
            self.pattern.last_direct_write = Some(ended);
        }
    }
}

/// While this lives, senders may write to the link.
pub(super) struct IdlePeriod<'d>(&'d DirectWrite);

impl IdlePeriod<'_> {
    /// Waits until there is something for the writer to do.
    pub(super) async fn until_work(&self, queue: &SendQueue) {
        poll_fn(|cx| self.poll_work(queue, cx)).await;
    }

    fn poll_work(&self, queue: &SendQueue, cx: &mut Context<'_>) -> Poll<()> {
        // Under the lock, so that no sender is between taking a frame and leaving it unfinished.
        match &*self.0.state.lock() {
            LinkState::Idle(_) => queue.poll_ready(cx),
            LinkState::Busy | LinkState::Unfinished(..) => Poll::Ready(()),
        }
    }

    /// Returns when a sender last wrote to this link directly.
    pub(super) fn last_direct_write(&self) -> Option<Instant> {
        match &*self.0.state.lock() {
            LinkState::Idle(link) | LinkState::Unfinished(link, _) => {
                link.pattern.last_direct_write
            }
            LinkState::Busy => None,
        }
    }

    /// Ends the period. Returns what the senders left.
    pub(super) fn end(&self) -> Idle {
        let (link, unfinished) = match mem::replace(&mut *self.0.state.lock(), LinkState::Busy) {
            LinkState::Idle(link) => (link, None),
            LinkState::Unfinished(link, batch) => (link, Some(batch)),
            // `end` was called before.
            LinkState::Busy => return Idle::default(),
        };
        Idle {
            pattern: link.pattern,
            numbering: link.numbering,
            unfinished,
        }
    }
}

impl Drop for IdlePeriod<'_> {
    fn drop(&mut self) {
        // An unfinished batch returns to the queue when it is dropped, which must not happen under this
        // lock.
        let state = mem::replace(&mut *self.0.state.lock(), LinkState::Busy);
        drop(state);
    }
}

/// How frames have been coming on one link.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct SendPattern {
    /// How many frames in a row came alone, counted up to [`SendPattern::ENOUGH`].
    alone: u8,
    /// When a sender last wrote to the link directly.
    last_direct_write: Option<Instant>,
}

impl SendPattern {
    /// So many frames in a row must have come alone before a sender writes the next one.
    const ENOUGH: u8 = 3;

    /// Notes how many frames were queued when the writer woke up.
    pub(super) fn woken_by(&mut self, frames: u64) {
        self.alone = match frames {
            0 | 1 => Self::ENOUGH.min(self.alone + 1),
            _ => 0,
        };
    }

    fn is_alone(self) -> bool {
        self.alone >= Self::ENOUGH
    }
}

/// When a sender last wrote directly, on any link of a transport. Sends in quick succession to several
/// peers are left to the writers, which share the work.
#[derive(Debug)]
pub(crate) struct LastDirectWrite(Mutex<[Instant; 2]>);

impl LastDirectWrite {
    /// A send this soon after the beginning of a direct write is not alone. This is the time of two system
    /// calls, so a sender is held up no longer than it would take to wake the writer.
    const CLOSE_TO_BEGIN: Duration = Duration::from_micros(12);

    /// A send this soon after the end of a direct write is not alone either. This matters where one system
    /// call takes longer than `CLOSE_TO_BEGIN`.
    const CLOSE_TO_END: Duration = Duration::from_micros(2);

    pub(crate) fn new(now: Instant) -> Self {
        LastDirectWrite(Mutex::new([now; 2]))
    }

    fn is_close_to(&self, now: Instant) -> bool {
        let [begun, ended] = *self.0.lock();
        now.saturating_duration_since(begun) < Self::CLOSE_TO_BEGIN
            || now.saturating_duration_since(ended) < Self::CLOSE_TO_END
    }

    fn note(&self, begun: Instant, ended: Instant) {
        *self.0.lock() = [begun, ended];
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        config::Config,
        ids::GroupId,
        lane::Lane,
        net::{bind::bind, tcp::Stream},
        send::{back_channel::BackChannel, queue::Limits, wire::FarEnd},
    };

    fn push(queue: &SendQueue, payload: Vec<u8>) -> Doorbell {
        let pushed = queue.push((), GroupId::new(1), payload, CoarseInstant::now());
        pushed.map_err(|(refusal, _)| refusal).expect("room")
    }

    /// The sender is late: it was given the doorbell before another sender wrote. What is queued by then
    /// must not overtake what that sender left unfinished.
    #[tokio::test]
    async fn a_late_sender_does_not_overtake_what_another_left_unfinished() {
        let config = Config::default();
        let queue = Arc::new(SendQueue::new(Limits::of_lane(&config, Lane::NORMAL)));
        let last = Arc::new(LastDirectWrite::new(time::now()));
        let direct_write = DirectWrite::new(last, Failpoints::default());
        let bound = bind(([127, 0, 0, 1], 0).into(), &config).expect("free port");
        let stream = Stream::dial(bound.addr, &config).await.expect("listening");
        let (reading, writing) = stream.split();
        writing.writable().await.expect("open");
        let far_end = FarEnd::Watched(BackChannel::silent(reading));
        let wire = Arc::new(Wire::new(writing, far_end, bound.addr, false));
        // So that the first push is not close to the making of `last`.
        time::sleep(Duration::from_millis(1)).await;
        let pattern = SendPattern {
            alone: SendPattern::ENOUGH,
            last_direct_write: None,
        };
        let idle = Idle {
            pattern,
            ..Idle::default()
        };
        let idle = direct_write.begin_idle(&wire, &idle);
        assert!(idle.until_work(&queue).now_or_never().is_none());

        // Too long for the sender, so that it is left to the writer.
        let first = push(&queue, vec![0; MAX_BYTES as usize]);
        direct_write.write_or_ring(&queue, first, Comes::OneByOne);
        let late = push(&queue, vec![1]);
        direct_write.write_or_ring(&queue, late, Comes::OneByOne);
        assert_eq!(queue.stats().written.frames, 0);
        let Idle { unfinished, .. } = idle.end();
        assert_eq!(unfinished.map(|batch| batch.count().frames), Some(1));
    }

    #[test]
    fn a_send_that_follows_a_direct_write_closely_is_not_alone_however_long_the_write_took() {
        const MICRO: Duration = Duration::from_micros(1);

        let start = time::now();
        let last = LastDirectWrite::new(start);
        for (took, close, alone) in [(5, 11, 12), (11, 12, 13), (50, 51, 52)] {
            last.note(start, start + took * MICRO);
            assert!(last.is_close_to(start + close * MICRO), "{took}, {close}");
            assert!(!last.is_close_to(start + alone * MICRO), "{took}, {alone}");
        }
    }
}
