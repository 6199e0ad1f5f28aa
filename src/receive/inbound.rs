//! [`Inbound`], the message that a group's actor receives: frames that were received together, mostly of one group.
//!
//! Owns the public types for received frames. Leaves the position of the frames in their buffer to
//! `group_frames`, and their counters to `receive_accounts`.

use std::{fmt, sync::Arc};

use actix::Message;
use bytes::Bytes;

use crate::{
    ids::GroupId,
    lane::Lane,
    observe::delivery::Delivery,
    receive::{
        charge::Charge, group_frames::GroupFrames, origin::Origin, read_buffer::MAX_SHARED,
        sender::Sender,
    },
    session::inbound_stream::Gap,
    wire::{
        count::Count,
        frame::{HEADER, PREFIX},
    },
};

/// How frames arrived.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Via {
    /// Over a connection: in order and without duplicates.
    Tcp,
    /// As datagrams: in any order. The network may have lost or duplicated some.
    Udp,
}

/// One or more payloads for one group, from one sender, in the order of their arrival. (Only an actor that asks for it
/// gets the frames of several groups in one: [`Transport::catch_all_in_order`](crate::Transport::catch_all_in_order).)
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
/// All frames count as delivered when the handler drops the `Inbound`, whether or not it took the
/// payloads, if it has looked at it: called any of its methods, or printed it. If nobody looked at the
/// `Inbound`, all its frames count as dropped ([`DropReason::ActorGone`](crate::DropReason::ActorGone)):
/// that is how batches in the mailbox of an actor that ended are told from batches that a handler had. A
/// handler that ignores its message altogether is therefore counted as if it had not been there. If a
/// handler panics, only the payloads that it had taken count as delivered.
///
/// # Back-pressure and memory
///
/// The transport reads the connection again once the handler has returned (or, if it returns a future,
/// once that has resolved) for all batches of the read, not for each frame. An `Inbound` has at most
/// [`Config::batch_frames`](crate::Config::batch_frames) frames; see
/// [`GroupOverflow::Wait`](crate::GroupOverflow::Wait) for handlers that take long. The transport does
/// not wait for groups that were registered with [`GroupOverflow::Drop`](crate::GroupOverflow::Drop).
///
/// A payload shares the buffer that it was read into, and keeps the whole buffer in memory for as long
/// as the payload lives. For a payload of up to 512 KiB that can be 1 MiB. A longer one has a buffer of
/// its own, which is at most a quarter and 32 KiB longer than the frame. To keep a small payload for a
/// long time, take it with [`next_copied`](Inbound::next_copied).
pub struct Inbound {
    via: Via,
    frames: GroupFrames,
    delivery: Delivery,
    /// Who sent them. `None` if the sender did not introduce itself.
    sender: Option<Arc<Sender>>,
    gap: Option<Gap>,
    /// The frames' share of the group's bound, freed on drop. `None` if the group has no bound.
    _charge: Option<Charge>,
}

/// How the frames of an [`Inbound`] arrived, and from whom.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Arrival<'s> {
    pub(crate) via: Via,
    pub(crate) sender: Option<&'s Arc<Sender>>,
    /// Whether frames are missing before these.
    pub(crate) gap: Option<Gap>,
}

impl Message for Inbound {
    type Result = ();
}

impl Inbound {
    pub(crate) fn new(
        Arrival { via, sender, gap }: Arrival<'_>,
        frames: GroupFrames,
        delivery: Delivery,
        charge: Option<Charge>,
    ) -> Self {
        Inbound {
            via,
            frames,
            delivery,
            sender: sender.cloned(),
            gap,
            _charge: charge,
        }
    }

    /// Returns the group that the frames are for. Where a batch has frames of several groups
    /// ([`Transport::catch_all_in_order`](crate::Transport::catch_all_in_order)), it is that of the next frame, and of
    /// the last one when all are taken: take those with [`next_frame`](Inbound::next_frame).
    pub fn group(&self) -> GroupId {
        self.delivery.see();
        self.frames.group()
    }

    /// Returns where the frames came from. That is no address to send to: an answer goes to the
    /// [`sender`](Inbound::sender).
    pub fn from(&self) -> Origin {
        Origin::new(self.delivery.see().from())
    }

