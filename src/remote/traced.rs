//! [`Traced`]: a typed message together with the span in which it is handled.

use actix::Message;

use crate::{observe::trace::call_span::CallSpan, remote::message::RemoteMessage};

/// A typed message together with the span in which it is handled, for actors that want both: see
/// [`Transport::serve_traced`](crate::Transport::serve_traced). Its result is that of the message.
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::{GroupId, RemoteMessage, Traced, Transport};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// #[remote(id = 1)]
/// struct Add(u64);
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl Actor for Counter {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Add> for Counter {
///     type Result = u64;
///
///     fn handle(&mut self, Add(more): Add, _: &mut Context<Self>) -> u64 {
///         self.0 = self.0.saturating_add(more);
///         self.0
///     }
/// }
///
/// impl Handler<Traced<Add>> for Counter {
///     type Result = u64;
///
///     fn handle(&mut self, traced: Traced<Add>, ctx: &mut Context<Self>) -> u64 {
///         traced.in_scope(|add| self.handle(add, ctx))
///     }
/// }
///
/// fn serve(transport: &Transport, group: GroupId) -> Result<(), actix_transport::RegisterError> {
///     transport.serve_traced::<Add>(group, Counter::default().start())
/// }
/// ```
#[derive(Debug)]
pub struct Traced<M> {
    message: M,
    span: CallSpan,
}

impl<M: RemoteMessage> Message for Traced<M> {
    type Result = M::Result;
}

impl<M> Traced<M> {
    pub(super) fn new(message: M, span: CallSpan) -> Self {
        Traced { message, span }
    }

    /// Returns the span.
    pub fn span(&self) -> &CallSpan {
        &self.span
    }

    /// Handles the message in the span. If `handle` returns a future, it is polled later, and needs
    /// [`CallSpan::wrap`].
    pub fn in_scope<R>(self, handle: impl FnOnce(M) -> R) -> R {
        self.span.in_scope(|| handle(self.message))
    }

    /// Returns the message and the span.
    pub fn into_parts(self) -> (M, CallSpan) {
        (self.message, self.span)
    }
}
