//! [`Peer::call`]: a call, as its caller sees it.
//!
//! The future puts the call into the queue when it is polled first, and then waits for how it ends. That is decided in
//! [`PendingCalls`](crate::calls::pending::PendingCalls); the thread that reads the answer wakes the caller. Only a call
//! that has to wait for room, or that is longer than a frame, needs memory of its own for that.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    call_error::{CallError, CallPart},
    calls::{deadlines::LATEST, pending::Ticket, queued_call::QueuedCall, rooms::CallRoom},
    error::{LargeError, Refusal},
    ids::GroupId,
    lane::Lane,
    net::{
        clock::{CoarseInstant, EXPIRY_SLACK},
        time::{self, Instant},
    },
    observe::trace::outgoing::OutgoingTrace,
    send::{
        large::Began,
        peer::Peer,
        peer_state::PeerState,
        queue::{Terms, WhenFull},
    },
    wire::{
        body::Body,
        call::{self, CallFrame, CallId},
        frame::HEADER,
        head_bytes::HeadBytes,
        payload::Payload,
        trace_context::TraceContext,
    },
};

impl Peer {
    /// Asks the handler of `group`'s calls on the other node ([`Transport::serve_calls`](crate::Transport::serve_calls)),
    /// and returns a future of its answer.
    ///
    /// There is always a deadline: [`Config::call_deadline`](crate::Config::call_deadline), or
    /// [`CallFuture::deadline`]. It travels with the call, as the time that is left. When it is over, the call is
    /// dropped wherever it is: in the queue of this node, or before its handler takes it on the other.
    ///
    /// Waits for room if as many calls wait for answers as may ([`Config::peer_calls`](crate::Config::peer_calls) and
    /// the settings behind it), and if the queue is full. Waits for a connection if there is none; if a dial fails
    /// meanwhile, the call fails. Nothing is sent before the future is polled.
    ///
    /// A call is served once at most: nothing is sent again, except that a frame of which the system took only a part
    /// goes out whole on the next connection. If the connection that a call was sent on ends before the answer comes,
    /// the call fails with [`CallError::Lost`]. An answer counts only if it comes from the node that was asked, in the
    /// same life of it.
    ///
    /// A call or an answer that is longer than a frame travels in parts; see [`Peer::send_large`]. Calls keep their
    /// order on a lane, among each other and with frames, but a handler may answer in any order.
    ///
    /// If a `tracing` span is active when the future is polled first, the call carries a [`TraceContext`]: of the call that
    /// is being served there, or a new one. The [guide](crate::guide#trace-calls-across-nodes) says more.
    ///
    /// Cancelling (dropping the future) gives the call up: if it is still queued it is not sent, and otherwise the
    /// handler is told ([`Call::is_cancelled`](crate::Call::is_cancelled)). May be awaited on any thread and any
    /// runtime; the thread that reads the answer wakes the caller.
    ///
    /// ```
    /// use actix::prelude::*;
    /// use actix_transport::{Call, GroupId, Identity, NodeId, Transport};
    ///
    /// struct Echo;
    ///
    /// impl Actor for Echo {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Handler<Call> for Echo {
    ///     type Result = ();
    ///
    ///     fn handle(&mut self, call: Call, _: &mut Context<Self>) {
    ///         let payload = call.payload().clone();
    ///         call.reply(payload);
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let identity = |node| Identity::new(NodeId::new(node)).incarnation(1);
    /// let group = GroupId::new(3);
    /// let a = Transport::builder().identity(identity(1)).bind("127.0.0.1:0")?;
    /// let b = Transport::builder().identity(identity(2)).bind("127.0.0.1:0")?;
    /// b.serve_calls(group, Echo.start().recipient())?;
    /// let answer = a.peer(b.local_addr())?.call(group, "hello").await?;
    /// assert_eq!(answer, "hello");
    /// # a.stop(actix_transport::Shutdown::Now).await;
    /// # b.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Its fields say whether the call was sent.
    pub fn call(&self, group: GroupId, payload: impl Into<Bytes>) -> CallFuture {
        self.call_with(group, payload.into().into(), WhenFull::Wait)
    }