    /// Returns the node that sent the frames, to know it and to answer it. `None` if it did not introduce
    /// itself ([`Sessions`](crate::Sessions)), and for datagrams. All batches of a connection have the same.
    ///
    /// ```
    /// # use actix_transport::{GroupId, Inbound};
    /// fn answer(inbound: &Inbound) -> Result<(), Box<dyn std::error::Error>> {
    ///     if let Some(sender) = inbound.sender() {
    ///         println!("from node {}", sender.node());
    ///         sender.peer()?.try_send(inbound.group(), "thanks")?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn sender(&self) -> Option<&Sender> {
        self.delivery.see();
        self.sender.as_deref()
    }

    /// Returns whether frames may be missing before these: `None` if the sender's frames have all come since
    /// the last batch for this group. Also `None` if the sender does not number its frames: it did not
    /// introduce itself ([`Sessions`](crate::Sessions)), or its release is too old. Datagrams are not
    /// numbered.
    ///
    /// A state machine that needs every message asks its peer for what it has missed when this is not `None`.
    /// Of the groups that come in order ([`Transport::catch_all_in_order`](crate::Transport::catch_all_in_order)), it is
    /// said once for all: then frames for any of them may be missing.
    ///
    /// Frames that this node itself dropped are not in it: see
    /// [`PeerEvent::Dropped`](crate::PeerEvent::Dropped). A gap may be told to a group twice if the sender
    /// has sent to more than 16,384 groups.
    pub fn gap(&self) -> Option<Gap> {
        self.delivery.see();
        self.gap
    }

    /// Returns the lane that they were sent on. [`Lane::NORMAL`] if the sender did not introduce itself, and for
    /// datagrams.
    pub fn lane(&self) -> Lane {
        self.sender().map_or(Lane::NORMAL, Sender::lane)
    }

    /// Returns how the frames arrived.
    pub fn via(&self) -> Via {
        self.delivery.see();
        self.via
    }

    /// Takes the next payload as a slice, without a handle to its buffer. This is the cheapest way to read
    /// many small payloads. The payload counts as taken, as with [`next`](Iterator::next).
    #[inline]
    pub fn next_slice(&mut self) -> Option<&[u8]> {
        let payload = self.frames.next_slice()?;
        self.delivery.take(HEADER + payload.len());
        Some(payload)
    }

    /// Takes the next frame's group, as four bytes in little-endian order, and its payload behind it, in one
    /// slice: a message in the form that PhxPaxos has it in. Copies nothing. The payload counts as taken, as with
    /// [`next`](Iterator::next).
    #[inline]
    pub fn next_with_group(&mut self) -> Option<&[u8]> {
        let message = self.frames.next_with_group()?;
        self.delivery.take(PREFIX + message.len());
        Some(message)
    }

    /// Takes the next payload, and the group that it is for. The payload counts as taken, as with
    /// [`next`](Iterator::next).
    pub fn next_frame(&mut self) -> Option<(GroupId, Bytes)> {
        let group = self.frames.group();
        Some((group, self.next()?))
    }

    /// Takes the next payload so that it does not keep the shared read buffer in memory; for payloads that
    /// are kept for long. A payload of up to 512 KiB is copied; a longer one has a buffer of its own
    /// already. The payload counts as taken, as with [`next`](Iterator::next).
    pub fn next_copied(&mut self) -> Option<Bytes> {
        let payload = self.next()?;
        match HEADER + payload.len() > MAX_SHARED {
            true => Some(payload),
            false => Some(Bytes::copy_from_slice(&payload)),
        }
    }

    /// Returns the number and size of the frames that have not been taken yet.
    pub fn remaining(&self) -> Count {
        self.delivery.see().left()
    }
}

impl Iterator for Inbound {
    type Item = Bytes;

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        let payload = self.frames.next()?;
        self.delivery.take(HEADER + payload.len());
        Some(payload)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.remaining().frames as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Inbound {}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("from", &format_args!("{}", self.from()))
            .field("via", &self.via)
            .field("group", &self.group())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::{
        observe::{
            group_account::GroupAccount, intake::Intake, receive_accounts::ReceiveAccounts,
            stats::ReceiveStats,
        },
        receive::grouping::{Grouping, RoundLimits},
        wire::frame,
    };

    fn inbound(accounts: &ReceiveAccounts, payloads: &[&[u8]]) -> Inbound {
        let mut buffer = BytesMut::new();
        for payload in payloads {
            buffer.extend_from_slice(&frame::header(GroupId::new(3), payload.len()));
            buffer.extend_from_slice(payload);
        }
        let mut grouping = Grouping::default();
        let (mut groups, _) = grouping.round(&mut buffer, RoundLimits::frames_of(64), |_| false);
        let mut intake = Intake::new(accounts, ([127, 0, 0, 1], 1).into());
        intake.receive(groups.total());
        let frames = groups.next().expect("one group");
        let account = GroupAccount::default();
        let delivery = intake.deliver(frames.group_of_all(), &account, frames.total());
        let via = Arrival {
            via: Via::Tcp,
            sender: None,
            gap: None,
        };
        Inbound::new(via, frames, delivery, None)
    }

