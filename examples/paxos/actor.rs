//! The actor around a replica: passes frames and timer ticks to it, sends its messages and answers
//! the clients. The protocol itself is in `replica.rs`.
//!
//! One actor is one replica of one group, registered with its node's transport under that group.
//! The transport delivers all frames for a group that came in one read as one actix message, so
//! the votes for these frames leave in few frames.

use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult};
use actix_transport::Inbound;

use crate::{
    links::Links,
    message::{self, NodeId},
    replica::{Outbox, Replica, To},
    store::{Outcome, Store},
    value::Value,
};

/// Short compared with all timeouts of a replica, and cheap: 300 actors make 6,000 ticks a second.
const TICK: Duration = Duration::from_millis(50);

pub(crate) struct ReplicaActor {
    replica: Replica,
    store: Store,
    /// Number of instances that the store has received so far.
    applied: usize,
    /// `None` until all nodes have started, so that no replica starts an election which the others
    /// cannot receive. Until then the replica's messages wait in `out`.
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

    /// Sends the replica's messages and applies the newly chosen values.
    fn flush(&mut self) {
        let Some(links) = &mut self.links else { return };
        for (to, message) in self.out.drain() {
            match to {
                To::One(node) => links.send(node, message),
                To::Others => links.send_others(message),
            }
        }
        // All replicas apply a value; the leader answers. If it loses the lead before it can
        // answer, no replica does. The client then asks again and gets its answer; the store does
        // not apply the request a second time.
        for value in &self.replica.log()[self.applied..] {
            let (Outcome::Applied(request) | Outcome::Duplicate(request)) = self.store.apply(value)
            else {
                continue;
            };
            if self.replica.is_leader() {
                links.send(NodeId::CLIENTS, message::Message::Decided { request });
            }
        }
        links.flush();
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
            // A frame that cannot be decoded counts as lost.
            if let Ok((from, message)) = message::Message::decode(&frame) {
                self.replica.on(from, message, now, &mut self.out);
            }
        }
        self.flush();
    }
}

/// Gives a replica its links: once when the node starts, and again after each bind.
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

/// Asks a replica for its status.
#[derive(Message)]
#[rtype(result = "Status")]
pub(crate) struct Ask;

#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) struct Status {
    pub(crate) is_leader: bool,
    pub(crate) instances: usize,
    pub(crate) open_proposals: usize,
}

impl Handler<Ask> for ReplicaActor {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> Self::Result {
        MessageResult(Status {
            is_leader: self.replica.is_leader(),
            instances: self.replica.log().len(),
            open_proposals: self.replica.open_proposals(),
        })
    }
}

/// Stops a replica and returns its log.
#[derive(Message)]
#[rtype(result = "ReplicaReport")]
pub(crate) struct Retire;

pub(crate) struct ReplicaReport {
    pub(crate) log: Vec<Value>,
    /// Number of requests that this replica has applied.
    pub(crate) applied: u64,
}

impl Handler<Retire> for ReplicaActor {
    type Result = MessageResult<Retire>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        MessageResult(ReplicaReport {
            log: self.replica.log().to_vec(),
            applied: self.store.applied(),
        })
    }
}
