//! [`RemoteRecipient`]: the handle to send one kind of message to a group of another node.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::{
    ids::GroupId,
    remote::{
        error::{RemoteError, RemoteSendError},
        message::RemoteMessage,
        request::{RemoteRequest, message_call},
    },
    runtime::self_driven::{self, Alone},
    send::{peer::Peer, queue::WhenFull},
};

impl Peer {
    /// Returns a handle to send messages of this type to the actor that serves them in `group` on the other node
    /// ([`Transport::serve`](crate::Transport::serve)). They go on the lane of this [`Peer`].
    ///
    /// Both nodes need an identity, as for [`call`](Peer::call).
    pub fn recipient<M: RemoteMessage>(&self, group: GroupId) -> RemoteRecipient<M> {
        RemoteRecipient {
            peer: self.clone(),
            group,
            message: PhantomData,
        }
    }
}

/// A handle to an actor of another node that handles messages of one type. It has the three verbs of an actix
/// [`Recipient`](actix::Recipient).
///
/// Each message is a call ([`Peer::call`]): it has a deadline, is handled once at most, and keeps its order with other
/// calls of the lane. Dropping the future gives the message up: if no handler has it yet, none will.
///
/// Cheap to clone, and usable from any thread.
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::{GroupId, Identity, NodeId, RemoteMessage, Shutdown, Transport};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// #[rtype(result = "Result<u64, String>")]
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
///     type Result = Result<u64, String>;
///
///     fn handle(&mut self, Add(more): Add, _: &mut Context<Self>) -> Self::Result {
///         self.0 = self.0.checked_add(more).ok_or("too much")?;
///         Ok(self.0)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # System::new().block_on(async {
/// # let node = |id| Transport::builder().identity(Identity::new(NodeId::new(id))).bind("127.0.0.1:0");
/// # let (here, there) = (node(1)?, node(2)?);
/// let group = GroupId::new(3);
/// there.serve::<Add>(group, Counter::default().start())?;
///
/// let counter = here.peer(there.local_addr())?.recipient::<Add>(group);
/// assert_eq!(counter.send(Add(2)).await?, Ok(2));
/// counter.do_send(Add(3)); // no result is wanted
/// assert_eq!(counter.send(Add(u64::MAX)).await?, Err("too much".into())); // what the handler says
/// # here.stop(Shutdown::Now).await;
/// # there.stop(Shutdown::Now).await;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct RemoteRecipient<M> {
    peer: Peer,
    group: GroupId,
    message: PhantomData<fn(M)>,
}

impl<M: RemoteMessage> RemoteRecipient<M> {
    /// Sends a message, and returns a future of what its handler returns. Encodes the message now, and sends it when the
    /// future is polled first. Waits for room, as [`Peer::call`] does.
    ///
    /// # Errors
    ///
    /// See [`RemoteError`]. An `Err` that the handler returns is in the `Ok`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as with actix, the message is gone"
    )]
    pub fn send(&self, message: M) -> RemoteRequest<M> {
        RemoteRequest::new(&self.peer, self.group, &message)
    }

    /// Sends a message if there is room for it now. Its result is not wanted.
    ///
    /// `Ok` means that it is queued. What becomes of it is counted in [`Stats::calls`](crate::Stats::calls): it is a call
    /// with the usual deadline ([`Config::call_deadline`](crate::Config::call_deadline)) whose answer nobody reads. It
    /// counts as one of the calls that may wait for answers until that comes.
    ///
    /// # Errors
    ///
    /// Gives the message back if it was refused: if there is no room, it cannot be encoded, or the transport has stopped.
    pub fn try_send(&self, message: M) -> Result<(), RemoteSendError<M>> {
        match self.send_now(&message) {
            Ok(()) => Ok(()),
            Err(error) => Err(RemoteSendError { error, message }),
        }
    }

    /// Sends a message whose result is not wanted, and ignores errors. It is still counted in
    /// [`Stats::calls`](crate::Stats::calls), as answered or by the reason why not. If there is no room, it is not sent,
    /// and counted as [`CallFailures::full`](crate::CallFailures::full): unlike the mailbox of an actor, the queue to
    /// another node has a bound for everybody.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as with actix, the message is gone"
    )]
    pub fn do_send(&self, message: M) {
        let _ = self.send_now(&message);
    }

    /// Returns the group that the messages are for.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Returns the peer that the messages are for.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn send_now(&self, message: &M) -> Result<(), RemoteError> {
        let mut call = message_call(&self.peer, self.group, message, WhenFull::Refuse)?;
        match Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(why)) => return Err(RemoteError::of::<M>(why)),
            Poll::Ready(Ok(_)) => {}
            // The thread that reads the answer also drops it. No task waits for that.
            Poll::Pending => self_driven::start(&Alone::new(), async move { drop(call.await) }),
        }
        Ok(())
    }
}

impl<M> Clone for RemoteRecipient<M> {
    fn clone(&self) -> Self {
        RemoteRecipient {
            peer: self.peer.clone(),
            group: self.group,
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for RemoteRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRecipient")
            .field("message", &std::any::type_name::<M>())
            .field("peer", &self.peer)
            .field("group", &self.group)
            .finish()
    }
}