    /// Checks that every frame is counted in exactly one place.
    fn balanced(accounts: &ReceiveAccounts) -> ReceiveStats {
        let inbound = accounts.stats();
        let stats = crate::Stats {
            inbound,
            ..Default::default()
        };
        stats.balance().expect("every frame is in one place");
        inbound
    }

    #[test]
    fn payloads_come_in_order_and_count_as_delivered() {
        let accounts = ReceiveAccounts::default();
        let inbound = inbound(&accounts, &[b"a", b"", b"ccc"]);
        assert_eq!(inbound.len(), 3);
        let payloads: Vec<_> = inbound.collect();
        assert_eq!(payloads, [&b"a"[..], b"", b"ccc"]);
        assert_eq!(balanced(&accounts).delivered.frames, 3);
    }

    #[test]
    fn a_copied_payload_shares_no_memory_and_counts_as_taken() {
        let accounts = ReceiveAccounts::default();
        let mut batch = inbound(&accounts, &[b"a", b"b"]);
        let copied = batch.next_copied().expect("two");
        let shared = batch.next().expect("one");
        assert_eq!((&copied[..], &shared[..]), (&b"a"[..], &b"b"[..]));
        // The second payload is 9 bytes behind the first in the buffer.
        assert_ne!(copied.as_ptr().wrapping_add(9), shared.as_ptr());
        assert!(copied.is_unique() && batch.next_copied().is_none());
        drop(batch);
        assert_eq!(balanced(&accounts).delivered.frames, 2);
    }

    #[test]
    fn a_message_with_its_group_is_one_slice_and_counts_as_taken() {
        let accounts = ReceiveAccounts::default();
        let mut batch = inbound(&accounts, &[b"a", b"", b"ccc"]);
        assert_eq!(batch.next_with_group(), Some(&b"\x03\0\0\0a"[..]));
        assert_eq!(batch.next_with_group(), Some(&b"\x03\0\0\0"[..]));
        assert_eq!(batch.remaining(), Count::one(11));
        assert_eq!(batch.next_with_group(), Some(&b"\x03\0\0\0ccc"[..]));
        assert_eq!(batch.next_with_group(), None);
        drop(batch);
        assert_eq!(balanced(&accounts).delivered.frames, 3);
    }

    #[test]
    fn a_batch_dropped_untouched_counts_as_not_delivered() {
        let accounts = ReceiveAccounts::default();
        drop(inbound(&accounts, &[b"a", b"b"]));
        assert_eq!(balanced(&accounts).dropped.actor_gone.frames, 2);
    }

    #[test]
    fn any_look_at_a_batch_makes_it_count_as_delivered() {
        let looks: [fn(&Inbound); 8] = [
            |batch| assert!(batch.gap().is_none()),
            |batch| assert!(batch.sender().is_none()),
            |batch| assert_eq!(batch.len(), 2),
            |batch| assert_eq!(batch.remaining().frames, 2),
            |batch| assert_eq!(batch.group(), GroupId::new(3)),
            |batch| assert_eq!(batch.from().port(), 1),
            |batch| assert_eq!(batch.via(), Via::Tcp),
            |batch| assert!(format!("{batch:?}").contains("127.0.0.1:1")),
        ];
        for look in looks {
            let accounts = ReceiveAccounts::default();
            let batch = inbound(&accounts, &[b"a", b"b"]);
            look(&batch);
            drop(batch);
            assert_eq!(balanced(&accounts).delivered.frames, 2);
        }
    }

    #[test]
    fn a_batch_dropped_after_its_first_payload_counts_as_delivered() {
        let accounts = ReceiveAccounts::default();
        let mut batch = inbound(&accounts, &[b"a", b"b"]);
        batch.next();
        assert_eq!(batch.remaining(), Count::one(9));
        assert_eq!(balanced(&accounts).in_delivery.frames, 2);
        drop(batch);
        assert_eq!(balanced(&accounts).delivered.frames, 2);
    }

    #[test]
    fn if_a_handler_panics_only_the_payloads_it_took_count_as_delivered() {
        let accounts = ReceiveAccounts::default();
        let mut batch = inbound(&accounts, &[b"a", b"b", b"c"]);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            batch.next_slice();
            panic!("caused by this test");
        }));
        assert!(panic.is_err());
        let stats = balanced(&accounts);
        assert_eq!(stats.delivered.frames, 1);
        assert_eq!(stats.dropped.actor_gone.frames, 2);
    }
}
