//! Frames with [`Terms`] of their own, from their push on: how they enter the queue, replace each other and go stale.
//! Which of them are queued is in [`apart`](super::apart).

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    task::{Context, Poll},
};

use super::{
    Doorbell, Entered, SendQueue, WhenFull,
    account::{Place, SendDrop},
    admission::{Gate, Limits},
    chunk::Chunk,
    in_line::InLine,
    reserved::ANY,
    shares::Leaving,
    sharing::Entries,
    state::State,
    terms::{Key, Terms},
};
use crate::{
    error::Refusal, ids::GroupId, net::clock::CoarseInstant, wire::count::Count,
    wire::frame::HEADER, wire::payload::Payload,
};

impl<To: Copy + Eq> SendQueue<To> {
    /// As [`push`](SendQueue::push), for a frame with terms of its own.
    pub(crate) fn push_apart<P: Payload>(
        &self,
        to: To,
        frame: (GroupId, P),
        terms: Terms,
        now: CoarseInstant,
    ) -> Result<Doorbell, (Refusal, P)> {
        self.push_apart_if(to, frame, terms, now, WhenFull::Refuse)
    }

    /// As [`push_apart`](SendQueue::push_apart), by a sender that may wait if the queue is full.
    pub(crate) fn push_apart_if<P: Payload>(
        &self,
        to: To,
        (group, payload): (GroupId, P),
        terms: Terms,
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Result<Doorbell, (Refusal, P)> {
        // If the frame is refused, they are dropped when the lock is released.
        let mut terms = Some(terms);
        let entered = self.locked(|state| {
            let frame = (group, payload);
            state.enter_apart(&self.limits, to, frame, &mut terms, now, when_full)
        });
        entered.map(|(doorbell, _)| doorbell)
    }

    /// As [`push_wait`](SendQueue::push_wait), for a frame with terms of its own.
    pub(crate) async fn push_apart_wait<P: Payload>(
        &self,
        to: To,
        (group, payload): (GroupId, P),
        terms: Terms,
        now: impl Fn() -> CoarseInstant,
    ) -> Result<Doorbell, (Refusal, P)> {
        let (at, mut terms) = (now(), Some(terms));
        let entered = self.locked(|state| {
            let frame = (group, payload);
            state.enter_apart(&self.limits, to, frame, &mut terms, at, WhenFull::Wait)
        });
        let entered = match entered {
            Err((Refusal::Full(_), payload)) => {
                let mut place = InLine::new(self, group, HEADER + payload.byte_len());
                poll_fn(|cx| place.poll_granted(cx)).await;
                let at = now();
                place.enter(payload, |state, payload| {
                    let (frame, terms) = ((group, payload), terms.take().unwrap_or_default());
                    state.put_own(&self.limits, to, frame, terms, at)
                })
            }
            decided => decided,
        };
        entered.map(|(doorbell, _)| doorbell)
    }

    /// Is ready when a frame with an age limit of its own has come, which may be stale before all others. Only one may
    /// wait for this at a time.
    pub(crate) fn poll_sooner(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(cx.waker().clone());
        self.locked(|state| match mem::take(&mut state.has_sooner) {
            true => Poll::Ready(()),
            false => {
                mem::swap(&mut state.sooner, &mut waker);
                Poll::Pending
            }
        })
    }
}

impl<To: Copy + Eq> State<To> {
    /// Takes a frame with these terms, and takes them, if it may enter now. The caller drops what this returns or
    /// leaves when the lock is released.
    pub(super) fn enter_apart<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        (group, payload): (GroupId, P),
        terms: &mut Option<Terms>,
        now: CoarseInstant,
        when_full: WhenFull,
    ) -> Entered<P> {
        let len = HEADER + payload.byte_len();
        let older = self.older(terms.as_ref().and_then(|terms| terms.key));
        let older_count = older.map_or(Count::ZERO, |index| self.chunks[index].count());
        // One that is no longer than the older needs no room, and takes none from those who wait for some.
        let fits = |index: usize| len <= self.chunks[index].count().bytes as usize;
        let admitted = match self.gate == Gate::Open && older.is_some_and(fits) {
            true => Ok(Entries::FREE),
            false => {
                let may_be_reserved = terms.as_ref().is_some_and(Terms::are_for_the_transport);
                let asked = if may_be_reserved { ANY } else { group };
                self.decide(limits, [asked, group], len, older_count)
            }
        };
        match admitted {
            Ok(entries) => {
                // The oldest make way, and it might be among them.
                if entries.evict() {
                    older.inspect(|&index| self.drop_older(index));
                }
                self.make_room(limits, group, len, entries);
            }
            Err(refusal) => {
                if when_full == WhenFull::Refuse || !matches!(refusal, Refusal::Full(_)) {
                    self.account.offer(Err(refusal), Count::one(len));
                }
                return Err((refusal, payload));
            }
        }
        let terms = terms.take().unwrap_or_default();
        Ok(self.put_own(limits, to, (group, payload), terms, now))
    }

