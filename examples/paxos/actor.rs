//! The actor around a replica: frames in, frames out, a timer, and the clients' answers.
//!
//! One actor is one replica of one group, registered with its node's transport under that group.
//! The transport hands over what one read held for the group as one message, so the votes for a
//! batch of proposals go out together by themselves.

use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult};
use actix_transport::Inbound;

use crate::{
    links::Links,
    message::{self, NodeId, Value},
    replica::{Outbox, Replica, To},
    store::{Outcome, Store},
};

/// Short against all of a replica's patience, and cheap: 300 actors make 6,000 ticks a second.
const TICK: Duration = Duration::from_millis(50);

pub(crate) struct ReplicaActor {
    replica: Replica,
    store: Store,
    /// Slots handed to the store so far.
    applied: usize,
    /// None until all nodes are there, so that no replica stands before the others can hear it.
    /// What it answers until then waits in `out`.
    links: Option<Links>,
    out: Outbox,
}

impl ReplicaActor {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            replica,
            store: Store::default(),
            applied: 0,
            links: None,
            out: Outbox::default(),
        }
    }

    fn tick(&mut self) {
        if self.links.is_some() {
            self.replica.tick(Instant::now(), &mut self.out);
            self.flush();
        }
    }

    /// Applies what is newly decided and sends what the replica wants sent.
    fn flush(&mut self) {
        let Some(links) = &mut self.links else { return };
        for (to, message) in self.out.drain() {
            match to {
                To::One(node) => links.send(node, &message),
                To::Others => links.send_others(&message),
            }
        }
        // All replicas apply, the leader answers. If it loses the lead first, nobody does: the
        // client asks again, and that proposal is answered without being applied twice.
        for value in &self.replica.log()[self.applied..] {
            let (Outcome::Applied(request) | Outcome::Again(request)) = self.store.apply(value)
            else {
                continue;
            };
            if self.replica.leads() {
                links.send(NodeId::CLIENTS, &message::Message::Decided { request });
            }
        }
        self.applied = self.replica.log().len();
    }
}

impl Actor for ReplicaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, _| actor.tick());
    }
}

impl Handler<Inbound> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Self::Context) {
        let now = Instant::now();
        for frame in inbound {
            // A frame that is no message is as good as lost.
            if let Ok((from, message)) = message::Message::decode(&frame) {
                self.replica.on(from, message, now, &mut self.out);
            }
        }
        self.flush();
    }
}

/// The way to the other nodes, when the node starts and whenever it binds anew.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Connect(pub(crate) Links);

impl Handler<Connect> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Self::Context) {
        self.links = Some(links);
        self.tick();
    }
}

/// Asks a replica how it stands.
#[derive(Message)]
#[rtype(result = "Status")]
pub(crate) struct Ask;

#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) struct Status {
    pub(crate) leads: bool,
    pub(crate) slots: usize,
    pub(crate) under_way: usize,
}

impl Handler<Ask> for ReplicaActor {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> Self::Result {
        MessageResult(Status {
            leads: self.replica.leads(),
            slots: self.replica.log().len(),
            under_way: self.replica.under_way(),
        })
    }
}

/// Ends a replica, which hands over what it has.
#[derive(Message)]
#[rtype(result = "Legacy")]
pub(crate) struct Retire;

pub(crate) struct Legacy {
    pub(crate) log: Vec<Value>,
    /// How many requests the replica has applied while it lived.
    pub(crate) applied: u64,
}

impl Handler<Retire> for ReplicaActor {
    type Result = MessageResult<Retire>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        MessageResult(Legacy {
            log: self.replica.log().to_vec(),
            applied: self.store.applied(),
        })
    }
}
