//! Delivers what one connection, or the UDP socket, has received to the actors of the groups.
//!
//! This is where back-pressure comes from: for groups with [`GroupOverflow::Wait`], the frames of one round
//! are delivered only when the actors have handled those of the round before. Datagrams wait for no
//! handler; instead, each group has a bound in bytes. Frames that cannot be delivered are counted, with the
//! reason. Grouping frames is left to `grouping`, the table of actors to `groups`, and reading to
//! `connection` and `datagrams`.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use actix::dev::RecipientRequest;
use bytes::{Buf, BytesMut};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::{
    ids::GroupId,
    observe::{
        intake::Intake,
        receive_accounts::{NotDelivered, ReceiveAccounts},
    },
    receive::context::ReceiveContext,
    receive::group_frames::GroupFrames,
    receive::grouping::{Grouping, Round, RoundGroups, RoundLimits},
    receive::groups::{Group, GroupOverflow, GroupTable, Groups},
    receive::inbound::{Arrival, Inbound, Via},
    receive::sender::Sender,
    session::inbound_stream::Turn,
    wire::control::{BadControl, Control, Front},
    wire::count::Count,
    wire::frame::{self, Malformed},
    wire::part::is_part,
    wire::{call::is_call, is_own},
};

/// What a batch in a mailbox costs beside its frames. Charged to groups that have a bound.
const BATCH_OVERHEAD: usize = 256;

/// The most groups that are handed over before other tasks get their turn. Handing over to one group
/// takes one to two microseconds, so this is less than half a millisecond.
const GROUPS_PER_TURN: usize = 256;

/// Delivers the frames of one connection, or of one UDP socket.
#[derive(Debug)]
pub(crate) struct Deliverer {
    groups: Groups,
    accounts: ReceiveAccounts,
    limits: RoundLimits,
    via: Via,
    /// The bytes that a group with [`GroupOverflow::Wait`] may hold, where nothing waits for it. `None`
    /// where it is waited for.
    wait_bytes: Option<usize>,
    /// Who sends the frames. `None` if it did not introduce itself.
    sender: Option<Arc<Sender>>,
    /// Knows which frames are missing. `None` if the sender does not number its frames.
    turn: Option<Turn>,
    grouping: Grouping,
    unhandled: Unhandled,
    /// Whether what is delivered shares its memory with nothing else.
    owns_buffer: bool,
}

impl Deliverer {
    pub(crate) fn new(context: &ReceiveContext, via: Via) -> Self {
        Deliverer {
            groups: context.groups.clone(),
            accounts: context.accounts.clone(),
            limits: RoundLimits {
                max_frame: context.config.max_frame,
                max_frames: context.config.batch_frames,
                control: context.sessions.is_some() && via == Via::Tcp,
            },
            via,
            wait_bytes: None,
            sender: None,
            turn: None,
            grouping: Grouping::default(),
            unhandled: Unhandled::default(),
            owns_buffer: false,
        }
    }

    /// Makes it never wait for a handler: a group with [`GroupOverflow::Wait`] may hold `max_bytes`, and
    /// what does not fit is dropped and counted.
    pub(crate) fn without_waiting(self, max_bytes: usize) -> Self {
        Deliverer {
            wait_bytes: Some(max_bytes),
            ..self
        }
    }

    /// Notes who sends the frames that come from now on, and what tells that a later incarnation of it has
    /// come. What is being delivered then may be dropped, which counts it.
    pub(super) fn introduced(&mut self, sender: Arc<Sender>, superseded: CancellationToken) {
        self.sender = Some(sender);
        self.accounts = self.accounts.until_superseded(superseded);
    }

    /// Notes that the frames that come from now on are numbered.
    pub(super) fn begin_stream(&mut self, turn: Turn) {
        self.accounts = self.accounts.numbered(turn.received());
        self.turn = Some(turn);
    }

    /// Notes that a part of a message or a call came, which has a number as frames have.
    pub(super) fn receive_part(&self) {
        self.accounts.receive_part();
    }

