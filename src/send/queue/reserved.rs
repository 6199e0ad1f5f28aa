//! Frames of the reserved group that this crate makes: answers to calls, and what is said about calls.
//!
//! They are queued, bounded, aged and counted as all others are. Where groups have shares of the queue, these frames
//! are a group like any other.

use std::future::poll_fn;

use super::{Doorbell, SendQueue, WhenFull, admission::Limits, in_line::InLine, state::State};
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
        let entered = self.locked(|state| match state.admit_reserved(&self.limits, len) {
            Ok(()) => Ok(state.put_granted(&self.limits, to, GroupId::RESERVED, payload, now)),
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
                let mut place = InLine::new(self, GroupId::RESERVED, HEADER + payload.byte_len());
                poll_fn(|cx| place.poll_granted(cx)).await;
                let at = now();
                let entered = place.enter(payload, |state, payload| {
                    state.put_granted(&self.limits, to, GroupId::RESERVED, payload, at)
                });
                entered.map(|(doorbell, _)| doorbell)
            }
            decided => decided,
        }
    }
}

impl<To: Copy + Eq> State<To> {
    fn admit_reserved(&mut self, limits: &Limits, len: usize) -> Result<(), Refusal> {
        let entries = self.decide(limits, [ANY, GroupId::RESERVED], len, Count::ZERO)?;
        self.make_room(limits, GroupId::RESERVED, len, entries);
        Ok(())
    }
}
