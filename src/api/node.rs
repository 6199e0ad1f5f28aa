//! The node as an actor: the transport's face for those who hold only actix types.
//!
//! Owns nothing but its life. The table of groups that inbound frames are addressed to lives in
//! `groups`, outside of any actor, so that it outlives this one and can be read without asking it.

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult, Recipient};
use bytes::Bytes;

use crate::{
    error::{RegisterError, SendError},
    ids::GroupId,
    observe::event::PeerEvent,
    receive::groups::{Group, GroupOverflow},
    receive::inbound::Inbound,
    runtime::failpoints::Failpoint,
    runtime::shared::Shared,
    runtime::supervision::{Lifeline, Supervised, live},
    send::peers::Peers,
};

/// The actor to talk to where a user holds only actix types: it takes [`Register`], [`Replace`],
/// [`Unregister`], [`Subscribe`] and [`SendFrame`], which do what the methods of [`Transport`](crate::Transport) do.
///
/// Like every actor of the transport it is started anew if it ends unasked, which the registrations
/// survive. An `Addr` of its former life is then closed;
/// [`Transport::node`](crate::Transport::node) returns the present one.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    lifeline: Lifeline,
}

impl Node {
    pub(crate) fn start(shared: Arc<Shared>, peers: Arc<Peers>, lifeline: Lifeline) -> Addr<Self> {
        let node = Node {
            shared,
            peers,
            lifeline,
        };
        Actor::start(node)
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        live(
            self,
            ctx,
            async move { shared.killed(Failpoint::Node).await },
        );
    }
}

impl Supervised for Node {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Asks the [`Node`] to let an actor serve a group; see
/// [`Transport::register_with`](crate::Transport::register_with).
#[derive(Debug)]
pub struct Register {
    /// The group to serve.
    pub group: GroupId,
    /// Who serves it.
    pub actor: Recipient<Inbound>,
    /// What happens when the actor is slow.
    pub overflow: GroupOverflow,
}

impl Message for Register {
    type Result = Result<(), RegisterError>;
}

impl Handler<Register> for Node {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, register: Register, _: &mut Context<Self>) -> Self::Result {
        let row = Group::new(register.actor, register.overflow);
        self.shared.groups.register(register.group, row)
    }
}

/// Asks the [`Node`] to put another actor in the place of the one that serves a group, and returns
/// that one; see [`Transport::replace`](crate::Transport::replace).
#[derive(Debug)]
pub struct Replace {
    /// The group to serve.
    pub group: GroupId,
    /// Who serves it from now on.
    pub actor: Recipient<Inbound>,
}

impl Message for Replace {
    type Result = Result<Option<Recipient<Inbound>>, RegisterError>;
}

impl Handler<Replace> for Node {
    type Result = Result<Option<Recipient<Inbound>>, RegisterError>;

    fn handle(&mut self, replace: Replace, _: &mut Context<Self>) -> Self::Result {
        let old = self.shared.groups.replace(replace.group, replace.actor)?;
        Ok(old.map(|row| row.actor.clone()))
    }
}

/// Asks the [`Node`] to take a group out of the table; see [`Transport::unregister`](crate::Transport::unregister).
#[derive(Debug, Copy, Clone)]
pub struct Unregister {
    /// The group that is not served any more.
    pub group: GroupId,
}

impl Message for Unregister {
    type Result = Option<Recipient<Inbound>>;
}

impl Handler<Unregister> for Node {
    type Result = MessageResult<Unregister>;

    fn handle(&mut self, unregister: Unregister, _: &mut Context<Self>) -> Self::Result {
        let row = self.shared.groups.unregister(unregister.group);
        MessageResult(row.map(|row| row.actor.clone()))
    }
}

/// Asks the [`Node`] to tell an actor what happens; see [`Transport::subscribe`](crate::Transport::subscribe).
#[derive(Debug)]
pub struct Subscribe {
    /// Who is told.
    pub observer: Recipient<PeerEvent>,
}

impl Message for Subscribe {
    type Result = ();
}

impl Handler<Subscribe> for Node {
    type Result = ();

    fn handle(&mut self, subscribe: Subscribe, _: &mut Context<Self>) {
        actix_rt::spawn(self.shared.events.subscribe(subscribe.observer));
    }
}

/// Asks the [`Node`] to send a frame; see [`Transport::try_send`](crate::Transport::try_send). One actix message a frame costs
/// more than the rest of the way: where it matters, hold a [`Peer`](crate::Peer).
#[derive(Debug)]
pub struct SendFrame {
    /// Where the receiving node listens.
    pub peer: SocketAddr,
    /// Which of its groups the frame is for.
    pub group: GroupId,
    /// What it carries.
    pub payload: Bytes,
}

impl Message for SendFrame {
    type Result = Result<(), SendError<Bytes>>;
}

impl Handler<SendFrame> for Node {
    type Result = Result<(), SendError<Bytes>>;

    fn handle(&mut self, send: SendFrame, _: &mut Context<Self>) -> Self::Result {
        self.peers.try_send(send.peer, send.group, send.payload)
    }
}
