//! Frames of the reserved group that this crate makes: answers to calls, and what is said about calls.
//!
//! They are queued, bounded, aged and counted as all others are.

use std::future::poll_fn;

use super::{Doorbell, SendQueue, WhenFull, in_line::InLine};
use crate::{
    error::Refusal, ids::GroupId, net::clock::CoarseInstant, wire::count::Count,
    wire::frame::HEADER, wire::payload::Payload,
};

/// What stands for the reserved group where it is checked who may send.
pub(super) const ANY: GroupId = GroupId::new(0);

impl<To: Copy + Eq> SendQueue<To> {
    /// As [`push`](SendQueue::push), to the reserved group.
    pub(crate) fn push_reserved<P: Payload>(
        &self,
        to: To,
        payload: P,
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Result<Doorbell, (Refusal, P)> {
        let len = HEADER + payload.byte_len();
        let entered = self.locked(|state| match state.admit(&self.limits, ANY, len) {
            Ok(()) => Ok(state.put(&self.limits, to, GroupId::RESERVED, payload, now)),
            Err(refusal) => {
                if when_full == WhenFull::Refuse || !matches!(refusal, Refusal::Full(_)) {
                    state.account.offer(Err(refusal), Count::one(len));
                }
                Err((refusal, payload))
            }
        });
        entered.map(|(doorbell, _)| doorbell)
    }

    /// As [`push_wait`](SendQueue::push_wait), to the reserved group.
    pub(crate) async fn push_reserved_wait<P: Payload>(
        &self,
        to: To,
        payload: P,
        now: impl Fn() -> CoarseInstant,
    ) -> Result<Doorbell, (Refusal, P)> {
        match self.push_reserved(to, payload, now(), WhenFull::Wait) {
            Err((Refusal::Full(_), payload)) => {
                let mut place = InLine::new(self, HEADER + payload.byte_len());
                poll_fn(|cx| place.poll_granted(cx)).await;
                let at = now();
                let entered = place.enter(payload, |state, payload| {
                    state.put(&self.limits, to, GroupId::RESERVED, payload, at)
                });
                entered.map(|(doorbell, _)| doorbell)
            }
            decided => decided,
        }
    }
}
