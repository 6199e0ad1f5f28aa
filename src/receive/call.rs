//! [`Call`], the message that the handler of a group's calls receives.

use std::{fmt, sync::Arc, time::Duration};

use actix::Message;
use bytes::Bytes;

use crate::{
    ids::GroupId,
    lane::Lane,
    net::time::{self, StdInstant},
    observe::trace::call_span::CallSpan,
    receive::{
        charge::Charge,
        sender::Sender,
        served::{Ending, Served},
    },
    wire::{
        body::Body,
        call::{CallFrame, MAX_TEXT, NotServed},
        trace_context::TraceContext,
    },
};

/// A call from another node, or from this one: a question that waits for an answer. The other side is
/// [`Peer::call`](crate::Peer::call).
///
/// Answer it with [`reply`](Call::reply) or [`fail`](Call::fail), in the handler or later, on any thread. Each call has
/// one answer at most. A call that is dropped without one, as by a panic or in the mailbox of an actor that ends, fails
/// at once for its caller ([`CallError::Unanswered`](crate::CallError::Unanswered)).
///
/// A call does not hold back its connection: while it is served, others come. How many may be served is bounded
/// ([`Config::served_call_bytes`](crate::Config::served_call_bytes)).
///
/// A call that is too late or was given up is dropped before a handler gets it; actix skips it in the mailbox. (With
/// [`Placement::Current`](crate::Placement::Current), an actor that keeps its arbiter busy may still get one: deadlines are
/// kept on the same arbiter.) One that becomes so while it
/// is served tells by [`is_cancelled`](Call::is_cancelled) and [`cancelled`](Call::cancelled), and answering it does
/// nothing.
pub struct Call {
    pub(super) payload: Bytes,
    pub(super) served: Arc<Served>,
    /// Its part of the group's bound, given back when its memory is.
    pub(super) charge: Option<Charge>,
}

impl Message for Call {
    type Result = ();
}

impl Call {
    pub(super) fn new(payload: Bytes, served: Arc<Served>, charge: Charge) -> Self {
        Call {
            payload,
            served,
            charge: Some(charge),
        }
    }

    /// Returns the bytes of the call.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the group that the call is for.
    pub fn group(&self) -> GroupId {
        self.served.group
    }

    /// Returns who calls.
    pub fn sender(&self) -> &Sender {
        &self.served.sender
    }

    /// Returns the lane that the call came on. The answer goes the same way.
    pub fn lane(&self) -> Lane {
        self.served.sender.lane()
    }

    /// Returns when the answer is too late, by this machine's clock.
    pub fn deadline(&self) -> StdInstant {
        self.served.deadline.into_std()
    }

    /// Returns how much time is left for the answer. Zero if it is too late.
    pub fn left(&self) -> Duration {
        self.served.deadline.saturating_duration_since(time::now())
    }

    /// Returns whether nobody waits for the answer any more: the caller gave the call up, or it is too late.
    pub fn is_cancelled(&self) -> bool {
        self.served.is_over() || self.left().is_zero()
    }

    /// Returns a future that is ready when nobody waits for the answer any more. It does not borrow the call. May be
    /// awaited on any thread and any runtime.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let served = self.served.clone();
        async move { served.over().await }
    }

    /// Returns the trace that the caller says the call belongs to, with the span of the caller as the parent. `None` if it
    /// says nothing. What it says is not checked.
    pub fn trace(&self) -> Option<TraceContext> {
        self.served.span.received()
    }

    /// Returns the span in which the call is served. An actor enters it; functions
    /// ([`Transport::serve_fn`](crate::Transport::serve_fn)) run in it already.
    pub fn span(&self) -> &CallSpan {
        &self.served.span
    }

    /// Answers the call. Returns at once.
    ///
    /// If the queue to the caller's node is full, the answer waits for room until the deadline. An answer that is longer
    /// than a frame is sent in parts. If it cannot be sent, that is counted
    /// ([`ServedStats::lost_answers`](crate::ServedStats::lost_answers)), and the caller is told, or hears nothing until
    /// its deadline. Does nothing if nobody waits any more. May be called on any thread.
    pub fn reply(self, payload: impl Into<Bytes>) {
        self.reply_with(payload.into());
    }

    pub(crate) fn reply_with(mut self, payload: impl Into<Body>) {
        if self.served.end(Ending::Answered) {
            let charge = self.charge.take();
            self.served.say(CallFrame::Answer, payload, charge);
        }
    }

    /// Tells the caller that the call has failed: it gets [`CallError::Failed`](crate::CallError::Failed) with this code
    /// and this text, of which the first 1 024 bytes are sent. Otherwise as [`reply`](Call::reply).
    pub fn fail(mut self, code: u32, text: impl Into<String>) {
        let mut text = text.into();
        let at = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(at.unwrap_or(0));
        if self.served.end(Ending::Failed) {
            let charge = self.charge.take();
            self.served
                .say(CallFrame::Failure { code }, Bytes::from(text), charge);
        }
    }

    /// Tells the caller that too many calls are being served.
    pub(super) fn refuse(self) {
        if self.served.end(Ending::Refused) {
            self.served.say_not_served(NotServed::Busy);
        }
    }
}

impl Drop for Call {
    /// Tells the caller at once if the call was not answered.
    fn drop(&mut self) {
        if !self.served.is_over() && self.served.end(Ending::Unanswered) {
            self.served.say_not_served(NotServed::Unanswered);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("group", &self.group())
            .field("sender", self.sender())
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