    /// As [`call`](Peer::call), but does not wait for room: if there is none, the call fails with [`CallError::Full`]. A call
    /// that is longer than a frame still waits for its turn on the lane.
    pub fn try_call(&self, group: GroupId, payload: impl Into<Bytes>) -> CallFuture {
        self.call_with(group, payload.into().into(), WhenFull::Refuse)
    }

    pub(crate) fn call_with(
        &self,
        group: GroupId,
        payload: Body,
        when_full: WhenFull,
    ) -> CallFuture {
        let request = Request {
            group,
            payload,
            deadline: None,
            when_full,
        };
        CallFuture {
            peer: self.clone(),
            stage: Stage::New(request),
            trace: None,
        }
    }

    /// Counts a call that was refused before it began.
    #[cfg(feature = "remote")]
    pub(crate) fn refuse_call(&self, why: &CallError) {
        self.state.calls.pending.refuse(why);
    }
}

/// A call that waits for its answer; see [`Peer::call`].
#[must_use = "nothing is sent before it is polled"]
pub struct CallFuture {
    peer: Peer,
    stage: Stage,
    /// Until it is over.
    trace: Option<Arc<OutgoingTrace>>,
}

enum Stage {
    New(Request),
    /// It waits for room, or is sent in parts.
    Entering(Ticket, Entering),
    /// The room is given back when the call is over.
    Asked(
        Ticket,
        #[expect(dead_code, reason = "released on drop")] CallRoom,
    ),
    Over,
}

type Entering = Pin<Box<dyn Future<Output = Result<CallRoom, CallError>> + Send>>;

struct Request {
    group: GroupId,
    payload: Body,
    deadline: Option<Duration>,
    when_full: WhenFull,
}

impl CallFuture {
    #[cfg(feature = "remote")]
    pub(crate) fn count_undecodable(&self) {
        self.peer.state.calls.pending.count_undecodable();
    }

    /// Sets how long the call waits for its answer, from its first poll on. Zero: it fails at once. A call that has
    /// begun keeps its deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        if let Stage::New(request) = &mut self.stage {
            request.deadline = Some(deadline);
        }
        self
    }

    /// Sets the lane that the call is sent on; the answer comes on the same. Without this it is the lane of the
    /// [`Peer`]. A call that has begun keeps its lane.
    pub fn lane(mut self, lane: Lane) -> Self {
        if let Stage::New(_) = &self.stage {
            self.peer = self.peer.lane(lane);
        }
        self
    }

    /// Sets which trace the call belongs to, and its parent, for programs that do not use `tracing`. The call then has no
    /// span of its own on this node. With `None` it is as without this. A call that has begun keeps what it has.
    pub fn trace(mut self, context: impl Into<Option<TraceContext>>) -> Self {
        if let Stage::New(_) = &self.stage {
            self.trace = context.into().map(OutgoingTrace::by_hand);
        }
        self
    }

    /// Notes how the call ended.
    fn over(&mut self, ended: Result<Bytes, CallError>) -> Poll<Result<Bytes, CallError>> {
        if let (Some(trace), Err(why)) = (self.trace.take(), &ended) {
            trace.fail(why);
        }
        Poll::Ready(ended)
    }
}

