//! The actor around a replica: passes frames and timer ticks to it, sends its messages and answers
//! the clients. The protocol itself is in `replica.rs`.
//!
//! One actor is one replica of one group, registered with its node's transport under that group.
//! The transport delivers all frames for a group that came in one read as one actix message, so
//! the votes for these frames leave in few frames. Clients call the replica: each call is an actix
//! message of its own.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult};
use actix_transport::{Call, Inbound};

use crate::{
    links::Links,
    message,
    replica::{Outbox, Replica, To},
    store::{Outcome, Store},
    value::{Request, Value},
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
    /// Calls whose values are proposed. If a client has called twice for a request, the second call.
    calls: HashMap<Request, Call>,
    /// Whether a [`Flush`] is on its way.
    flushing: bool,
}

impl ReplicaActor {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            replica,
            store: Store::default(),
            applied: 0,
            links: None,
            out: Outbox::default(),
            calls: HashMap::new(),
            flushing: false,
        }
    }

    fn tick(&mut self) {
        self.calls.retain(|_, call| !call.is_cancelled());
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
        links.flush();
        // All replicas apply a value; the one that was called for it answers.
        for value in &self.replica.log()[self.applied..] {
            if let Outcome::Applied(request) | Outcome::Duplicate(request) = self.store.apply(value)
                && let Some(call) = self.calls.remove(&request)
            {
                call.reply("");
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
            // A frame that cannot be decoded counts as lost.
            if let Ok((from, message)) = message::Message::decode(&frame) {
                self.replica.on(from, message, now, &mut self.out);
            }
        }
        self.flush();
    }
}

/// The code of a failed call if this replica knows no leader. Otherwise the code is the number of the leader.
const NO_LEADER: u32 = u32::MAX;

impl Handler<Call> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Self::Context) {
        let value = Value::received(call.payload(), call.payload());
        // What is not a request gets no answer, which its caller hears.
        let Some(request) = value.request() else {
            return;
        };
        let proposed = self
            .replica
            .on_propose(value, Instant::now(), &mut self.out);
        if let Err(leader) = proposed {
            let code = leader.map_or(NO_LEADER, |leader| leader.index() as u32);
            return call.fail(code, "the value is not proposed");
        }
        self.calls.insert(request, call);
        // Sends the proposals of all calls that wait in the mailbox at once.
        if !mem::replace(&mut self.flushing, true) {
            ctx.notify(Flush);
        }
    }
}

/// Sends what a replica has to send. It is handled when the mailbox is empty.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        self.flushing = false;
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
