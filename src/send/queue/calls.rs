//! Calls in the queue: whether they may still be written when their turn comes, and how they are given up before.
//!
//! A call that is given up leaves an empty frame in its place, or the receiver would find that a frame is missing. Who
//! waits for a call is known in [`PendingCalls`](crate::calls::pending::PendingCalls), which decides.

use bytes::Bytes;

use super::{
    SendQueue,
    account::SendDrop,
    chunk::Chunk,
    may_go::{MayGo, Now},
    state::State,
    terms::Terms,
};
use crate::{
    calls::pending::{Asked, CallPeer},
    ids::GroupId,
    wire::call::{self, CallFrame, CallId},
    wire::count::Count,
    wire::payload::Payload,
};

impl<To: Copy + Eq> SendQueue<To> {
    /// Returns whom a call is put to that is written on this link, or nobody if its far end takes no calls. `None` if
    /// the link has ended.
    pub(crate) fn asked_on(&self, link: u64) -> Option<Option<Asked>> {
        self.locked(|state| {
            let peer = state.call_peer.map(|peer| peer.on(link));
            (state.links == link).then_some(peer)
        })
    }

    /// Gives up a call if it is still queued.
    pub(crate) fn withdraw(&self, id: CallId) {
        self.locked(|state| {
            if !state.apart.is_empty() {
                state.withdraw(id);
                // The empty frame is shorter.
                state.grant_room(&self.limits);
            }
        });
    }
}

impl<To: Copy + Eq> State<To> {
    fn withdraw(&mut self, id: CallId) {
        let is_it = |chunk: &mut Chunk<To>| chunk.call().is_some_and(|call| call.id() == id);
        if let Some(index) = self.chunks.iter_mut().position(is_it) {
            let nothing = Chunk::nothing(&self.chunks[index], id);
            let call = std::mem::replace(&mut self.chunks[index], nothing);
            self.apart.goes(&call);
            self.give_up(call, self.chunks[index].count());
        }
    }

    /// Counts a queued call that is given up, and the empty frame that gets its place.
    pub(super) fn give_up(&mut self, call: Chunk<To>, nothing: Count) {
        self.account
            .replace(call.count(), SendDrop::Withdrawn, nothing);
        if let Some(shares) = &mut self.shares {
            shares.comes(GroupId::RESERVED, nothing, call.first);
            shares.goes(&call);
        }
        self.deferred.discard([call]);
    }
}

impl<To: Copy + Eq> Chunk<To> {
    /// Returns whether it may be written on this link. A part of a message may not if it is for a former one, and a
    /// call if nobody waits for its answer any more.
    #[inline]
    pub(super) fn may_go(&mut self, link: u64, far: Option<CallPeer>, now: &mut Now) -> MayGo {
        match self.terms {
            None => MayGo::Yes,
            Some(_) => self.may_go_by_its_terms(link, far, now),
        }
    }

    fn may_go_by_its_terms(&mut self, link: u64, far: Option<CallPeer>, now: &mut Now) -> MayGo {
        if let Some(part) = self.part() {
            return match part.is_for(link) {
                true => MayGo::Yes,
                false => MayGo::ForFormerLink,
            };
        }
        self.may_go_as_call(link, far, now)
    }

    /// Makes the empty frame that gets the place of a call.
    pub(super) fn nothing(call: &Chunk<To>, id: CallId) -> Self {
        let pieces = [CallFrame::Nothing.encode(id).into_bytes(), Bytes::new()];
        let terms = Terms::default();
        Chunk::large(
            call.to,
            call.first,
            call.at,
            terms,
            GroupId::RESERVED,
            pieces,
        )
    }

    /// Returns whether a call may be written now. If it may, its caller learns that it was sent, and its head says how
    /// much of its time is left.
    fn may_go_as_call(&mut self, link: u64, far: Option<CallPeer>, now: &mut Now) -> MayGo {
        let Some(call) = self.call() else {
            return MayGo::Yes;
        };
        let (id, deadline) = (call.id(), call.deadline());
        match (call.is_taken(far.map(|far| far.on(link))), far) {
            (true, _) => {
                let left = deadline.saturating_duration_since(now.get());
                self.change_head(|head| call::set_left(head, left));
                MayGo::Yes
            }
            (false, Some(_)) => MayGo::GivenUp(id),
            (false, None) => MayGo::Unsupported,
        }
    }
}
