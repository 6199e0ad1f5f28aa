//! The frames of one group out of one read, on their way to the group's actor.
//!
//! Owns the message that the actor gets. The payloads are slices of the buffer they were read into,
//! cut when the actor asks for them; what becomes of them is counted by the `accounts`.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use actix::Message;
use bytes::Bytes;

use crate::{
    ids::GroupId,
    observe::receive_accounts::Delivery,
    wire::count::Count,
    wire::frame::{self, HEADER},
};

/// What frames came by.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Via {
    /// A connection: in order, none doubled, none missing before the connection's end.
    Tcp,
    /// Datagrams: in no order, and possibly doubled by the network.
    Udp,
}

/// One or more payloads for one group, from one sender, in the order of their arrival.
///
/// It is an iterator over the payloads:
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::Inbound;
///
/// struct Replica;
///
/// impl Actor for Replica {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Inbound> for Replica {
///     type Result = ();
///
///     fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
///         for payload in inbound {
///             println!("{} bytes", payload.len());
///         }
///     }
/// }
/// ```
///
/// # What counts as delivered
///
/// A frame counts as delivered when the actor has taken its payload, or has dropped the `Inbound`
/// after it took at least one. A batch dropped untouched was not delivered
/// ([`DropReason::ActorGone`](crate::DropReason::ActorGone)): that is what happens to what lies in the mailbox of an actor that
/// ends. Of a batch whose handler panics, the payloads taken count as delivered, the others do not.
///
/// # Back-pressure and memory
///
/// The connection the frames came on is read again once the handler has returned (its future
/// resolved, where it returns one), unless the group was registered with
/// [`GroupOverflow::Drop`](crate::GroupOverflow::Drop). A payload keeps the buffer that it was read
/// into for as long as it lives, which is as long as 1 MiB or the longest frame that came lately on
/// that connection: who keeps a small one for long does well to copy it.
#[derive(Debug)]
pub struct Inbound {
    group: GroupId,
    from: SocketAddr,
    via: Via,
    frames: Frames,
    delivery: Delivery,
}

impl Message for Inbound {
    type Result = ();
}

/// Frames of one group that lie behind one another in the buffer.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Run {
    start: u32,
    end: u32,
    /// The group's next run, by its place among all runs; `LAST` if there is none.
    next: u32,
}

const LAST: u32 = u32::MAX;

impl Run {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Run {
            start: to_offset(start),
            end: to_offset(end),
            next: LAST,
        }
    }

    pub(crate) fn set_next(&mut self, next: u32) {
        self.next = next;
    }
}

/// Buffers are shorter than 2³²: two frames at most, and the frame limit is 2³⁰.
fn to_offset(at: usize) -> u32 {
    u32::try_from(at).expect("buffers are shorter than 4 GiB")
}

/// Where the frames are: in runs, others' frames between them.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    buffer: Bytes,
    /// The run that is being taken, from its first frame not taken
    at: usize,
    /// to its end.
    end: usize,
    /// The run behind it.
    next: u32,
    /// All runs of the read but the first of each group; none if this one has no other.
    runs: Option<Arc<Vec<Run>>>,
}

impl Frames {
    pub(crate) fn new(buffer: Bytes, first: Run, runs: Option<&Arc<Vec<Run>>>) -> Self {
        Frames {
            buffer,
            at: first.start as usize,
            end: first.end as usize,
            next: first.next,
            runs: runs.filter(|_| first.next != LAST).cloned(),
        }
    }

    /// Says how many of the frames, which are so many, have room together; the first of them do.
    pub(crate) fn fitting(&self, all: Count, room: usize) -> Count {
        if all.bytes <= room as u64 {
            return all;
        }
        let mut fitting = Count::ZERO;
        let mut rest = self.clone();
        while let Some(frame) = rest.take()
            && fitting.bytes as usize + frame.len() <= room
        {
            fitting += Count::one(frame.len());
        }
        fitting
    }

    /// Gives the first frames, of so many bytes, a buffer of their own, without the others'.
    pub(crate) fn copied(mut self, bytes: usize) -> Self {
        let mut own = Vec::with_capacity(bytes);
        loop {
            let run = &self.buffer[self.at..self.end];
            own.extend_from_slice(&run[..run.len().min(bytes - own.len())]);
            if own.len() == bytes || !self.turn() {
                break;
            }
        }
        Frames {
            at: 0,
            end: own.len(),
            buffer: own.into(),
            next: LAST,
            runs: None,
        }
    }

