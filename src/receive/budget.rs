//! How much memory a transport may hold for what it receives, over all connections.
//!
//! Owns the sum, who waits for memory, and whose frame is given up when there is none. Each connection
//! has a [`Share`]. It asks before it allocates, and gives back when it has less. Short frames always
//! get what they need: a connection may hold a little without asking, and a part of the budget is kept
//! for those that hold little. Reading, and the memory itself, is left to `connection` and
//! `read_buffer`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a connection may always hold: enough for short frames, one read at a time.
const FREE: usize = 4 << 10;

/// A connection that holds no more than this may use the whole budget, others seven eighths of it.
const LITTLE: usize = 16 << 10;

/// More than `LITTLE` is taken in multiples of this, and the size of an unfinished frame is noted in
/// multiples of it, so that a read seldom changes either.
const STEP: usize = 16 << 10;

/// The budget of one transport. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct InboundBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    state: Mutex<State>,
    /// How many connections wait for memory. Raised before the state is looked at, so that whoever
    /// gives memory back after that sees it.
    waiting: AtomicUsize,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// The part of `held` that connections were told to give back.
    leaving: usize,
    /// The connections with an unfinished frame, by its size and by their number.
    unfinished: BTreeMap<(usize, u64), Arc<Notice>>,
    /// The number of the next connection.
    next: u64,
}

/// Tells a connection that its frame is given up.
#[derive(Debug, Default)]
struct Notice {
    given_up: AtomicBool,
    /// Whether it awaits handlers, and could give nothing back before they are done.
    busy: AtomicBool,
    notify: Notify,
}

/// The unfinished frame of this connection was the largest when memory ran out.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct GivenUp;

impl InboundBudget {
    pub(crate) fn new(max: usize) -> Self {
        InboundBudget(Arc::new(Inner {
            max,
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }))
    }

    /// Returns the share of a new connection. It holds nothing yet.
    pub(crate) fn share(&self) -> Share {
        let mut state = self.0.state.lock();
        state.next += 1;
        Share {
            budget: self.0.clone(),
            number: state.next,
            held: 0,
            unfinished: 0,
            notice: Arc::default(),
        }
    }
}

/// The memory for received frames that one connection holds. Dropping this returns it to the budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Inner>,
    number: u64,
    held: usize,
    /// The noted size of the unfinished frame; 0 if it is short or there is none.
    unfinished: usize,
    notice: Arc<Notice>,
}

impl Share {
    /// Raises what this connection holds to `bytes`, if the budget has as many.
    pub(crate) fn try_hold(&mut self, bytes: usize) -> bool {
        if bytes <= self.held {
            return true;
        }
        let bytes = rounded(bytes);
        let mut state = self.budget.state.lock();
        let others = state.held - self.held;
        let fits = others + bytes <= self.budget.limit(bytes);
        if fits {
            state.held = others + bytes;
            self.held = bytes;
        }
        fits
    }

    /// Raises what this connection holds to `bytes`, which it holds already.
    pub(crate) fn cover(&mut self, bytes: usize) {
        if bytes > self.held {
            let bytes = rounded(bytes);
            self.budget.state.lock().held += bytes - self.held;
            self.held = bytes;
        }
    }

    /// Lowers what this connection holds to `bytes`, if it is more.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = rounded(bytes);
        if bytes < self.held {
            self.budget.state.lock().held -= self.held - bytes;
            self.held = bytes;
            self.budget.tell_waiting();
        }
    }

    /// Like [`try_hold`](Share::try_hold), but waits until the budget has as many bytes. Has larger
    /// unfinished frames given up for that. If the one of this connection is the largest, this waits
    /// until handlers or other connections give something back, or another connection needs memory.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<(), GivenUp> {
        let budget = self.budget.clone();
        let _waiting = Waiting::new(&budget);
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let freed = budget.freed.notified();
            if self.try_hold(bytes) {
                return Ok(());
            }
            self.make_room(rounded(bytes));
            tokio::select! {
                () = freed => {}
                given_up = self.given_up() => return Err(given_up),
            }
        }
    }

    /// Notes that `bytes` of an incomplete frame have arrived.
    pub(crate) fn unfinished(&mut self, bytes: usize) {
        let bytes = bytes - bytes % STEP;
        if bytes == self.unfinished || self.is_given_up() {
            return;
        }
        let mut state = self.budget.state.lock();
        state.unfinished.remove(&(self.unfinished, self.number));
        // It may have been given up just now. Then the old size is what is expected back.
        if self.is_given_up() {
            return;
        }
        self.unfinished = bytes;
        if bytes > 0 {
            let key = (bytes, self.number);
            state.unfinished.insert(key, self.notice.clone());
        }
    }

    /// Notes whether this connection awaits handlers.
    pub(crate) fn busy(&self, busy: bool) {
        self.notice.busy.store(busy, Relaxed);
    }

    /// Returns whether any connection waits for memory.
    pub(crate) fn others_wait(&self) -> bool {
        self.budget.waiting.load(Relaxed) > 0
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.notice.given_up.load(Relaxed)
    }

    /// Waits until the frame of this connection is given up.
    pub(crate) async fn given_up(&self) -> GivenUp {
        while !self.is_given_up() {
            self.notice.notify.notified().await;
        }
        GivenUp
    }

    /// Returns whether the connection has an unfinished frame that may be given up.
    pub(crate) fn may_be_given_up(&self) -> bool {
        self.unfinished > 0
    }

    /// Gives up the largest unfinished frames, until `bytes` will fit or the next one is our own.
    fn make_room(&self, bytes: usize) {
        let mut state = self.budget.state.lock();
        let limit = self.budget.limit(bytes);
        while state.held - self.held + bytes > limit + state.leaving {
            let idle = |(_, notice): &(_, &Arc<Notice>)| !notice.busy.load(Relaxed);
            let Some((&largest, _)) = state.unfinished.iter().rev().find(idle) else {
                break;
            };
            let (size, number) = largest;
            if number == self.number {
                break;
            }
            if let Some(notice) = state.unfinished.remove(&largest) {
                state.leaving += size;
                notice.given_up.store(true, Relaxed);
                notice.notify.notify_one();
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.held -= self.held;
        let key = (self.unfinished, self.number);
        if self.is_given_up() {
            state.leaving -= self.unfinished;
        }
        state.unfinished.remove(&key);
        drop(state);
        self.budget.tell_waiting();
    }
}

impl Inner {
    /// Returns how much all connections may hold together after one has raised its share to `bytes`.
    fn limit(&self, bytes: usize) -> usize {
        if bytes <= FREE {
            return usize::MAX;
        }
        match bytes <= LITTLE {
            true => self.max,
            false => self.max - self.max / 8,
        }
    }

    fn tell_waiting(&self) {
        if self.waiting.load(Relaxed) > 0 {
            self.freed.notify_waiters();
        }
    }
}

/// Counts a connection as waiting until this is dropped.
struct Waiting<'b>(&'b Inner);

