//! One connection that frames come in on, accepted or dialled by this node: reads bytes and has them
//! delivered, until it ends.
//!
//! Owns the loop: wait until there is something to read, wait until the frames before have been
//! handled, read once, deliver. Others may write to it (`session/open_link`); here only the answer to a `Hello`
//! (`introduction`) and a Goodbye are written. Leaves to others: the socket, and the end of a connection whose
//! handlers are busy (`source`), what memory the bytes take (`read_buffer`), how long a frame may take
//! (`frame_deadline`), who gets the frames (`deliver`), what is said between them (`link_control`), and how long a
//! link is read that nobody needs (`patience`).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::OptionFuture};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    config::Config,
    net::time::{self, Instant, Sleep, sleep, sleep_until, timeout},
    observe::receive_accounts::ReceiveAccounts,
    receive::{
        answers::{Answers, HeldBack},
        assembly::Assembly,
        budget::{GivenUp, InboundBudget, Share},
        call_parts::CallParts,
        context::ReceiveContext,
        deliver::{Delivered, Deliverer, Undeliverable},
        end::End,
        frame_deadline::FrameDeadline,
        inbound::Via,
        node_memory::NodeMemory,
        patience::Patience,
        read_buffer::{REVIEW_INTERVAL, ReadBuffer},
        sender::Sender,
        source::Source,
        turns::Turns,
    },
    runtime::lifecycle::Lifecycle,
    send::peers::Peers,
    session::{context::SessionContext, open_link::OpenLink},
    wire::{call, control::refused::RefusedReason},
};

/// How long the far end of a link has to notice that this node stops.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// One connection, for as long as it lives.
pub(crate) struct Connection {
    pub(super) source: Source,
    pub(super) from: SocketAddr,
    pub(super) config: Arc<Config>,
    max_frame: usize,
    pub(super) accounts: ReceiveAccounts,
    pub(super) lifecycle: Lifecycle,
    pub(super) buffer: ReadBuffer,
    /// The time for the next review of the buffer; `None` while the connection is idle. It is not reset at
    /// each read: that would cost more than grouping the frames of a read.
    pub(super) review: Option<Pin<Box<Sleep>>>,
    pub(super) frame_deadline: FrameDeadline,
    /// What this connection holds of the memory of all connections.
    pub(super) share: Share,
    pub(super) deliverer: Deliverer,
    /// `None` if sessions are off.
    pub(super) sessions: Option<Arc<SessionContext>>,
    pub(super) peers: Weak<Peers>,
    /// The link that this is, once both ends know each other.
    pub(super) link: Option<Arc<OpenLink>>,
    pub(super) patience: Patience,
    /// The messages of which parts have come. `None` if there are none.
    pub(super) assembly: Option<Box<Assembly>>,
    pub(super) budget: InboundBudget,
    pub(super) node_memory: NodeMemory,
    pub(super) calls: CallParts,
    /// Where the answers to the calls go that come here. `None` before the first.
    pub(super) answer_to: Option<Arc<Answers>>,
    /// Keeps them until all calls of one read are handed over.
    pub(super) held_back: Option<HeldBack>,
    /// Whether a frame was given up because the peer had closed the connection in the middle of it.
    truncated: bool,
    _receiver: TaskTrackerToken,
}

impl Connection {
    pub(super) fn new(context: &ReceiveContext, source: Source, from: SocketAddr) -> Self {
        let max_frame = context.config.max_frame;
        Connection {
            source,
            from,
            config: context.config.clone(),
            max_frame,
            lifecycle: context.lifecycle.clone(),
            buffer: ReadBuffer::new(),
            review: None,
            share: context.budget.share(),
            frame_deadline: FrameDeadline::new(&context.config),
            deliverer: Deliverer::new(context, Via::Tcp),
            sessions: context.sessions.clone(),
            peers: context.peers.clone(),
            accounts: context.accounts.clone(),
            link: None,
            patience: Patience::new(&context.config),
            assembly: None,
            budget: context.budget.clone(),
            node_memory: context.node_memory.clone(),
            calls: context.calls.clone(),
            answer_to: None,
            held_back: None,
            truncated: false,
            _receiver: context.lifecycle.receiver(),
        }
    }

    /// Makes one of a link that this node dialled.
    pub(super) fn of_link(
        context: &ReceiveContext,
        source: Source,
        from: SocketAddr,
        sender: Sender,
        link: Arc<OpenLink>,
    ) -> Self {
        let mut connection = Connection::new(context, source, from);
        let superseded = link.cut().clone();
        connection
            .deliverer
            .introduced(Arc::new(sender), superseded);
        connection.patience.watch(&link);
        connection.link = Some(link);
        connection
    }

