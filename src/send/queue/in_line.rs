//! One sender's place in the line for room.
//!
//! It lasts from joining the line until the frame is queued. Dropping it earlier gives the place, or the
//! granted room, back. The line itself is [`Waiters`](super::waiters::Waiters).

use std::task::{Context, Poll};

use super::{Doorbell, Entered, Gate, SendQueue, state::State, waiters::Ticket};
use crate::{ids::GroupId, wire::count::Count, wire::payload::Payload};

/// The place of a sender with a frame of `len` bytes for `group`.
pub(super) struct InLine<'q, To: Copy + Eq> {
    queue: &'q SendQueue<To>,
    group: GroupId,
    len: usize,
    /// None before the sender has joined the line, and after it has given its place back.
    ticket: Option<Ticket>,
}

impl<'q, To: Copy + Eq> InLine<'q, To> {
    pub(super) fn new(queue: &'q SendQueue<To>, group: GroupId, len: usize) -> Self {
        InLine {
            queue,
            group,
            len,
            ticket: None,
        }
    }

    /// Is ready when room has been granted, or when the queue lets nothing in any more.
    pub(super) fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Wakers are foreign code. This one is cloned before the lock is taken, and the one that it
        // replaces is dropped after the lock is released.
        let mut waker = Some(cx.waker().clone());
        self.queue.locked(|state| {
            if state.gate != Gate::Open {
                return Poll::Ready(());
            }
            let ticket = *self.ticket.get_or_insert_with(|| {
                let ticket = state.join(self.group, self.len);
                // Room may have been made since the sender found none.
                state.grant_room(&self.queue.limits);
                ticket
            });
            match state.waiters.renew(self.group, ticket, &mut waker) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
    }

    /// Lets the frame be `put` into the room that was granted, unless the queue has been sealed or closed.
    pub(super) fn enter<P: Payload>(
        mut self,
        payload: P,
        put: impl FnOnce(&mut State<To>, P) -> (Doorbell, Option<P>),
    ) -> Entered<P> {
        let (queue, group, len) = (self.queue, self.group, self.len);
        let ticket = self.ticket.take();
        queue.locked(|state| {
            let waker = ticket.and_then(|ticket| state.leave(group, ticket, len));
            debug_assert!(waker.is_none(), "it is not in line any more");
            if state.gate != Gate::Open {
                let refusal = state.gate.refusal();
                state.account.offer(Err(refusal), Count::one(len));
                return Err((refusal, payload));
            }
            let entered = put(state, payload);
            // With `DropOldest` this frame, now queued, can be evicted for the next sender in line. A
            // reservation cannot. So there may be room to grant.
            state.grant_room(&queue.limits);
            Ok(entered)
        })
    }
}

impl<To: Copy + Eq> Drop for InLine<'_, To> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let waker = self.queue.locked(|state| {
            let waker = state.leave(self.group, ticket, self.len);
            state.grant_room(&self.queue.limits);
            waker
        });
        // Only now, with the lock released.
        drop(waker);
    }
}
