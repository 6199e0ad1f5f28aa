//! [`CallRooms`]: how many calls may wait for answers, and how many bytes they may have.

use std::sync::{
    Arc,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    },
};

use tokio::sync::{Mutex, Notify};

/// The bound of the calls on one lane of a peer, or of all calls.
///
/// Taking room is one atomic step, and giving it back another: with four semaphores in their place, they took 12 % of the
/// caller's time. Whoever finds no room waits in line, and from then on nobody goes past the line.
#[derive(Debug)]
struct Bound {
    max_calls: u32,
    max_bytes: u32,
    /// How many calls there are, in the upper half, and how many bytes they have, in the lower one.
    taken: AtomicU64,
    /// How many stand in line. Raised before the first of them looks for room, so that whoever gives room back after
    /// that sees it.
    waiting: AtomicUsize,
    /// Held by the first in line.
    line: Mutex<()>,
    freed: Notify,
}

/// The bounds that a call needs room in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CallRooms(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    of_peer: Bound,
    of_all: Arc<Bound>,
}

/// The room that a call takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct CallRoom {
    bounds: Arc<Bounds>,
    bytes: u32,
    /// Whether it has taken room of all, too, and not only of its peer.
    is_whole: bool,
}

impl Bound {
    fn new(calls: usize, bytes: usize) -> Self {
        let at_most = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Bound {
            max_calls: at_most(calls),
            max_bytes: at_most(bytes),
            taken: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::const_new(()),
            freed: Notify::const_new(),
        }
    }

    /// Takes room if there is some, whoever waits. Returns whether there was.
    fn take_now(&self, bytes: u32) -> bool {
        let add = |taken: u64| {
            let (calls, held) = (taken >> 32, taken & u64::from(u32::MAX));
            let fits = calls < u64::from(self.max_calls)
                && held + u64::from(bytes) <= u64::from(self.max_bytes);
            fits.then(|| taken + of_one(bytes))
        };
        self.taken.fetch_update(SeqCst, Relaxed, add).is_ok()
    }

    /// Takes room if there is some now, and nobody waits for it. Returns whether there was.
    fn try_take(&self, bytes: u32) -> bool {
        self.waiting.load(Acquire) == 0 && self.take_now(bytes)
    }

    async fn take(&self, bytes: u32) {
        if self.try_take(bytes) {
            return;
        }
        let _waiting = Waiting::new(self);
        let _first = self.line.lock().await;
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let freed = self.freed.notified();
            if self.take_now(bytes) {
                return;
            }
            freed.await;
        }
    }

    fn give_back(&self, bytes: u32) {
        self.taken.fetch_sub(of_one(bytes), SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            // Only the first in line waits for this.
            self.freed.notify_one();
        }
    }
}

/// What one call adds to what is taken.
fn of_one(bytes: u32) -> u64 {
    1 << 32 | u64::from(bytes)
}

/// Somebody stands in line.
struct Waiting<'b>(&'b Bound);

impl<'b> Waiting<'b> {
    fn new(bound: &'b Bound) -> Self {
        bound.waiting.fetch_add(1, SeqCst);
        Waiting(bound)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, AcqRel);
    }
}

impl Drop for CallRoom {
    fn drop(&mut self) {
        self.bounds.of_peer.give_back(self.bytes);
        if self.is_whole {
            self.bounds.of_all.give_back(self.bytes);
        }
    }
}

impl CallRooms {
    /// Makes those of a transport and of its first peer: calls and bytes of all, then of each peer.
    pub(crate) fn new(of_all: (usize, usize), of_peer: (usize, usize)) -> Self {
        CallRooms(Arc::new(Bounds {
            of_peer: Bound::new(of_peer.0, of_peer.1),
            of_all: Arc::new(Bound::new(of_all.0, of_all.1)),
        }))
    }

    /// Makes those of another peer of the same transport.
    pub(crate) fn of_another(&self) -> Self {
        let Bound {
            max_calls,
            max_bytes,
            ..
        } = self.0.of_peer;
        CallRooms(Arc::new(Bounds {
            of_peer: Bound::new(max_calls as usize, max_bytes as usize),
            of_all: self.0.of_all.clone(),
        }))
    }

    /// A call that is longer than all that may wait takes all of the room.
    fn needs(&self, bytes: usize) -> u32 {
        let max = self.0.of_peer.max_bytes.min(self.0.of_all.max_bytes);
        u32::try_from(bytes).unwrap_or(u32::MAX).min(max)
    }

    /// Takes room for a call if there is some now, and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<CallRoom> {
        let bytes = self.needs(bytes);
        let mut room = self
            .0
            .of_peer
            .try_take(bytes)
            .then(|| self.room_of_peer(bytes))?;
        room.is_whole = self.0.of_all.try_take(bytes);
        room.is_whole.then_some(room)
    }

    /// Takes room for a call as soon as there is some, in the order of asking.
    ///
    /// Whoever waits for the room of all keeps that of its peer. Both are taken in the same order, so nobody waits in a
    /// circle; and a peer that does not answer takes no room of all from the others.
    pub(crate) async fn take(&self, bytes: usize) -> CallRoom {
        let bytes = self.needs(bytes);
        self.0.of_peer.take(bytes).await;
        let mut room = self.room_of_peer(bytes);
        self.0.of_all.take(bytes).await;
        room.is_whole = true;
        room
    }

    /// Returns the room that was taken of the peer.
    fn room_of_peer(&self, bytes: u32) -> CallRoom {
        CallRoom {
            bounds: self.0.clone(),
            bytes,
            is_whole: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_call_that_finds_no_room_of_all_keeps_none_of_its_peer() {
        let one = CallRooms::new((1, 100), (2, 60));
        let other = one.of_another();
        let taken = one.try_take(10).expect("room");
        for _ in 0..3 {
            assert!(other.try_take(60).is_none(), "calls of all");
            assert!(other.take(60).now_or_never().is_none(), "given up");
        }
        drop(taken);
        assert!(one.try_take(60).is_some());
        let _whole = other.try_take(60).expect("all of its own");
        assert!(one.try_take(0).is_none(), "one call, as before");
    }

    #[test]
    fn one_peer_cannot_take_the_room_of_others_and_all_is_given_back() {
        let one = CallRooms::new((3, 100), (2, 60));
        let other = one.of_another();
        let first = one.try_take(60).expect("room");
        assert!(one.try_take(1).is_none(), "bytes of the peer");
        let second = other.try_take(10).expect("room");
        let _third = other.try_take(10).expect("room");
        assert!(other.try_take(0).is_none(), "calls of the peer");
        drop(second);
        let mut waiting = std::pin::pin!(other.take(31));
        assert!(waiting.as_mut().now_or_never().is_none(), "bytes of all");
        drop(first);
        assert!(waiting.now_or_never().is_some());
        assert!(one.try_take(1000).is_some(), "takes all of the room");
    }
}
