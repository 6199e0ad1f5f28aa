//! Delivers what one connection, or the UDP socket, has received to the actors of the groups.
//!
//! This is where back-pressure comes from: for groups with [`GroupOverflow::Wait`], the frames of one round
//! are delivered only when the actors have handled those of the round before. Frames that cannot be
//! delivered are counted, with the reason. Grouping frames is left to `grouping`, the table of actors to
//! `groups`, and reading to `connection` and `datagrams`.

use std::{fmt, net::SocketAddr, pin::Pin};

use actix::dev::RecipientRequest;
use bytes::BytesMut;
use futures::FutureExt;

use crate::{
    observe::receive_accounts::{Delivery, NotDelivered, ReceiveAccounts},
    receive::grouping::{GroupFrames, Grouping, Round},
    receive::groups::{Group, GroupOverflow, GroupTable, Groups},
    receive::inbound::{Inbound, Via},
    wire::count::Count,
    wire::frame::{self, Malformed},
};

/// What a batch in a mailbox costs beside its frames. Charged to groups that have a bound.
const BATCH_OVERHEAD: usize = 256;

/// Delivers the frames of one connection, or of one UDP socket.
#[derive(Debug)]
pub(crate) struct Deliverer {
    groups: Groups,
    accounts: ReceiveAccounts,
    max_frame: usize,
    via: Via,
    grouping: Grouping,
    unhandled: Unhandled,
}

impl Deliverer {
    pub(crate) fn new(
        groups: Groups,
        accounts: ReceiveAccounts,
        max_frame: usize,
        via: Via,
    ) -> Self {
        Deliverer {
            groups,
            accounts,
            max_frame,
            via,
            grouping: Grouping::default(),
            unhandled: Unhandled::default(),
        }
    }

    /// Delivers all whole frames at the front of `buffer`, after the frames delivered before have been
    /// handled. Leaves the beginning of a frame in the buffer.
    ///
    /// May return before the actors have handled the last frames; see
    /// [`wait_until_handled`](Deliverer::wait_until_handled).
    pub(crate) async fn deliver(
        &mut self,
        from: SocketAddr,
        buffer: &mut BytesMut,
    ) -> Result<(), Malformed> {
        let undelivered = CountUndelivered {
            accounts: &self.accounts,
            max_frame: self.max_frame,
            buffer,
        };
        loop {
            self.unhandled.wait().await;
            let table = self.groups.snapshot();
            let mut hand_over = HandOver {
                accounts: &self.accounts,
                from,
                via: self.via,
                unhandled: &mut self.unhandled,
            };
            let round = self
                .grouping
                .round(undelivered.buffer, self.max_frame, |frames| {
                    hand_over.group(&table, frames);
                });
            if round? == Round::Complete {
                return Ok(());
            }
        }
    }

    /// Waits until the actors have handled all delivered frames, except those of groups with
    /// [`GroupOverflow::Drop`].
    ///
    /// Call this as late as possible: by then the handlers have usually finished, and no task needs to be
    /// woken.
    pub(crate) async fn wait_until_handled(&mut self) {
        self.unhandled.wait().await;
    }

    /// Returns whether all frames that must be waited for are known to have been handled.
    pub(crate) fn is_handled(&self) -> bool {
        self.unhandled.0.is_empty()
    }

    /// Returns about how much memory the delivered batches take that may still be in mailboxes, beside
    /// their frames: each has a message, a request and an answer.
    pub(crate) fn overhead(&self) -> usize {
        const OF_EACH: usize = 1 << 10;

        self.unhandled.0.len() * OF_EACH
    }

    /// Gives back the memory that is kept for speed.
    pub(crate) fn release_memory(&mut self) {
        self.grouping = Grouping::default();
    }
}

/// The delivered messages that are not known to have been handled.
///
/// They must be awaited to their end: actix skips a message in a mailbox if nobody awaits the answer any
/// more.
#[derive(Default)]
struct Unhandled(Vec<Pin<Box<RecipientRequest<Inbound>>>>);

impl Unhandled {
    async fn wait(&mut self) {
        while let Some(request) = self.0.last_mut() {
            // An error says that the actor ended. The frames of a batch are counted when the batch
            // is dropped, so there is nothing to do for it here.
            let _ = request.await;
            self.0.pop();
        }
    }
}

impl fmt::Debug for Unhandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unhandled").field(&self.0.len()).finish()
    }
}

/// Hands over the groups of one round.
struct HandOver<'d> {
    accounts: &'d ReceiveAccounts,
    from: SocketAddr,
    via: Via,
    unhandled: &'d mut Unhandled,
}

impl HandOver<'_> {
    /// Puts the frames of one group into the mailbox of the actor that serves it.
    fn group(&mut self, table: &GroupTable, frames: GroupFrames) {
        let delivery = self.accounts.receive(frames.total());
        let Some(group) = table.serving(frames.group()) else {
            return delivery.discard(NotDelivered::NoGroup);
        };
        if !group.actor.connected() {
            return delivery.discard(NotDelivered::ActorGone);
        }
        match group.overflow {
            GroupOverflow::Wait => self.serve_waiting(group, frames, delivery),
            GroupOverflow::Drop { max_bytes } => {
                self.serve_bounded(group, max_bytes, frames, delivery);
            }
        }
    }

    /// Hands over frames that the connection waits for.
    fn serve_waiting(&mut self, group: &Group, frames: GroupFrames, delivery: Delivery) {
        let inbound = Inbound::new(self.from, self.via, frames, delivery, None);
        let mut request = Box::pin(group.actor.send(inbound));
        // The first poll puts the batch into the mailbox, even into a full one.
        if request.as_mut().now_or_never().is_none() {
            self.unhandled.0.push(request);
        }
    }

    /// Hands over as many of the frames as the group has room for. Drops the others.
    fn serve_bounded(
        &mut self,
        group: &Group,
        max_bytes: usize,
        frames: GroupFrames,
        mut delivery: Delivery,
    ) {
        let mut fitting = Count::ZERO;
        let charge = group.held.charge(max_bytes, |room| {
            fitting = frames.fitting(room.saturating_sub(BATCH_OVERHEAD));
            match fitting.frames {
                0 => 0,
                _ => fitting.bytes as usize + BATCH_OVERHEAD,
            }
        });
        let mut beyond = frames.total();
        beyond -= fitting;
        if !beyond.is_zero() {
            delivery.split_off(beyond).discard(NotDelivered::Overflow);
        }
        if fitting.is_zero() {
            return;
        }
        // The copy makes a slow group hold the bytes that it is charged for, and not all that was
        // read together with them.
        let frames = frames.copied(fitting);
        let inbound = Inbound::new(self.from, self.via, frames, delivery, Some(charge));
        // The mailbox does not bound this, the charge does. If the mailbox has just closed, it drops
        // the batch, which counts it.
        group.actor.do_send(inbound);
    }
}

/// Counts the whole frames that are still in the buffer when this is dropped: nobody will deliver
/// them, because their connection or the transport ended in the middle of a delivery.
struct CountUndelivered<'b> {
    accounts: &'b ReceiveAccounts,
    max_frame: usize,
    buffer: &'b mut BytesMut,
}

impl Drop for CountUndelivered<'_> {
    fn drop(&mut self) {
        let whole = frame::whole(self.buffer, self.max_frame);
        if !whole.is_zero() {
            // A delivery that is dropped untouched counts its frames as not delivered.
            drop(self.accounts.receive(whole));
        }
    }
}
