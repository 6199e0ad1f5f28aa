//! The line of senders that wait for room.
//!
//! Owns their order, the room that each needs, and the room that has been granted. Room is granted to
//! the first in line only, so a large frame is not overtaken by a smaller one behind it. A granted
//! sender leaves the line, and its room stays reserved until it uses it or gives it back. A
//! granted sender that nobody polls holds only the room of its own frame.
//!
//! Where groups have shares of the queue, a sender whose share is used up is held back beside the line until it is
//! let on. Then it has the place in line of its ticket.
//!
//! How much room there is, and when to grant it, is left to the queue's state. A sender's own side is
//! [`InLine`](super::in_line::InLine).

use std::{collections::BTreeMap, task::Waker};

use crate::{ids::GroupId, wire::count::Count};

/// The senders in line, and the room reserved for those who have left it.
#[derive(Default)]
pub(super) struct Waiters {
    /// By ticket, which is the order in which they asked.
    line: BTreeMap<Ticket, Waiter>,
    /// Those who wait for their group's share, by group and ticket. They need no room yet.
    held_back: BTreeMap<(GroupId, Ticket), Waiter>,
    next: Ticket,
    requested: Count,
    reserved: Count,
}

/// A sender's number in the line. Numbers grow and are not used again.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct Ticket(u64);

pub(super) struct Waiter {
    /// The length of its frame.
    len: usize,
    /// `None` only between `join` and the first `renew`.
    pub(super) waker: Option<Waker>,
}

impl Waiters {
    /// Puts a sender with a frame of `len` bytes at the end of the line.
    pub(super) fn join(&mut self, len: usize) -> Ticket {
        let ticket = self.next_ticket();
        self.requested += Count::one(len);
        self.line.insert(ticket, Waiter { len, waker: None });
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        ticket
    }

    /// Exchanges the waker of a sender in line, or held back, with the given one. Returns `false` if the
    /// sender is neither: it has been granted room, or the queue has ended.
    pub(super) fn renew(
        &mut self,
        group: GroupId,
        ticket: Ticket,
        waker: &mut Option<Waker>,
    ) -> bool {
        let in_line = self.line.get_mut(&ticket);
        let Some(waiter) = in_line.or_else(|| self.held_back.get_mut(&(group, ticket))) else {
            return false;
        };
        std::mem::swap(&mut waiter.waker, waker);
        true
    }

    /// Gives back a sender's place in line, or the room that was reserved for it. Returns its waker
    /// if it was in line, to be dropped when no lock is held.
    pub(super) fn leave(&mut self, ticket: Ticket, len: usize) -> Option<Waker> {
        let frame = Count::one(len);
        self.requested -= frame;
        let waiter = self.line.remove(&ticket);
        if waiter.is_none() {
            self.reserved -= frame;
        }
        waiter?.waker
    }

    /// Returns the length of the frame of the first in line.
    pub(super) fn first(&self) -> Option<usize> {
        let (_, waiter) = self.line.first_key_value()?;
        Some(waiter.len)
    }

    /// Grants the first in line its room. Returns its waker, to be woken when no lock is held.
    pub(super) fn grant_first(&mut self) -> Option<Waker> {
        let (_, waiter) = self.line.pop_first()?;
        self.reserved += Count::one(waiter.len);
        waiter.waker
    }

    // ---- those who wait for their group's share -----------------------------------------------

    /// Holds back a sender with a frame of `len` bytes, behind the others of its group.
    pub(super) fn hold_back(&mut self, group: GroupId, len: usize) -> Ticket {
        let ticket = self.next_ticket();
        let waiter = Waiter { len, waker: None };
        self.held_back.insert((group, ticket), waiter);
        ticket
    }

    /// Returns the length of the frame of the group's first sender that is held back.
    pub(super) fn first_held_back(&self, group: GroupId) -> Option<usize> {
        let of_group = (group, Ticket(0))..=(group, Ticket(u64::MAX));
        let (_, waiter) = self.held_back.range(of_group).next()?;
        Some(waiter.len)
    }

    /// Puts the group's first sender that is held back into the line.
    pub(super) fn let_on(&mut self, group: GroupId) {
        let of_group = (group, Ticket(0))..=(group, Ticket(u64::MAX));
        let first = self.held_back.range(of_group).next().map(|(key, _)| *key);
        if let Some(key) = first
            && let Some(waiter) = self.held_back.remove(&key)
        {
            self.requested += Count::one(waiter.len);
            self.line.insert(key.1, waiter);
        }
    }

    /// Removes a sender that gives up, if it is held back.
    pub(super) fn leave_held_back(&mut self, group: GroupId, ticket: Ticket) -> Option<Waiter> {
        self.held_back.remove(&(group, ticket))
    }

