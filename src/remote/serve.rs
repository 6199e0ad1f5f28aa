//! Who serves which typed messages.

use std::{any::Any, sync::Arc};

use actix::Recipient;

use crate::{
    api::{
        builder::{Builder, ServedFirst},
        transport::Transport,
    },
    error::RegisterError,
    ids::GroupId,
    receive::services::{Messages, Services},
    remote::{
        message::RemoteMessage,
        messages::{GroupMessages, ServedMessage},
        served::ServedBy,
        traced::Traced,
    },
};

impl Transport {
    /// Lets `actor` serve messages of type `M` that other nodes send to `group`
    /// ([`Peer::recipient`](crate::Peer::recipient)). Takes an [`Addr`](actix::Addr) or a [`Recipient`].
    ///
    /// A group can serve several types of messages, by one actor or several; each has an
    /// [id](RemoteMessage::ID) of its own. They are the calls of the group, so it cannot be served by
    /// [`serve_calls`](Transport::serve_calls) or [`serve_fn`](Transport::serve_fn) at the same time. To serve them from
    /// the first one on, use [`Builder::serve`].
    ///
    /// The message is decoded on the arbiter that has read it, and its result is encoded on that of the actor. As with
    /// other calls, the bound is [`Config::served_call_bytes`](crate::Config::served_call_bytes) and not the mailbox. A
    /// message that is too late or was given up before the actor comes to it is handled by nobody. If the actor ends,
    /// those that it has fail with [`CallError::Unanswered`](crate::CallError::Unanswered), further ones with
    /// [`CallError::NoHandler`](crate::CallError::NoHandler), and another actor may serve them.
    ///
    /// Messages that are not served, that are newer than `M`, or that cannot be decoded, are refused with an error for
    /// their callers, and counted ([`ServedStats::not_understood`](crate::ServedStats::not_understood)). The actor hears
    /// nothing of them.
    ///
    /// # Errors
    ///
    /// If messages with this id are served already by an actor that runs, or if the group's calls are served in another
    /// way, or the group is reserved, or the transport has stopped.
    pub fn serve<M: RemoteMessage>(
        &self,
        group: GroupId,
        actor: impl Into<Recipient<M>>,
    ) -> Result<(), RegisterError> {
        serve(self.services(), group, actor.into())
    }

    /// As [`serve`](Transport::serve), for an actor that handles the message together with the span of its call, because
    /// it cannot be entered for it: [`Traced`]. Calls that the handler makes in the span belong to the caller's trace.
    ///
    /// # Errors
    ///
    /// As for [`serve`](Transport::serve).
    pub fn serve_traced<M: RemoteMessage>(
        &self,
        group: GroupId,
        actor: impl Into<Recipient<Traced<M>>>,
    ) -> Result<(), RegisterError> {
        serve_by(self.services(), group, ServedBy::Traced(actor.into()))
    }

    /// Serves messages of type `M` in `group` no more. Returns whether they were served. Those that the actor has are not
    /// ended.
    pub fn unserve<M: RemoteMessage>(&self, group: GroupId) -> bool {
        unserve::<M>(self.services(), group)
    }
}

impl Builder {
    /// Lets `actor` serve messages of type `M` that other nodes send to `group`, from the first one on; see
    /// [`Transport::serve`]. If the group is reserved, or one of its messages is given twice, or its calls are served in
    /// another way, [`bind`](Builder::bind) says so.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_transport::{GroupId, Identity, NodeId, RemoteMessage, Shutdown, Transport};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Message, RemoteMessage, Serialize, Deserialize)]
    /// # #[rtype(result = "String")]
    /// # #[remote(id = 7)]
    /// # struct Get(String);
    /// # struct Store;
    /// # impl Actor for Store {
    /// #     type Context = Context<Self>;
    /// # }
    /// # impl Handler<Get> for Store {
    /// #     type Result = String;
    /// #     fn handle(&mut self, Get(key): Get, _: &mut Context<Self>) -> String {
    /// #         key
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # System::new().block_on(async {
    /// let transport = Transport::builder()
    ///     .identity(Identity::new(NodeId::new(1)))
    ///     .serve::<Get>(GroupId::new(3), Store.start())
    ///     .bind("127.0.0.1:0")?;
    /// # transport.stop(Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn serve<M: RemoteMessage>(
        mut self,
        group: GroupId,
        actor: impl Into<Recipient<M>>,
    ) -> Self {
        let actor = actor.into();
        let first = move |services: &Services| serve(services, group, actor.clone());
        self.messages.push(ServedFirst(Arc::new(first)));
        self
    }

    /// As [`serve`](Builder::serve), for an actor that handles the message together with the span of its call; see
    /// [`Transport::serve_traced`].
    #[must_use]
    pub fn serve_traced<M: RemoteMessage>(
        mut self,
        group: GroupId,
        actor: impl Into<Recipient<Traced<M>>>,
    ) -> Self {
        let actor = actor.into();
        let first =
            move |services: &Services| serve_by(services, group, ServedBy::Traced(actor.clone()));
        self.messages.push(ServedFirst(Arc::new(first)));
        self
    }
}

pub(super) fn serve<M: RemoteMessage>(
    services: &Services,
    group: GroupId,
    actor: Recipient<M>,
) -> Result<(), RegisterError> {
    serve_by(services, group, ServedBy::Plain(actor))
}

fn serve_by<M: RemoteMessage>(
    services: &Services,
    group: GroupId,
    actor: ServedBy<M>,
) -> Result<(), RegisterError> {
    let message: Arc<dyn ServedMessage> = Arc::new(actor);
    let messages = GroupMessages::default();
    messages.add(M::ID, message.clone());
    let taken = RegisterError::TakenMessage { group, id: M::ID };
    let add = |known: &dyn Messages| of_this_room(known).and_then(|it| it.add(M::ID, message));
    let added =
        services.serve_messages(group, Arc::new(messages), |known| add(known).ok_or(taken))?;
    drop(added);
    Ok(())
}

pub(super) fn unserve<M: RemoteMessage>(services: &Services, group: GroupId) -> bool {
    let former = services.change_messages(group, |known| {
        of_this_room(known).and_then(|it| it.remove(M::ID))
    });
    former.flatten().is_some()
}

/// Only this room makes them.
fn of_this_room(messages: &dyn Messages) -> Option<&GroupMessages> {
    (messages as &dyn Any).downcast_ref()
}
