//! [`RemoteRequest`]: a typed message that waits for its result.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    call_error::{CallError, NotUnderstood},
    ids::GroupId,
    remote::{codec::decode, encoded::encode_message, error::RemoteError, message::RemoteMessage},
    send::{call::CallFuture, peer::Peer, queue::WhenFull},
    wire::trace_context::TraceContext,
};

/// A message that waits for its result; see [`RemoteRecipient::send`](crate::RemoteRecipient::send).
#[must_use = "nothing is sent before it is polled"]
pub struct RemoteRequest<M> {
    /// Or why there is none, until that is returned.
    call: Result<CallFuture, Option<RemoteError>>,
    message: PhantomData<fn() -> M>,
}

impl<M: RemoteMessage> RemoteRequest<M> {
    pub(super) fn new(peer: &Peer, group: GroupId, message: &M) -> Self {
        let call = message_call(peer, group, message, WhenFull::Wait).map_err(Some);
        RemoteRequest {
            call,
            message: PhantomData,
        }
    }

    /// Sets how long the message waits for its result, as [`CallFuture::deadline`] does.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call = self.call.map(|call| call.deadline(deadline));
        self
    }

    /// Sets which trace the message belongs to, as [`CallFuture::trace`] does.
    pub fn trace(mut self, context: impl Into<Option<TraceContext>>) -> Self {
        self.call = self.call.map(|call| call.trace(context));
        self
    }
}

/// Encodes a message and makes a call of it. One that cannot be encoded counts as a call that failed.
pub(super) fn message_call<M: RemoteMessage>(
    peer: &Peer,
    group: GroupId,
    message: &M,
    when_full: WhenFull,
) -> Result<CallFuture, RemoteError> {
    match encode_message(message) {
        Ok(payload) => Ok(peer.call_with(group, payload.into(), when_full)),
        Err(why) => {
            let error = RemoteError::unencodable::<M>(why);
            let text = error.to_string();
            let why = NotUnderstood::Unencodable { text };
            peer.refuse_call(&CallError::NotUnderstood(why));
            Err(error)
        }
    }
}

impl<M: RemoteMessage> Future for RemoteRequest<M> {
    type Output = Result<M::Result, RemoteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = match &mut self.call {
            Ok(call) => call,
            Err(why) => return Poll::Ready(Err(why.take().expect("polled after it was ready"))),
        };
        let answer = match ready!(Pin::new(&mut *call).poll(cx)) {
            Ok(answer) => answer,
            Err(why) => return Poll::Ready(Err(RemoteError::of::<M>(why))),
        };
        let result = decode::<M::Codec, M::Result, _>(answer, M::MAX_BYTES, |result| result);
        Poll::Ready(result.map_err(|why| {
            call.count_undecodable();
            RemoteError::undecodable::<M>(why)
        }))
    }
}

impl<M> fmt::Debug for RemoteRequest<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRequest")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
