//! The messages to [`Node`] that do what [`Transport::serve`](crate::Transport::serve) and
//! [`Transport::unserve`](crate::Transport::unserve) do.

use std::{fmt, marker::PhantomData};

use actix::{Context, Handler, Message, Recipient};

use crate::{
    api::node::Node,
    error::RegisterError,
    ids::GroupId,
    remote::{
        message::RemoteMessage,
        serve::{serve, unserve},
    },
};

/// A message to [`Node`]: lets an actor serve typed messages that other nodes send to a group; see [`Transport::serve`](crate::Transport::serve).
pub struct Serve<M: RemoteMessage> {
    /// The group that the messages are for.
    pub group: GroupId,
    /// Who serves them.
    pub actor: Recipient<M>,
}

impl<M: RemoteMessage> Message for Serve<M> {
    type Result = Result<(), RegisterError>;
}

impl<M: RemoteMessage> Handler<Serve<M>> for Node {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, message: Serve<M>, _: &mut Context<Self>) -> Self::Result {
        serve(self.services(), message.group, message.actor)
    }
}

impl<M: RemoteMessage> fmt::Debug for Serve<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("message", &std::any::type_name::<M>())
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// A message to [`Node`]: serves typed messages in a group no more, and returns whether they were served; see
/// [`Transport::unserve`](crate::Transport::unserve).
pub struct Unserve<M> {
    group: GroupId,
    message: PhantomData<fn(M)>,
}

impl<M: RemoteMessage> Unserve<M> {
    /// Returns the message for this group.
    pub fn new(group: GroupId) -> Self {
        Unserve {
            group,
            message: PhantomData,
        }
    }
}

impl<M: RemoteMessage> Message for Unserve<M> {
    type Result = bool;
}

impl<M: RemoteMessage> Handler<Unserve<M>> for Node {
    type Result = bool;

    fn handle(&mut self, message: Unserve<M>, _: &mut Context<Self>) -> bool {
        unserve::<M>(self.services(), message.group)
    }
}

impl<M> fmt::Debug for Unserve<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unserve")
            .field("message", &std::any::type_name::<M>())
            .field("group", &self.group)
            .finish()
    }
}
