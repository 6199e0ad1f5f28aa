//! [`RemoteAddr`]: the handle to an actor of another node, for all messages that it serves.

use std::{fmt, marker::PhantomData};

use actix::{Actor, Handler};

use crate::{
    ids::GroupId,
    remote::{
        error::RemoteSendError, message::RemoteMessage, recipient::RemoteRecipient,
        request::RemoteRequest,
    },
    send::peer::Peer,
};

impl Peer {
    /// Returns a handle to the actor of type `A` that serves `group` on the other node, for all messages that it handles.
    pub fn remote_addr<A: Actor>(&self, group: GroupId) -> RemoteAddr<A> {
        RemoteAddr {
            peer: self.clone(),
            group,
            actor: PhantomData,
        }
    }
}

/// A handle to an actor of another node, with the three verbs of an actix [`Addr`](actix::Addr). It takes each message
/// that `A` handles; the other node must serve it ([`Transport::serve`](crate::Transport::serve)), or else the caller
/// gets [`RemoteError::Unknown`](crate::RemoteError::Unknown).
///
/// This node needs the type of the actor, and no actor of that type. Cheap to clone, and usable from any thread.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_transport::{GroupId, Identity, NodeId, RemoteMessage, Shutdown, Transport};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// # #[rtype(result = "Option<String>")]
/// # #[remote(id = 1)]
/// # struct Get(String);
/// # #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// # #[rtype(result = "()")]
/// # #[remote(id = 2)]
/// # struct Put(String, String);
/// # #[derive(Default)]
/// # struct Store(std::collections::HashMap<String, String>);
/// # impl Actor for Store {
/// #     type Context = Context<Self>;
/// # }
/// # impl Handler<Get> for Store {
/// #     type Result = Option<String>;
/// #     fn handle(&mut self, Get(key): Get, _: &mut Context<Self>) -> Self::Result {
/// #         self.0.get(&key).cloned()
/// #     }
/// # }
/// # impl Handler<Put> for Store {
/// #     type Result = ();
/// #     fn handle(&mut self, Put(key, value): Put, _: &mut Context<Self>) {
/// #         self.0.insert(key, value);
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # System::new().block_on(async {
/// # let node = |id| Transport::builder().identity(Identity::new(NodeId::new(id))).bind("127.0.0.1:0");
/// # let (here, there) = (node(1)?, node(2)?);
/// let group = GroupId::new(3);
/// let addr = Store::default().start();
/// there.serve::<Get>(group, addr.clone())?;
/// there.serve::<Put>(group, addr)?;
///
/// let store = here.peer(there.local_addr())?.remote_addr::<Store>(group);
/// store.send(Put("colour".into(), "red".into())).await?;
/// assert_eq!(store.send(Get("colour".into())).await?.as_deref(), Some("red"));
/// # here.stop(Shutdown::Now).await;
/// # there.stop(Shutdown::Now).await;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct RemoteAddr<A> {
    peer: Peer,
    group: GroupId,
    actor: PhantomData<fn(A)>,
}

impl<A: Actor> RemoteAddr<A> {
    /// As [`RemoteRecipient::send`].
    ///
    /// # Errors
    ///
    /// As there.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as with actix, the message is gone"
    )]
    pub fn send<M: RemoteMessage>(&self, message: M) -> RemoteRequest<M>
    where
        A: Handler<M>,
    {
        RemoteRequest::new(&self.peer, self.group, &message)
    }

    /// As [`RemoteRecipient::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send<M: RemoteMessage>(&self, message: M) -> Result<(), RemoteSendError<M>>
    where
        A: Handler<M>,
    {
        self.recipient().try_send(message)
    }

    /// As [`RemoteRecipient::do_send`].
    pub fn do_send<M: RemoteMessage>(&self, message: M)
    where
        A: Handler<M>,
    {
        self.recipient().do_send(message);
    }

    /// Returns a handle to the same actor for messages of one type.
    pub fn recipient<M: RemoteMessage>(&self) -> RemoteRecipient<M>
    where
        A: Handler<M>,
    {
        self.peer.recipient(self.group)
    }
}

impl<A> Clone for RemoteAddr<A> {
    fn clone(&self) -> Self {
        RemoteAddr {
            peer: self.peer.clone(),
            group: self.group,
            actor: PhantomData,
        }
    }
}

impl<A> fmt::Debug for RemoteAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAddr")
            .field("actor", &std::any::type_name::<A>())
            .field("peer", &self.peer)
            .field("group", &self.group)
            .finish()
    }
}
