//! [`CallRooms`]: how many calls may wait for answers, and how many bytes they may have.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The bound of the calls on one lane of a peer, or of all calls.
#[derive(Debug)]
struct Bound {
    calls: Semaphore,
    bytes: Semaphore,
    max: (usize, usize),
}

/// The bounds that a call needs room in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CallRooms {
    of_peer: Arc<Bound>,
    of_all: Arc<Bound>,
}

/// The room that a call takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct CallRoom {
    rooms: CallRooms,
    bytes: u32,
}

impl Bound {
    fn new(calls: usize, bytes: usize) -> Arc<Self> {
        let max = (
            calls.min(Semaphore::MAX_PERMITS),
            bytes.min(u32::MAX as usize),
        );
        Arc::new(Bound {
            calls: Semaphore::new(max.0),
            bytes: Semaphore::new(max.1),
            max,
        })
    }

    fn give_back(&self, bytes: u32) {
        self.bytes.add_permits(bytes as usize);
        self.calls.add_permits(1);
    }
}

impl CallRooms {
    /// Makes those of a transport and of its first peer: calls and bytes of all, then of each peer.
    pub(crate) fn new(of_all: (usize, usize), of_peer: (usize, usize)) -> Self {
        CallRooms {
            of_peer: Bound::new(of_peer.0, of_peer.1),
            of_all: Bound::new(of_all.0, of_all.1),
        }
    }

    /// Makes those of another peer of the same transport.
    pub(crate) fn of_another(&self) -> Self {
        let (calls, bytes) = self.of_peer.max;
        CallRooms {
            of_peer: Bound::new(calls, bytes),
            of_all: self.of_all.clone(),
        }
    }

    /// A call that is longer than all that may wait takes all of the room.
    fn needs(&self, bytes: usize) -> u32 {
        let max = self.of_peer.max.1.min(self.of_all.max.1);
        // Both are at most that.
        bytes.min(max) as u32
    }

    /// Takes room for a call if there is some now, and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<CallRoom> {
        let bytes = self.needs(bytes);
        let (one, all) = (&self.of_peer, &self.of_all);
        let of_peer = (one.calls.try_acquire(), one.bytes.try_acquire_many(bytes));
        let of_all = (all.calls.try_acquire(), all.bytes.try_acquire_many(bytes));
        // Those that were acquired are released here if another one was not.
        let (Ok(a), Ok(b), Ok(c), Ok(d)) = (of_peer.0, of_peer.1, of_all.0, of_all.1) else {
            return None;
        };
        for permit in [a, b, c, d] {
            permit.forget();
        }
        Some(self.taken(bytes))
    }

    /// Takes room for a call as soon as there is some, in the order of asking.
    ///
    /// Whoever waits for one of the four keeps what it got of those before it. All of them are taken in the same order,
    /// so nobody waits in a circle; and one peer that does not answer takes no room of all from the others.
    pub(crate) async fn take(&self, bytes: usize) -> CallRoom {
        const OPEN: &str = "is never closed";

        let bytes = self.needs(bytes);
        let (one, all) = (&self.of_peer, &self.of_all);
        let a = one.calls.acquire().await.expect(OPEN);
        let b = one.bytes.acquire_many(bytes).await.expect(OPEN);
        let c = all.calls.acquire().await.expect(OPEN);
        let d = all.bytes.acquire_many(bytes).await.expect(OPEN);
        for permit in [a, b, c, d] {
            permit.forget();
        }
        self.taken(bytes)
    }

    fn taken(&self, bytes: u32) -> CallRoom {
        CallRoom {
            rooms: self.clone(),
            bytes,
        }
    }
}

impl Drop for CallRoom {
    fn drop(&mut self) {
        self.rooms.of_peer.give_back(self.bytes);
        self.rooms.of_all.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

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
