//! The `Node`: an actor that offers some methods of `Transport` as actix messages.
//!
//! It owns no state. The table of groups that inbound frames are addressed to lives in `groups`, outside
//! of any actor, so that it survives a restart and can be read without asking anybody.

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, Context, Handler, Message, MessageResult, Recipient};
use bytes::Bytes;

use crate::{
    error::{RegisterError, SendError},
    ids::GroupId,
    observe::{event::PeerEvent, reporter::Reporter},
    peer_addr::PeerAddr,
    receive::{
        call::Call,
        context::ReceiveContext,
        groups::{Group, GroupOverflow},
        inbound::Inbound,
        services::{CallHandler, Services},
    },
    runtime::{
        failpoints::{Failpoint, Failpoints},
        supervision::{Lifeline, Supervised, live, until_all_ends},
    },
    send::peers::Peers,
};

/// An actor that offers methods of the transport as messages, for code that has an `Addr` and no
/// `Transport`. It handles [`Register`], [`RegisterAll`],
/// [`Replace`], [`Unregister`], [`ServeCalls`], [`UnserveCalls`], [`Subscribe`] and [`SendFrame`], which do what the
/// methods of [`Transport`](crate::Transport) do; and with the feature `remote` also `Serve` and `Unserve`.
///
/// Like every actor of the transport it is started again if it ends unexpectedly; the registrations
/// survive. An `Addr` of its former life is then closed;
/// [`Transport::node`](crate::Transport::node) returns the present one.
#[derive(Debug)]
pub struct Node {
    receive: ReceiveContext,
    peers: Arc<Peers>,
    reporter: Reporter,
    failpoints: Failpoints,
    lifeline: Lifeline,
}

impl Node {
    pub(super) fn new(
        receive: ReceiveContext,
        peers: Arc<Peers>,
        reporter: Reporter,
        failpoints: Failpoints,
        lifeline: Lifeline,
    ) -> Self {
        Node {
            receive,
            peers,
            reporter,
            failpoints,
            lifeline,
        }
    }

    pub(crate) fn services(&self) -> &Services {
        &self.receive.calls.services
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (lifecycle, failpoints) = (self.receive.lifecycle.clone(), self.failpoints.clone());
        live(
            self,
            ctx,
            until_all_ends(lifecycle, failpoints, Failpoint::Node),
        );
    }
}

impl Supervised for Node {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// A message to [`Node`]: registers an actor for a group; see
/// [`Transport::register_with`](crate::Transport::register_with).
#[derive(Debug)]
pub struct Register {
    /// The group to serve.
    pub group: GroupId,
    /// Who serves it.
    pub actor: Recipient<Inbound>,
    /// What happens while the actor is slow.
    pub overflow: GroupOverflow,
}

impl Message for Register {
    type Result = Result<(), RegisterError>;
}

impl Handler<Register> for Node {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, register: Register, _: &mut Context<Self>) -> Self::Result {
        let row = Group::new(register.actor, register.overflow);
        self.receive.groups.register(register.group, row)
    }
}

/// A message to [`Node`]: registers actors for many groups at once; see
/// [`Transport::register_all_with`](crate::Transport::register_all_with).
#[derive(Debug)]
pub struct RegisterAll {
    /// The groups to serve, each with who serves it.
    pub groups: Vec<(GroupId, Recipient<Inbound>)>,
    /// What happens while an actor is slow.
    pub overflow: GroupOverflow,
}

impl Message for RegisterAll {
    type Result = Result<(), RegisterError>;
}

impl Handler<RegisterAll> for Node {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, register: RegisterAll, _: &mut Context<Self>) -> Self::Result {
        let rows = Group::rows(register.groups, register.overflow);
        self.receive.groups.register_all(rows)
    }
}

/// A message to [`Node`]: replaces the actor that serves a group, and returns the old one. See
/// [`Transport::replace`](crate::Transport::replace).
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
        let old = self.receive.groups.replace(replace.group, replace.actor)?;
        Ok(old.map(|row| row.actor.clone()))
    }
}

/// A message to [`Node`]: removes the registration of a group; see
/// [`Transport::unregister`](crate::Transport::unregister).
#[derive(Debug, Copy, Clone)]
pub struct Unregister {
    /// The group whose registration is removed.
    pub group: GroupId,
}

impl Message for Unregister {
    type Result = Option<Recipient<Inbound>>;
}

impl Handler<Unregister> for Node {
    type Result = MessageResult<Unregister>;

    fn handle(&mut self, unregister: Unregister, _: &mut Context<Self>) -> Self::Result {
        let row = self.receive.groups.unregister(unregister.group);
        MessageResult(row.map(|row| row.actor.clone()))
    }
}

/// A message to [`Node`]: lets an actor serve the calls of a group; see
/// [`Transport::serve_calls`](crate::Transport::serve_calls).
#[derive(Debug)]
pub struct ServeCalls {
    /// The group whose calls are served.
    pub group: GroupId,
    /// Who serves them.
    pub actor: Recipient<Call>,
}

impl Message for ServeCalls {
    type Result = Result<(), RegisterError>;
}

impl Handler<ServeCalls> for Node {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, serve: ServeCalls, _: &mut Context<Self>) -> Self::Result {
        let handler = CallHandler::Actor(serve.actor);
        self.services().serve(serve.group, handler)
    }
}

/// A message to [`Node`]: serves the calls of a group no more, and returns whether they were served; see
/// [`Transport::unserve_calls`](crate::Transport::unserve_calls).
#[derive(Debug, Copy, Clone)]
pub struct UnserveCalls {
    /// The group whose calls are served no more.
    pub group: GroupId,
}

impl Message for UnserveCalls {
    type Result = bool;
}

impl Handler<UnserveCalls> for Node {
    type Result = bool;

    fn handle(&mut self, unserve: UnserveCalls, _: &mut Context<Self>) -> bool {
        self.services().unserve(unserve.group)
    }
}

/// A message to [`Node`]: subscribes an actor to the transport's events; see
/// [`Transport::subscribe`](crate::Transport::subscribe).
#[derive(Debug)]
pub struct Subscribe {
    /// Who gets the events.
    pub observer: Recipient<PeerEvent>,
}

impl Message for Subscribe {
    type Result = ();
}

impl Handler<Subscribe> for Node {
    type Result = ();

    fn handle(&mut self, subscribe: Subscribe, _: &mut Context<Self>) {
        actix_rt::spawn(self.reporter.subscribers.add(subscribe.observer));
    }
}

/// A message to [`Node`]: sends a frame; see [`Transport::try_send`](crate::Transport::try_send).
///
/// One actix message per frame costs more than the rest of its way. Where that matters, hold a
/// [`Peer`](crate::Peer).
#[derive(Debug)]
pub struct SendFrame<A = SocketAddr> {
    /// What the peer is called: a `SocketAddr`, or a [`PeerAddr`](crate::PeerAddr).
    pub peer: A,
    /// Which of its groups the frame is for.
    pub group: GroupId,
    /// The payload of the frame.
    pub payload: Bytes,
}

impl<A> Message for SendFrame<A> {
    type Result = Result<(), SendError<Bytes>>;
}

impl<A: Into<PeerAddr> + 'static> Handler<SendFrame<A>> for Node {
    type Result = Result<(), SendError<Bytes>>;

    fn handle(&mut self, send: SendFrame<A>, _: &mut Context<Self>) -> Self::Result {
        self.peers
            .try_send(&send.peer.into(), send.group, send.payload)
    }
}