impl Future for CallFuture {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let ended = match &mut this.stage {
                Stage::New(_) => {
                    let Stage::New(request) = std::mem::replace(&mut this.stage, Stage::Over)
                    else {
                        unreachable!("was just seen");
                    };
                    if this.trace.is_none() {
                        this.trace = OutgoingTrace::begin(request.group, this.peer.addr());
                    }
                    match request.begin(&this.peer, this.trace.clone(), cx) {
                        Ok(stage) => this.stage = stage,
                        Err(why) => return this.over(Err(why)),
                    }
                    if let Stage::Asked(..) = this.stage {
                        // Its end will wake the caller, even if it has come by now.
                        return Poll::Pending;
                    }
                    continue;
                }
                Stage::Entering(ticket, entering) => match ticket.poll_ended(cx) {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => {
                        let room = ready!(entering.as_mut().poll(cx));
                        let entered = std::mem::replace(&mut this.stage, Stage::Over);
                        let Stage::Entering(ticket, _) = entered else {
                            unreachable!("was just seen");
                        };
                        match room {
                            Ok(room) => this.stage = Stage::Asked(ticket, room),
                            Err(why) => {
                                let why = ticket.fail(why);
                                return this.over(Err(why));
                            }
                        }
                        continue;
                    }
                },
                Stage::Asked(ticket, _) => ready!(ticket.poll_ended(cx)),
                Stage::Over => panic!("polled after it was ready"),
            };
            let over = std::mem::replace(&mut this.stage, Stage::Over);
            if let (Stage::Entering(ticket, _) | Stage::Asked(ticket, _), Err(_)) = (over, &ended) {
                // It may have ended for another reason than leaving the queue.
                this.peer.state.queue.withdraw(ticket.id);
            }
            return this.over(ended);
        }
    }
}

impl Drop for CallFuture {
    /// Gives the call up.
    fn drop(&mut self) {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (Stage::Entering(ticket, _) | Stage::Asked(ticket, _)) = &mut stage else {
            return;
        };
        let (id, state) = (ticket.id, &self.peer.state);
        let must_be_told = ticket.give_up();
        drop(stage);
        if !must_be_told {
            return state.queue.withdraw(id);
        }
        let cancel = CallFrame::Cancel.encode(id);
        let now = CoarseInstant::now();
        // If there is no room for it, the handler finds out at the deadline.
        if let Ok(doorbell) = state.queue.push_reserved((), cancel, now, WhenFull::Refuse) {
            state.ring(doorbell);
        }
    }
}

impl fmt::Debug for CallFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Puts the call into the queue, if there is room for it now.
    fn begin(
        self,
        peer: &Peer,
        trace: Option<Arc<OutgoingTrace>>,
        cx: &Context<'_>,
    ) -> Result<Stage, CallError> {
        let state = &peer.state;
        let refuse = |why| {
            state.calls.pending.refuse(&why);
            Err(why)
        };
        if self.group == GroupId::RESERVED {
            return refuse(CallError::NoHandler);
        }
        let now = time::now();
        let limit = self.deadline.unwrap_or(state.calls.deadline).min(LATEST);
        let deadline = now + limit;
        let room = state.calls.rooms.try_take(self.payload.len());
        if room.is_none() && self.when_full == WhenFull::Refuse {
            return refuse(CallError::Full);
        }
        let (lane, waker) = (state.calls.lane, cx.waker());
        let ticket = state.calls.pending.begin(lane, now, deadline, waker)?;
        let call = Entry {
            id: ticket.id,
            group: self.group,
            payload: self.payload,
            deadline,
            trace,
        };
        let room = match room {
            Some(room) if !call.is_large(state) => room,
            room => {
                let entering = Box::pin(call.enter(peer.clone(), room));
                return Ok(Stage::Entering(ticket, entering));
            }
        };
        match call.push(state, limit, self.when_full) {
            Ok(()) => Ok(Stage::Asked(ticket, room)),
            Err((Refusal::Full(_), call)) if self.when_full == WhenFull::Wait => {
                let entering = Box::pin(call.enter(peer.clone(), Some(room)));
                Ok(Stage::Entering(ticket, entering))
            }
            Err((refusal, _)) => Err(ticket.fail(why_refused(refusal))),
        }
    }
}

/// A call on its way into the queue.
struct Entry {
    id: CallId,
    group: GroupId,
    payload: Body,
    deadline: Instant,
    trace: Option<Arc<OutgoingTrace>>,
}