    /// Returns who sends the frames. `None` if it did not introduce itself.
    pub(super) fn sender(&self) -> Option<&Arc<Sender>> {
        self.sender.as_ref()
    }

    /// Returns the turn of this connection. `None` if the sender does not number its frames.
    pub(super) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// Delivers the whole frames at the front of `buffer`, after the frames delivered before have
    /// been handled. Leaves the beginning of a frame in the buffer. Other tasks get their turn in
    /// between, if there are many frames or groups. Stops behind a control frame, for the caller to act
    /// on, or behind a part of a message or a call; there may be more frames then. Control frames are no frames for the
    /// counters.
    ///
    /// May return before the actors have handled the last frames; see
    /// [`wait_until_handled`](Deliverer::wait_until_handled).
    pub(crate) async fn deliver(
        &mut self,
        from: SocketAddr,
        buffer: &mut BytesMut,
    ) -> Result<Delivered, Undeliverable> {
        self.deliver_within(self.limits, from, buffer).await
    }

    /// Delivers a message that came in parts, in the form of one frame.
    pub(super) async fn deliver_message(
        &mut self,
        from: SocketAddr,
        message: &mut BytesMut,
    ) -> Result<Delivered, Undeliverable> {
        let limits = RoundLimits {
            max_frame: message.len(),
            control: false,
            ..self.limits
        };
        self.owns_buffer = true;
        let delivered = self.deliver_within(limits, from, message).await;
        self.owns_buffer = false;
        delivered
    }

    async fn deliver_within(
        &mut self,
        limits: RoundLimits,
        from: SocketAddr,
        buffer: &mut BytesMut,
    ) -> Result<Delivered, Undeliverable> {
        let mut undelivered = CountUndelivered {
            accounts: &self.accounts,
            limits,
            from,
            buffer,
            will_be_delivered: false,
        };
        let mut intake = Intake::new(&self.accounts, from);
        loop {
            if !self.unhandled.waiting.is_empty() {
                // This may take long, so subscribers are told now.
                intake.tell();
                self.unhandled.wait().await;
            }
            let table = self.groups.snapshot();
            let rest = table.rest().cloned();
            let is_rest = |group| table.is_of_the_rest(group);
            let (mut groups, round) = self.grouping.round(undelivered.buffer, limits, is_rest);
            drop(table);
            intake.receive(groups.total());
            let mut hand_over = HandOver {
                intake: &mut intake,
                via: Arrival {
                    via: self.via,
                    sender: self.sender.as_ref(),
                    gap: None,
                },
                wait_bytes: self.wait_bytes,
                owns_buffer: self.owns_buffer,
                turn: self.turn.as_ref(),
                rest: rest.as_deref(),
                unhandled: &mut self.unhandled,
            };
            while hand_over.some(&self.groups.snapshot(), &mut groups) == More::Groups {
                tokio::task::yield_now().await;
            }
            intake.book();
            match round.map_err(Undeliverable::Malformed)? {
                Round::Bounded => {}
                Round::Complete => return Ok(Delivered::All),
                Round::Control if is_part(undelivered.buffer) => {
                    undelivered.will_be_delivered = true;
                    let len = frame::len_at(undelivered.buffer, 0);
                    return Ok(Delivered::UpToPart(undelivered.buffer.split_to(len)));
                }
                Round::Control if is_call(undelivered.buffer) => {
                    undelivered.will_be_delivered = true;
                    return Ok(Delivered::UpToCall);
                }
                Round::Control => {
                    let control = take_control(undelivered.buffer);
                    let control = control.map_err(Undeliverable::Control)?;
                    undelivered.will_be_delivered = true;
                    return Ok(Delivered::UpTo(control));
                }
            }
            tokio::task::yield_now().await;
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

    /// Notes what has been handled by now. Returns whether that is everything.
    pub(crate) fn settle_now(&mut self) -> bool {
        self.unhandled.wait().now_or_never().is_some()
    }

    /// Drops the delivered frames that no handler has yet, except those of groups with
    /// [`GroupOverflow::Drop`]. Some may not be in a mailbox yet, and would get there behind frames that
    /// others deliver from now on.
    pub(super) fn forget_unhandled(&mut self) {
        self.unhandled.waiting.clear();
    }

    /// Returns whether all frames that must be waited for are known to have been handled.
    pub(crate) fn is_handled(&self) -> bool {
        self.unhandled.waiting.is_empty()
    }

    /// Returns about how much memory the delivered batches take that may still be in mailboxes, beside
    /// their frames: each has a message, a request and an answer.
    pub(crate) fn overhead(&self) -> usize {
        const OF_EACH: usize = 1 << 10;

        self.unhandled.waiting.len() * OF_EACH
    }

    /// Gives back the memory that is kept for speed.
    pub(crate) fn release_memory(&mut self) {
        self.grouping = Grouping::default();
        self.unhandled.spare = Vec::new();
    }
}

/// The delivered messages that are not known to have been handled.
///
/// They must be awaited to their end: actix skips a message in a mailbox if nobody awaits the answer any
/// more.
#[derive(Default)]
struct Unhandled {
    waiting: Vec<Pin<Box<RecipientRequest<Inbound>>>>,
    /// Requests that are over, as many as one round can have. Their memory is used again: each takes
    /// some hundred bytes, too many for the allocator to be quick about them.
    spare: Vec<Pin<Box<RecipientRequest<Inbound>>>>,
}

impl Unhandled {
    /// Adds a request that was just made, unless it is over at once.
    fn add(&mut self, request: RecipientRequest<Inbound>) {
        let mut request = match self.spare.pop() {
            Some(mut spare) => {
                spare.set(request);
                spare
            }
            None => Box::pin(request),
        };
        // The first poll puts the batch into the mailbox, even into a full one.
        match request.as_mut().now_or_never() {
            None => self.waiting.push(request),
            Some(_) => self.spare.push(request),
        }
    }

    async fn wait(&mut self) {
        while let Some(request) = self.waiting.last_mut() {
            // An error says that the actor ended. The frames of a batch are counted when the batch
            // is dropped, so there is nothing to do for it here.
            let _ = request.await;
            self.spare.extend(self.waiting.pop());
        }
    }
}

impl fmt::Debug for Unhandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unhandled")
            .field(&self.waiting.len())
            .finish()
    }
}

