//! Who serves the calls of this node's groups.

use std::sync::Arc;

use actix::Recipient;

#[cfg(feature = "remote")]
use crate::receive::services::Services;
use crate::{
    api::transport::Transport,
    error::RegisterError,
    ids::GroupId,
    receive::{
        call::Call,
        services::CallHandler,
        serving::{poll_once, serving, until_over},
    },
};

impl Transport {
    /// Lets `actor` serve the calls of `group` ([`Peer::call`](crate::Peer::call)). Frames of the same group are served by another actor
    /// or the same ([`register`](Transport::register)); the two have nothing to do with each other.
    ///
    /// A call does not wait for the mailbox of the actor to have room: the bound is
    /// [`Config::served_call_bytes`](crate::Config::served_call_bytes). If the actor ends, its calls are reported to their
    /// callers as [`CallError::Unanswered`](crate::CallError::Unanswered), further ones as
    /// [`CallError::NoHandler`](crate::CallError::NoHandler), and another actor may serve the group.
    ///
    /// Needs [`Sessions`](crate::Sessions): calls come from nodes that have introduced themselves.
    ///
    /// # Errors
    ///
    /// If the calls of the group are served already by an actor that runs, or the group is reserved, or the transport has
    /// stopped.
    pub fn serve_calls(&self, group: GroupId, actor: Recipient<Call>) -> Result<(), RegisterError> {
        let services = &self.0.receive.calls.services;
        services.serve(group, CallHandler::Actor(actor))
    }

    /// Calls `serve` for each call of `group`, and runs the future that it returns on the arbiter that has read the
    /// call. So an answer takes no way through a mailbox. The future may be of a kind that stays on its thread, and must
    /// not block it: other connections are read there.
    ///
    /// At most `limit` calls are served at the same time; further ones are refused
    /// ([`CallError::Refused`](crate::CallError::Refused)). The future is dropped when nobody waits for the answer any
    /// more.
    ///
    /// ```
    /// # use actix_transport::{Call, GroupId, Identity, NodeId, Shutdown, Transport};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = Transport::builder().identity(Identity::new(NodeId::new(1))).bind("127.0.0.1:0")?;
    /// let group = GroupId::new(3);
    /// transport.serve_fn(group, 100, |call: Call| async move {
    ///     let doubled = call.payload().repeat(2);
    ///     call.reply(doubled);
    /// })?;
    /// let me = transport.peer(transport.local_addr())?;
    /// assert_eq!(me.call(group, "tick").await?, "ticktick");
    /// # transport.stop(Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`serve_calls`](Transport::serve_calls).
    pub fn serve_fn<S, F>(
        &self,
        group: GroupId,
        limit: usize,
        serve: S,
    ) -> Result<(), RegisterError>
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        let begin = serving(limit, move |call| {
            let span = call.span();
            // Without a trace, the future is not made larger by what a trace needs.
            match span.is_none() {
                true => run_here(until_over(call, &serve)),
                false => run_here(span.wrap(span.in_scope(|| until_over(call, &serve)))),
            }
        });
        self.serve_with(group, begin)
    }

    /// As [`serve_fn`](Transport::serve_fn), but runs the futures on a runtime of the caller's, which may have many
    /// threads. `serve` itself is called on the arbiter that has read the call.
    ///
    /// # Errors
    ///
    /// As for [`serve_calls`](Transport::serve_calls).
    pub fn serve_fn_on<S, F>(
        &self,
        runtime: tokio::runtime::Handle,
        group: GroupId,
        limit: usize,
        serve: S,
    ) -> Result<(), RegisterError>
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let begin = serving(limit, move |call| {
            let span = call.span();
            match span.is_none() {
                true => drop(runtime.spawn(until_over(call, &serve))),
                false => drop(runtime.spawn(span.wrap(span.in_scope(|| until_over(call, &serve))))),
            }
        });
        self.serve_with(group, begin)
    }

    /// Serves the calls of `group` no more. Returns whether they were served. Calls that a handler has are not ended.
    pub fn unserve_calls(&self, group: GroupId) -> bool {
        self.0.receive.calls.services.unserve(group)
    }

    #[cfg(feature = "remote")]
    pub(crate) fn services(&self) -> &Services {
        &self.0.receive.calls.services
    }

    fn serve_with(
        &self,
        group: GroupId,
        begin: impl Fn(Call) + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        let handler = CallHandler::Function(Arc::new(begin));
        self.0.receive.calls.services.serve(group, handler)
    }
}

/// Polls a future, and lets the arbiter run what is left of it.
fn run_here<F: Future<Output = ()> + 'static>(serving: F) {
    if let Some(serving) = poll_once(serving) {
        actix_rt::spawn(serving);
    }
}
