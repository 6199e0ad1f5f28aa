//! [`Answers`]: where the answers to the calls of one connection go.
//!
//! Calls often come together, and handlers often answer at once. While a connection hands over the calls that one read
//! brought, their answers only queue up, and then all of them are written together.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::send::{peer::Peer, queue::Doorbell};

/// The peer that gets the answers.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) peer: Peer,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Whether more answers are about to come.
    back: bool,
    /// The doorbell of the first of them, which is rung when all are there.
    doorbell: Option<Doorbell>,
}

/// As long as this lives, answers are held back. Then they are written together.
pub(super) struct HeldBack(Arc<Answers>);

impl Answers {
    pub(super) fn to(peer: Peer) -> Arc<Self> {
        Arc::new(Answers {
            peer,
            held: Mutex::default(),
        })
    }

    /// Returns whether answers may be sent there. If not, the peer was forgotten, or this node stops.
    pub(super) fn takes_answers(&self) -> bool {
        self.peer.state.queue.refusal().is_none()
    }

    /// Makes sure that a queued answer will be written: now, or together with others.
    pub(super) fn ring(&self, doorbell: Doorbell) {
        if doorbell.is_silent() {
            return;
        }
        let mut held = self.held.lock();
        if held.back {
            // A former one is rung here, without the lock. There is one if what was queued before has gone stale.
            let former = held.doorbell.replace(doorbell);
            drop(held);
            drop(former);
            return;
        }
        drop(held);
        self.peer.state.ring(doorbell);
    }

    pub(super) fn hold_back(self: &Arc<Self>) -> HeldBack {
        self.held.lock().back = true;
        HeldBack(self.clone())
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        let mut held = self.0.held.lock();
        held.back = false;
        let doorbell = held.doorbell.take();
        drop(held);
        if let Some(doorbell) = doorbell {
            self.0.peer.state.ring_for_burst(doorbell);
        }
    }
}