/// Whether a round has more to hand over.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum More {
    Groups,
    Nothing,
}

/// Hands over the groups of one round.
struct HandOver<'d> {
    intake: &'d mut Intake,
    via: Arrival<'d>,
    wait_bytes: Option<usize>,
    owns_buffer: bool,
    turn: Option<&'d Turn>,
    /// Serves the groups whose frames are kept together.
    rest: Option<&'d Group>,
    unhandled: &'d mut Unhandled,
}

impl HandOver<'_> {
    /// Hands over the next groups, as many as one turn takes.
    fn some(&mut self, table: &GroupTable, groups: &mut RoundGroups<'_>) -> More {
        for frames in groups.by_ref().take(GROUPS_PER_TURN) {
            self.group(table, frames);
        }
        match groups.len() {
            0 => More::Nothing,
            _ => More::Groups,
        }
    }

    /// Returns what the batch for this group says of its arrival.
    fn arrival(&self, group: Option<GroupId>) -> Arrival<'_> {
        // Frames that are kept together have no group. The reserved one stands for them, which is never handed over.
        let group = group.unwrap_or(GroupId::RESERVED);
        Arrival {
            gap: self.turn.and_then(|turn| turn.gap_for(group)),
            ..self.via
        }
    }

    /// Puts the frames of one group into the mailbox of the actor that serves it.
    fn group(&mut self, table: &GroupTable, frames: GroupFrames) {
        let (index, total) = (frames.group_of_all(), frames.total());
        let serving = match index {
            Some(index) => table.serving(index),
            // Who gets it was decided when it was grouped, and may have ended since.
            None => self
                .rest
                .filter(|rest| rest.actor.connected())
                .or(table.rest().map(Arc::as_ref)),
        };
        let Some(group) = serving else {
            return self.intake.discard_unserved(index, total);
        };
        if !group.actor.connected() {
            let why = NotDelivered::ActorGone;
            return self.intake.discard(index, &group.account, total, why);
        }
        let max_bytes = match group.overflow {
            GroupOverflow::Wait => self.wait_bytes,
            GroupOverflow::Drop { max_bytes } => Some(max_bytes),
        };
        match max_bytes {
            None => self.serve_waiting(group, frames),
            Some(max_bytes) => self.serve_bounded(group, max_bytes, frames),
        }
    }

    /// Hands over frames that the connection waits for.
    fn serve_waiting(&mut self, group: &Group, frames: GroupFrames) {
        let (index, total) = (frames.group_of_all(), frames.total());
        // A handler that sees these frames finds those dropped before them in the counters.
        self.intake.book();
        let delivery = self.intake.deliver(index, &group.account, total);
        let inbound = Inbound::new(self.arrival(index), frames, delivery, None);
        self.unhandled.add(group.actor.send(inbound));
    }

    /// Hands over as many of the frames as the sender may still have in the group. Drops the others.
    fn serve_bounded(&mut self, group: &Group, max_bytes: usize, frames: GroupFrames) {
        let mut fitting = Count::ZERO;
        let from = self.intake.from();
        let charge = group.held.charge(from, max_bytes, |room| {
            fitting = frames.fitting(room.saturating_sub(BATCH_OVERHEAD));
            match fitting.frames {
                0 => 0,
                _ => fitting.bytes as usize + BATCH_OVERHEAD,
            }
        });
        let index = frames.group_of_all();
        let mut beyond = frames.total();
        beyond -= fitting;
        if !beyond.is_zero() {
            let why = NotDelivered::Overflow;
            self.intake.discard(index, &group.account, beyond, why);
        }
        if fitting.is_zero() {
            return;
        }
        self.intake.book();
        // The copy makes a slow group hold the bytes that it is charged for, and not all that was
        // read together with them.
        let frames = match self.owns_buffer {
            true => frames,
            false => frames.copied(fitting),
        };
        let delivery = self.intake.deliver(index, &group.account, fitting);
        let inbound = Inbound::new(self.arrival(index), frames, delivery, Some(charge));
        // The mailbox does not bound this, the charge does. If the mailbox has just closed, it drops
        // the batch, which counts it.
        group.actor.do_send(inbound);
    }
}