    // ---- the end, and what can be seen --------------------------------------------------------

    /// Removes all senders from the line and returns their wakers. Called when the queue accepts no more
    /// frames.
    ///
    /// Counts the room of all of them as reserved, so that [`leave`](Waiters::leave) works unchanged.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Waker> {
        let held_back = std::mem::take(&mut self.held_back);
        let of_those = held_back.values().map(|waiter| Count::one(waiter.len));
        self.requested += of_those.sum();
        self.reserved = self.requested;
        let line = std::mem::take(&mut self.line);
        let all = line.into_values().chain(held_back.into_values());
        all.filter_map(|waiter| waiter.waker)
    }

    /// Returns the room that was granted and is not used yet.
    #[inline]
    pub(super) fn reserved(&self) -> Count {
        self.reserved
    }

    /// Returns the room of all waiting senders, granted or not.
    #[inline]
    pub(super) fn requested(&self) -> Count {
        self.requested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new(1);

    fn waiters(lens: &[usize]) -> (Waiters, Vec<Ticket>) {
        let mut waiters = Waiters::default();
        let mut join = |len: &usize| {
            let ticket = waiters.join(*len);
            assert!(waiters.renew(GROUP, ticket, &mut noop()));
            ticket
        };
        let tickets = lens.iter().map(&mut join).collect();
        (waiters, tickets)
    }

    fn noop() -> Option<Waker> {
        Some(Waker::noop().clone())
    }

    #[test]
    fn room_is_granted_in_the_order_of_asking_whatever_the_length() {
        let (mut waiters, tickets) = waiters(&[30, 10, 20]);
        for (ticket, len) in tickets.iter().zip([30, 10, 20]) {
            assert_eq!(waiters.first(), Some(len));
            assert!(waiters.renew(GROUP, *ticket, &mut noop()));
            assert!(waiters.grant_first().is_some());
            assert!(!waiters.renew(GROUP, *ticket, &mut noop()));
        }
        assert_eq!(waiters.first(), None);
        assert!(waiters.grant_first().is_none());
    }

    #[test]
    fn whoever_leaves_gives_back_a_place_in_line_or_a_reservation() {
        let (mut waiters, tickets) = waiters(&[10, 20, 30]);
        waiters.grant_first();
        assert_eq!(waiters.reserved(), Count::new(1, 10));
        assert_eq!(waiters.requested(), Count::new(3, 60));
        assert!(waiters.leave(tickets[1], 20).is_some(), "it was in line");
        assert_eq!(waiters.first(), Some(30));
        assert_eq!(waiters.requested(), Count::new(2, 40));
        assert!(waiters.leave(tickets[0], 10).is_none(), "it was granted");
        assert_eq!(waiters.reserved(), Count::ZERO);
        assert_eq!(waiters.requested(), Count::new(1, 30));
    }

    #[test]
    fn who_is_held_back_needs_no_room_and_has_the_place_of_its_ticket_when_it_is_let_on() {
        const OTHER: GroupId = GroupId::new(2);
        let mut waiters = Waiters::default();
        let first = waiters.hold_back(GROUP, 10);
        waiters.hold_back(OTHER, 20);
        waiters.hold_back(GROUP, 30);
        let last = waiters.join(40);
        assert_eq!(
            (waiters.requested(), waiters.first()),
            (Count::one(40), Some(40))
        );
        assert!(waiters.renew(GROUP, first, &mut noop()));
        assert_eq!(waiters.first_held_back(GROUP), Some(10));
        waiters.let_on(GROUP);
        assert_eq!(waiters.first(), Some(10), "it asked before the other");
        assert!(waiters.renew(GROUP, first, &mut noop()));
        assert_eq!(waiters.first_held_back(GROUP), Some(30));
        assert_eq!(waiters.first_held_back(OTHER), Some(20));
        assert_eq!(waiters.requested(), Count::new(2, 50));
        assert!(waiters.grant_first().is_some());
        assert!(
            waiters.leave_held_back(GROUP, last).is_none(),
            "it is in line"
        );
    }

    #[test]
    fn after_the_end_everybody_can_leave_and_nothing_stays_reserved() {
        let (mut waiters, mut tickets) = waiters(&[10, 20]);
        waiters.grant_first();
        tickets.push(waiters.hold_back(GROUP, 30));
        assert!(waiters.renew(GROUP, tickets[2], &mut noop()));
        assert_eq!(waiters.end().count(), 2, "the other was woken before");
        assert_eq!(waiters.first(), None);
        for (ticket, len) in tickets.into_iter().zip([10, 20, 30]) {
            assert!(waiters.leave(ticket, len).is_none());
        }
        assert_eq!(waiters.reserved(), Count::ZERO);
        assert_eq!(waiters.requested(), Count::ZERO);
    }
}