    /// Puts an admitted frame into the place of the queued one with the same key, or to the end if there is none.
    pub(super) fn put_own<P: Payload>(
        &mut self,
        limits: &Limits,
        to: To,
        (group, payload): (GroupId, P),
        mut terms: Terms,
        now: CoarseInstant,
    ) -> (Doorbell, Option<P>) {
        if terms.ttl.is_some() {
            self.has_sooner = true;
            self.deferred.wake(self.sooner.take());
        }
        if let Some(call) = &mut terms.call {
            call.is_queued();
        }
        let len = Count::one(HEADER + payload.byte_len());
        let of = group;
        let group = match terms.are_for_the_transport() {
            true => {
                terms.of = Some(of);
                GroupId::RESERVED
            }
            false => group,
        };
        if let Some(index) = self.older(terms.key) {
            let place = &mut self.chunks[index];
            let (newer, copied) = own_chunk(limits, (to, place.first, now), terms, group, payload);
            if let Some(shares) = &mut self.shares {
                shares.comes(of, len, newer.first);
                shares.goes(place);
            }
            let older = mem::replace(place, newer);
            let why = SendDrop::Replaced;
            self.account.replace(older.count(), why, len);
            self.deferred.discard([older]);
            // It may be shorter.
            self.grant_room(limits);
            (self.take_doorbell(), copied)
        } else {
            self.account.offer(Ok(()), len);
            let number = self.account.next_number() - 1;
            let (chunk, copied) = own_chunk(limits, (to, number, now), terms, group, payload);
            self.apart.comes(&chunk);
            if let Some(shares) = &mut self.shares {
                shares.comes(of, len, number);
            }
            self.chunks.push_back(chunk);
            (self.take_doorbell(), copied)
        }
    }

    /// Returns where the queued frame with the same key is.
    fn older(&self, key: Option<Key>) -> Option<usize> {
        let number = *self.apart.by_key.get(&key?)?;
        let index = self.chunks.partition_point(|chunk| chunk.first < number);
        debug_assert_eq!(self.chunks[index].first, number);
        Some(index)
    }

    #[cold]
    fn drop_older(&mut self, index: usize) {
        let older = self.chunks.remove(index);
        if let Some(older) = &older {
            self.apart.goes(older);
            let replaced = Place::Dropped(SendDrop::Replaced);
            self.account
                .transfer(Place::Queued, replaced, older.count());
            self.leaves_share(older);
        }
        self.deferred.discard(older);
    }

    /// Drops those of the chunks of a batch that newer frames replace, which came while it was being written.
    pub(super) fn drop_replaced(&mut self, chunks: &mut VecDeque<Chunk<To>>) {
        if self.apart.by_key.is_empty() {
            return;
        }
        let mut leaving = Leaving::default();
        for chunk in mem::take(chunks) {
            if chunk
                .key()
                .is_some_and(|key| self.apart.by_key.contains_key(&key))
            {
                let replaced = Place::Dropped(SendDrop::Replaced);
                self.account
                    .transfer(Place::InFlight, replaced, chunk.count());
                leaving.add(&chunk, usize::MAX);
                self.deferred.discard([chunk]);
            } else {
                chunks.push_back(chunk);
            }
        }
        self.end_in_shares(Some(leaving));
    }

    /// Drops the queued frames that have gone stale, of which any may be the first.
    pub(super) fn expire_each(&mut self, limits: &Limits, now: CoarseInstant) {
        if !self.chunks.iter().any(|chunk| chunk.is_stale(limits, now)) {
            return;
        }
        for chunk in mem::take(&mut self.chunks) {
            if chunk.is_stale(limits, now) {
                self.apart.goes(&chunk);
                let stale = Place::Dropped(SendDrop::Stale);
                self.account.transfer(Place::Queued, stale, chunk.count());
                self.leaves_share(&chunk);
                self.deferred.discard([chunk]);
            } else {
                self.chunks.push_back(chunk);
            }
        }
        self.frames_left(limits);
    }
}

/// Makes the chunk of a frame with terms of its own, with this destination, number and age. Returns the payload if it was
/// copied, as a short one is.
fn own_chunk<To: Copy + Eq, P: Payload>(
    limits: &Limits,
    (to, number, now): (To, u64, CoarseInstant),
    terms: Terms,
    group: GroupId,
    payload: P,
) -> (Chunk<To>, Option<P>) {
    if payload.byte_len() < limits.large_from {
        let chunk = Chunk::single(to, number, now, terms, group, payload.pieces());
        return (chunk, Some(payload));
    }
    let pieces = payload.into_pieces();
    (Chunk::large(to, number, now, terms, group, pieces), None)
}