impl Entry {
    fn is_large(&self, state: &PeerState) -> bool {
        let head = HEADER + call::head_len(self.trace());
        head + self.payload.len() > state.longest_frame()
    }

    fn trace(&self) -> Option<TraceContext> {
        self.trace.as_ref().map(|trace| trace.context)
    }

    fn head(&self, left: Duration) -> HeadBytes {
        let group = self.group;
        CallFrame::Call { group, left }.encode_in(self.trace(), self.id)
    }

    fn terms(&self, state: &PeerState, left: Duration) -> Terms {
        let calls = state.calls.pending.clone();
        Terms {
            // The deadline itself is kept elsewhere, and is exact.
            ttl: Some(left + EXPIRY_SLACK),
            call: Some(QueuedCall::new(calls, self.id, self.deadline)),
            ..Terms::default()
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(time::now())
    }

    /// Puts it into the queue if there is room.
    fn push(
        mut self,
        state: &PeerState,
        left: Duration,
        when_full: WhenFull,
    ) -> Result<(), (Refusal, Self)> {
        let payload = std::mem::take(&mut self.payload);
        let frame = (self.group, (self.head(left), payload));
        let (terms, now) = (self.terms(state, left), CoarseInstant::now());
        let pushed = state.queue.push_apart_if((), frame, terms, now, when_full);
        match pushed {
            Ok(doorbell) => {
                state.ring(doorbell);
                Ok(())
            }
            Err((refusal, (_, payload))) => {
                self.payload = payload;
                Err((refusal, self))
            }
        }
    }

    /// Puts it into the queue as soon as there is room, or sends it in parts.
    async fn enter(mut self, peer: Peer, room: Option<CallRoom>) -> Result<CallRoom, CallError> {
        let state = &peer.state;
        let room = match room {
            Some(room) => room,
            None => state.calls.rooms.take(self.payload.len()).await,
        };
        if self.is_large(state) {
            self.send_large(state).await?;
            return Ok(room);
        }
        let left = self.left();
        let payload = std::mem::take(&mut self.payload);
        let frame = (self.group, (self.head(left), payload));
        let pushed =
            state
                .queue
                .push_apart_wait((), frame, self.terms(state, left), CoarseInstant::now);
        match pushed.await {
            Ok(doorbell) => {
                state.ring(doorbell);
                Ok(room)
            }
            Err((refusal, _)) => Err(why_refused(refusal)),
        }
    }

    async fn send_large(&mut self, state: &PeerState) -> Result<(), CallError> {
        let payload = std::mem::take(&mut self.payload).into_bytes();
        let begins = |link| match state.queue.asked_on(link) {
            None => Began::TooLate,
            Some(None) => Began::Unsupported,
            Some(Some(asked)) => match state.calls.pending.ask(self.id, asked) {
                true => Began::With(self.head(self.left()).into_bytes()),
                false => Began::NotWanted,
            },
        };
        let sent = state
            .send_in_parts(GroupId::RESERVED, payload, begins)
            .await;
        if sent.is_err() {
            // Half of it is never delivered.
            state.calls.pending.take_back(self.id);
        }
        sent.map_err(|err| match err {
            LargeError::Refused(_) => CallError::Stopped,
            LargeError::TooLarge { .. } => CallError::TooLarge {
                what: CallPart::Call,
            },
            LargeError::Unsupported => CallError::Unsupported,
            LargeError::NoConnection => CallError::Unreachable {
                since: state.without_link_for(time::now()),
            },
            LargeError::Dropped | LargeError::Cut => CallError::Lost { sent: false },
        })
    }
}

fn why_refused(refusal: Refusal) -> CallError {
    match refusal {
        Refusal::Full(_) => CallError::Full,
        Refusal::TooLarge { .. } => CallError::TooLarge {
            what: CallPart::Call,
        },
        _ => CallError::Stopped,
    }
}