    /// Goes on to the next run, if there is one.
    fn turn(&mut self) -> bool {
        let next = self.next as usize;
        let Some(&run) = self.runs.as_ref().and_then(|runs| runs.get(next)) else {
            return false;
        };
        (self.at, self.end) = (run.start as usize, run.end as usize);
        self.next = run.next;
        true
    }

    /// Takes the next frame; says where it is.
    #[inline]
    fn take(&mut self) -> Option<Range<usize>> {
        if self.at == self.end && !self.turn() {
            return None;
        }
        let frame = self.at..self.at + frame::len_at(&self.buffer, self.at);
        self.at = frame.end;
        Some(frame)
    }
}

impl Inbound {
    pub(crate) fn new(
        group: GroupId,
        from: SocketAddr,
        via: Via,
        frames: Frames,
        delivery: Delivery,
    ) -> Self {
        Inbound {
            group,
            from,
            via,
            frames,
            delivery,
        }
    }

    /// Returns the group that the frames are for.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Returns the address that the frames came from. Of a connection this is the port that the
    /// sender dialled from, not the one it listens on.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// Returns what the frames came by.
    pub fn via(&self) -> Via {
        self.via
    }

    /// Takes the next payload without a share in its buffer: the cheapest way to look at many small
    /// ones. Counts as taking it, like [`next`](Iterator::next).
    #[inline]
    pub fn next_slice(&mut self) -> Option<&[u8]> {
        let frame = self.frames.take()?;
        self.delivery.take(frame.len());
        Some(&self.frames.buffer[frame.start + HEADER..frame.end])
    }

    /// Returns the number and size of the frames that have not been taken yet.
    pub fn remaining(&self) -> Count {
        self.delivery.left()
    }
}

impl Iterator for Inbound {
    type Item = Bytes;

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        let frame = self.frames.take()?;
        self.delivery.take(frame.len());
        Some(self.frames.buffer.slice(frame.start + HEADER..frame.end))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.delivery.left().frames as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Inbound {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::receive_accounts::ReceiveAccounts, observe::stats::ReceiveStats};

    fn inbound(accounts: &ReceiveAccounts, payloads: &[&[u8]]) -> Inbound {
        let group = GroupId::new(3);
        let mut buffer = Vec::new();
        for payload in payloads {
            buffer.extend_from_slice(&frame::header(group, payload.len()));
            buffer.extend_from_slice(payload);
        }
        let delivery = accounts.receive(Count::new(payloads.len(), buffer.len()));
        let from = ([127, 0, 0, 1], 1).into();
        let all = Run::new(0, buffer.len());
        let frames = Frames::new(buffer.into(), all, None);
        Inbound::new(group, from, Via::Tcp, frames, delivery)
    }

    fn balanced(accounts: &ReceiveAccounts) -> ReceiveStats {
        let inbound = accounts.stats();
        let stats = crate::Stats {
            inbound,
            ..Default::default()
        };
        stats.balance().expect("every frame in one place");
        inbound
    }

    #[test]
    fn payloads_are_slices_of_the_buffer_they_came_in() {
        let accounts = ReceiveAccounts::default();
        let inbound = inbound(&accounts, &[b"a", b"", b"ccc"]);
        let range = inbound.frames.buffer.as_ptr_range();
        assert_eq!(inbound.len(), 3);
        let payloads: Vec<_> = inbound.collect();
        assert_eq!(payloads, [&b"a"[..], b"", b"ccc"]);
        assert!(range.contains(&payloads[2].as_ptr()), "not copied");
        assert_eq!(balanced(&accounts).delivered.frames, 3);
    }

    #[test]
    fn a_batch_dropped_untouched_was_not_delivered_but_one_dropped_midway_was() {
        let accounts = ReceiveAccounts::default();
        drop(inbound(&accounts, &[b"a", b"b"]));
        assert_eq!(balanced(&accounts).dropped.actor_gone.frames, 2);
        let mut midway = inbound(&accounts, &[b"a", b"b"]);
        midway.next();
        assert_eq!(balanced(&accounts).in_delivery.frames, 2);
        drop(midway);
        assert_eq!(balanced(&accounts).delivered.frames, 2);
    }

    #[test]
    fn of_a_batch_whose_handler_panics_what_was_taken_was_delivered() {
        let accounts = ReceiveAccounts::default();
        let mut batch = inbound(&accounts, &[b"a", b"b", b"c"]);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            batch.next();
            panic!("a test's own");
        }));
        assert!(panic.is_err());
        let stats = balanced(&accounts);
        assert_eq!(
            (stats.delivered.frames, stats.dropped.actor_gone.frames),
            (1, 2)
        );
    }
}