impl<'b> Waiting<'b> {
    fn new(budget: &'b Inner) -> Self {
        budget.waiting.fetch_add(1, Relaxed);
        Waiting(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

fn rounded(bytes: usize) -> usize {
    match bytes {
        ..=LITTLE => bytes,
        _ => bytes.next_multiple_of(STEP),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MAX: usize = 80 * STEP;

    fn held(budget: &InboundBudget) -> usize {
        budget.0.state.lock().held
    }

    /// A connection of which this much of a frame has arrived.
    fn unfinished(budget: &InboundBudget, bytes: usize) -> Share {
        let mut share = budget.share();
        assert!(share.try_hold(bytes));
        share.unfinished(bytes);
        share
    }

    #[test]
    fn an_eighth_is_kept_for_those_who_hold_little_and_the_least_is_always_given() {
        let budget = InboundBudget::new(MAX);
        let mut large = budget.share();
        assert!(large.try_hold(70 * STEP));
        assert!(!large.try_hold(70 * STEP + 1));
        let mut little: Vec<_> = (0..11).map(|_| budget.share()).collect();
        for share in &mut little[..10] {
            assert!(share.try_hold(LITTLE));
        }
        let last = &mut little[10];
        assert!(last.try_hold(FREE) && !last.try_hold(FREE + 1));
        assert_eq!(held(&budget), MAX + FREE);
        large.shrink(60 * STEP);
        assert!(last.try_hold(FREE + 1));
        drop((large, little));
        assert_eq!(held(&budget), 0);
    }

    #[test]
    fn the_largest_unfinished_frames_are_given_up_and_no_more_than_needed() {
        let budget = InboundBudget::new(MAX);
        let [small, large, middle] = [10, 30, 20].map(|steps| unfinished(&budget, steps * STEP));
        let mut needs = budget.share();
        assert_eq!(needs.hold(15 * STEP).now_or_never(), None);
        let given_up = |shares: [&Share; 3]| shares.map(Share::is_given_up);
        assert_eq!(given_up([&small, &large, &middle]), [false, true, false]);
        // Its memory is not free yet, but it will be: no other one is given up meanwhile.
        assert_eq!(needs.hold(15 * STEP).now_or_never(), None);
        assert_eq!(given_up([&small, &large, &middle]), [false, true, false]);
        assert_eq!(large.given_up().now_or_never(), Some(GivenUp));
        drop(large);
        assert_eq!(needs.hold(15 * STEP).now_or_never(), Some(Ok(())));
        drop((small, middle, needs));
        let state = budget.0.state.lock();
        assert_eq!(
            (state.held, state.leaving, state.unfinished.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_connection_whose_own_frame_is_the_largest_waits() {
        let budget = InboundBudget::new(MAX);
        let (mut large, other) = (
            unfinished(&budget, 40 * STEP),
            unfinished(&budget, 30 * STEP),
        );
        assert_eq!(large.hold(41 * STEP).now_or_never(), None);
        assert!(!large.is_given_up() && !other.is_given_up());
        drop(other);
        assert_eq!(large.hold(41 * STEP).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn a_connection_that_awaits_handlers_is_not_given_up() {
        let budget = InboundBudget::new(MAX);
        let (busy, idle) = (
            unfinished(&budget, 40 * STEP),
            unfinished(&budget, 30 * STEP),
        );
        busy.busy(true);
        assert_eq!(budget.share().hold(STEP + 1).now_or_never(), None);
        assert!(idle.is_given_up() && !busy.is_given_up());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_memory_is_given_back() {
        let budget = InboundBudget::new(MAX);
        let mut holds = budget.share();
        holds.cover(2 * MAX);
        let mut needs = budget.share();
        let gives = async {
            while !holds.others_wait() {
                tokio::task::yield_now().await;
            }
            holds.shrink(0);
        };
        let (held, ()) = tokio::join!(needs.hold(2 * STEP), gives);
        assert_eq!(held, Ok(()));
        assert!(!holds.others_wait());
    }
}