/// How far a delivery got.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// All whole frames are delivered.
    All,
    /// The frames before this control frame are delivered. There may be more behind it.
    UpTo(Control),
    /// The frames before this part of a message are delivered. There may be more behind it.
    UpToPart(BytesMut),
    /// The frames before one about a call are delivered. It is at the front of the buffer.
    UpToCall,
}

/// Why there is nothing to deliver any more.
#[derive(Debug)]
pub(crate) enum Undeliverable {
    Malformed(Malformed),
    Control(BadControl),
}

/// Takes the whole control frame off the front.
fn take_control(buffer: &mut BytesMut) -> Result<Control, BadControl> {
    match Control::front(buffer)? {
        Front::Control(control, len) => {
            buffer.advance(len);
            Ok(control)
        }
        // It is whole and has the mark, so it is a control frame.
        Front::Other | Front::Incomplete => Err(BadControl::Cut),
    }
}

/// Counts the whole frames that are still in the buffer when this is dropped: nobody will deliver
/// them, because their connection or the transport ended in the middle of a delivery.
struct CountUndelivered<'b> {
    accounts: &'b ReceiveAccounts,
    limits: RoundLimits,
    from: SocketAddr,
    buffer: &'b mut BytesMut,
    will_be_delivered: bool,
}

impl Drop for CountUndelivered<'_> {
    fn drop(&mut self) {
        if self.will_be_delivered {
            return;
        }
        let whole = frame::whole(self.buffer, self.limits.max_frame, |frame| {
            !self.limits.control || !is_own(frame)
        });
        // An intake that is dropped counts its frames as not delivered.
        Intake::new(self.accounts, self.from).receive(whole);
    }
}