    pub(crate) async fn run(mut self) {
        let introduced = match self.sessions.clone() {
            Some(sessions) if self.link.is_none() => {
                // Boxed, because it is over soon, and most of its room is needed for nothing else.
                Box::pin(self.introduce(&sessions)).await
            }
            _ => Ok(()),
        };
        let end = match introduced {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        let unfinished = self.truncated || !self.buffer.is_empty();
        end.count(self.from, &self.accounts, unfinished);
        if let Some(link) = &self.link {
            link.ends_because(end.as_down_reason());
        }
        if matches!(end, End::Closing) {
            self.close_in_order().await;
        }
        self.source.end(false);
        self.end_messages();
        self.give_up_buffer();
        // A batch that did not fit into its mailbox gets there only while somebody awaits it.
        self.deliverer.wait_until_handled().await;
    }

    /// This node stops. What it has written on the link must get there although the far end is still sending:
    /// waits until that has noticed, unless the stop cannot wait.
    async fn close_in_order(&mut self) {
        if self.link.is_none() {
            return;
        }
        self.source.say_goodbye();
        let lifecycle = self.lifecycle.clone();
        let noticed = self.source.end_writing_and_discard(usize::MAX);
        tokio::select! {
            biased;
            () = lifecycle.all_ends() => {}
            _ = timeout(CLOSE_LIMIT, noticed) => {}
        }
    }

    /// Reads and delivers until the connection ends, or a later incarnation of the node at the other end
    /// has come, or its certificate is not accepted any more. Nothing is delivered from then on.
    async fn serve(&mut self) -> End {
        let link = self.link.clone();
        let cut = link.as_ref().map(|link| link.cut().cancelled());
        tokio::select! {
            biased;
            Some(()) = OptionFuture::from(cut) => {
                // Before the session ends: the later incarnation waits for that.
                self.deliverer.forget_unhandled();
                match link.is_some_and(|link| link.is_untrusted()) {
                    true => End::Untrusted,
                    false => End::Refused(RefusedReason::OlderIncarnation),
                }
            }
            Err(end) = self.read_and_deliver() => end,
        }
    }

    /// Reads and delivers until the connection ends.
    async fn read_and_deliver(&mut self) -> Result<Infallible, End> {
        let lifecycle = self.lifecycle.clone();
        // One future for the whole loop: creating it takes longer than polling it.
        let mut closing = pin!(lifecycle.receiving_ends());
        if !self.buffer.is_empty() {
            // Came with the introduction.
            self.deliver().await?;
        }
        loop {
            tokio::select! {
                biased;
                // What has been taken out of the kernel would be lost without a word. It is bounded; see `source`.
                () = &mut closing, if !self.source.is_at_hand() => return Err(End::Closing),
                readable = self.readable() => readable?,
            }
            self.wait_until_handled().await;
            let link = self.link.as_deref();
            if let Some(end) = link.and_then(|link| self.patience.over(link, self.deliverer.turn()))
            {
                return Err(end);
            }
            self.take_memory().await?;
            let filled_the_room = match self.read().await {
                Ok(Read::Some { filled_the_room }) => filled_the_room,
                Ok(Read::NotReady) => continue,
                Ok(Read::EndOfStream) => return Err(End::ClosedByPeer),
                Err(err) => return Err(End::Failed(err)),
            };
            self.deliver().await?;
            if filled_the_room {
                // This connection probably has more to read. The others get their turn first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there is something to read. Waits without limit, unless a frame has begun and is not
    /// complete in time.
    pub(super) async fn readable(&mut self) -> Result<(), End> {
        // Looked at here, too, because the socket may be readable again and again.
        let assembly = self.assembly.as_deref();
        if assembly.is_some_and(|assembly| assembly.is_over_by(time::now())) {
            self.review_messages();
        }
        // A frame that arrives in small pieces makes the socket readable again and again, so its
        // deadline is checked here too. If bytes are readable already, the peer was in time and this task
        // was late.
        if self.frame_due().is_some_and(|due| due <= time::now()) {
            return match self.source.readable().now_or_never() {
                Some(_) => Ok(()),
                None => Err(End::FrameTimedOut),
            };
        }
        loop {
            let late = OptionFuture::from(self.frame_due().map(sleep_until));
            let share = self.share.may_be_given_up().then_some(&self.share);
            let given_up = OptionFuture::from(share.map(Share::given_up));
            let link = self.link.as_deref();
            let of_no_use = link.map(|link| self.patience.with(link, self.deliverer.turn()));
            let of_no_use = OptionFuture::from(of_no_use);
            let review = OptionFuture::from(self.review.as_mut().map(|timer| timer.as_mut()));
            let assembly = self.assembly.as_deref();
            // Boxed, because few connections have any.
            let message_is_over = assembly.map(|assembly| Box::pin(assembly.is_over()));
            let message_is_over = OptionFuture::from(message_is_over);
            tokio::select! {
                biased;
                () = self.source.readable() => return Ok(()),
                Some(()) = late => return Err(End::FrameTimedOut),
                Some(GivenUp) = given_up => return Err(End::GivenUp),
                Some(end) = of_no_use => return Err(end),
                Some(()) = review => {}
                Some(()) = message_is_over => self.review_messages(),
            }
            // There is nothing to read, so this wait delays nothing. The deadline of an incomplete frame
            // applies again after it.
            self.wait_until_handled().await;
            self.review_buffer();
        }
    }

    /// Waits until the actors have handled what was delivered. Incomplete frames and messages then have their
    /// full time again, because the peer is not at fault for the time that our actors take.
    pub(super) async fn wait_until_handled(&mut self) {
        // Usually they have by now. Then no time is to be accounted for, unless a frame has begun.
        if self.buffer.is_empty() && self.deliverer.settle_now() {
            return;
        }
        if !self.deliverer.is_handled() {
            self.share
                .cover(self.buffer.held() + self.deliverer.overhead());
            self.busy(true);
            let begun = time::now();
            let overhead = self.deliverer.overhead();
            let (buffer, share) = (&mut self.buffer, &mut self.share);
            let ended = |rest: &mut Bytes| {
                // The memory of a frame that will never be complete is not kept for the handlers' time.
                let len = buffer.announced(self.max_frame).ok().flatten();
                if len.is_some_and(|len| buffer.len() + rest.len() < len) {
                    rest.clear();
                    self.truncated = true;
                    share.unfinished(0);
                    share.shrink(buffer.abandon() + overhead);
                }
            };
            let handled = self.deliverer.wait_until_handled();
            self.source.watch_during(handled, ended).await;
            self.busy(false);
            let now = time::now();
            self.frame_deadline.restart(now);
            if let Some(assembly) = &mut self.assembly {
                assembly.messages.restart(now);
            }
            self.patience.handlers_took(now - begun);
        }
    }

    /// Notes whether handlers are awaited: no memory could be given back before they are done.
    fn busy(&self, busy: bool) {
        self.share.busy(busy);
        if let Some(assembly) = &self.assembly {
            assembly.share.busy(busy);
        }
    }

    /// Reads once.
    pub(super) async fn read(&mut self) -> io::Result<Read> {
        self.review
            .get_or_insert_with(|| Box::pin(sleep(REVIEW_INTERVAL)));
        let read = self.source.read(&mut self.buffer.room()).await?;
        Ok(match read {
            None => Read::NotReady,
            Some(0) => Read::EndOfStream,
            Some(n) => Read::Some {
                filled_the_room: self.buffer.received(n),
            },
        })
    }

    /// Delivers the whole frames in the buffer, acts on control frames between them, and notes whether a
    /// frame is incomplete.
    async fn deliver(&mut self) -> Result<(), End> {
        let received = self.buffer.len();
        let (mut delivered, mut turns) = (Ok(()), None);
        while let Some(bytes) = self.buffer.deliverable() {
            let (left, mut first) = (bytes.len(), 0);
            // Calls and answers often come one behind the other, and need nothing of what frames of groups need.
            if self.sessions.is_some()
                && let Some(frame) = call::take_first(bytes, self.max_frame)
            {
                first = frame.len();
                self.take_call(frame)?;
            } else {
                self.held_back = None;
                self.share.busy(true);
                let delivering = self.deliverer.deliver(self.from, bytes);
                let done = self.source.watch_during(delivering, |_| {}).await;
                self.share.busy(false);
                match done {
                    Ok(Delivered::All) => break,
                    Ok(Delivered::UpToPart(frame)) => Box::pin(self.take_part(&frame)).await?,
                    Ok(Delivered::UpToCall) => continue,
                    Ok(Delivered::UpTo(control)) => self.obey(control).await?,
                    Err(err) => {
                        delivered = Err(err);
                        break;
                    }
                }
            }
            let turns = turns.get_or_insert_with(|| Turns::of_read(left, first));
            if turns.is_over() && !self.buffer.is_empty() {
                self.held_back = None;
                turns.others_first().await;
            }
        }
        self.held_back = None;
        self.buffer.settle(self.max_frame);
        self.share.cover(self.buffer.held());
        self.share.unfinished(self.buffer.len());
        if self.buffer.is_empty() {
            self.frame_deadline.clear();
        } else {
            let new_frame = self.buffer.len() < received;
            self.frame_deadline.incomplete(new_frame, time::now());
        }
        delivered.map_err(|err| match err {
            Undeliverable::Malformed(malformed) => End::Malformed(malformed),
            Undeliverable::Control(bad) => End::BadHandshake(bad.to_string().into()),
        })
    }

    /// Returns when the incomplete frame must be complete. `None` if there is none, and while delivered
    /// frames have not been handled.
    pub(super) fn frame_due(&self) -> Option<Instant> {
        if !self.deliverer.is_handled() {
            return None;
        }
        let len = self.buffer.announced(self.max_frame);
        self.frame_deadline.at(len.ok().flatten())
    }
}

impl Drop for Connection {
    /// Whatever ends it, even in the middle of its work.
    fn drop(&mut self) {
        self.end_messages();
    }
}

/// What one read found.
pub(super) enum Read {
    /// Nothing yet.
    NotReady,
    /// At least one byte. If it filled the room, there may be more.
    Some {
        filled_the_room: bool,
    },
    EndOfStream,
}
