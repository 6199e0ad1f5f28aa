//! The load on one group: sessions that each ask for one thing, wait for the answer, ask again.
//!
//! The clients of all groups share a transport of their own and speak to the replicas over the
//! wire only. They learn who leads a group by asking the wrong replica, or by getting no answer.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult};
use actix_transport::Inbound;
use hdrhistogram::Histogram;

use crate::{
    links::Links,
    message::{self, NodeId, Request, Value},
};

/// A request without an answer for this long is sent again. Far above the latency of a group that
/// has a leader, and below the time a group takes to find a new one.
const REPEAT: Duration = Duration::from_millis(200);

/// How often to look for such requests.
const TICK: Duration = Duration::from_millis(50);

/// Longest latency on record, in microseconds. Whatever takes longer counts as this.
const LONGEST: u64 = 60_000_000;

pub(crate) struct Client {
    links: Links,
    /// Who is believed to lead.
    leader: NodeId,
    /// The last time the leader gave an answer, or was first believed to be the leader.
    heard: Instant,
    sessions: Vec<Session>,
    payload: usize,
    holding: bool,
    latency: Histogram<u64>,
    decided: u64,
    last_decided: Instant,
    longest_pause: Duration,
    repeated: HashSet<Request>,
}

struct Session {
    /// The latest request, and whether it still has no answer.
    request: Request,
    open: bool,
    asked: Instant,
    /// When it was asked most recently: later than `asked` if it had to be repeated.
    sent: Instant,
}

impl Client {
    /// A client whose `sessions` start to ask when the actor starts.
    pub(crate) fn new(links: Links, leader: NodeId, sessions: u32, payload: usize) -> Self {
        let now = Instant::now();
        let session = |session| Session {
            request: Request { session, number: 0 },
            open: false,
            asked: now,
            sent: now,
        };
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            links,
            leader,
            heard: now,
            sessions: (0..sessions).map(session).collect(),
            payload,
            holding: false,
            latency: latency.expect("1 to a minute, to three digits, are valid bounds"),
            decided: 0,
            last_decided: now,
            longest_pause: Duration::ZERO,
            repeated: HashSet::new(),
        }
    }

    fn on_decided(&mut self, from: NodeId, request: Request, now: Instant) {
        if from == self.leader {
            self.heard = now;
        }
        let index = request.session as usize;
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        // A request that was sent twice may be answered twice.
        if !session.open || session.request != request {
            return;
        }
        session.open = false;
        let latency = now.duration_since(session.asked).as_micros();
        self.latency.saturating_record(latency as u64);
        self.decided += 1;
        self.longest_pause = self
            .longest_pause
            .max(now.duration_since(self.last_decided));
        self.last_decided = now;
        if !self.holding {
            self.ask_next(index, now);
        }
    }

    /// Goes where `from` points, with everything that is still open. Only the first of a pile of
    /// redirections counts: after it, `from` is no longer who was believed to lead.
    fn on_redirect(&mut self, from: NodeId, leader: NodeId, now: Instant) {
        if from == self.leader && leader != from {
            self.leader = leader;
            self.heard = now;
            self.repeat(now, |session| session.open);
        }
    }

    fn tick(&mut self, now: Instant) {
        let overdue =
            |session: &Session| session.open && now.duration_since(session.sent) >= REPEAT;
        if !self.sessions.iter().any(overdue) {
            return;
        }
        // A leader that answers others has lost a frame; one that answers nobody is lost itself.
        if now.duration_since(self.heard) >= REPEAT {
            self.leader = NodeId::replica(self.leader.index() + 1);
            self.heard = now;
        }
        self.repeat(now, overdue);
    }

    fn ask_next(&mut self, index: usize, now: Instant) {
        let session = &mut self.sessions[index];
        session.request.number += 1;
        session.open = true;
        session.asked = now;
        session.sent = now;
        let value = Value::new(session.request, self.payload);
        self.links
            .send(self.leader, &message::Message::Propose { value });
    }

    fn repeat(&mut self, now: Instant, which: impl Fn(&Session) -> bool) {
        for session in self.sessions.iter_mut().filter(|session| which(session)) {
            session.sent = now;
            self.repeated.insert(session.request);
            let value = Value::new(session.request, self.payload);
            self.links
                .send(self.leader, &message::Message::Propose { value });
        }
    }
}

impl Actor for Client {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |client, _| client.tick(Instant::now()));
        let now = Instant::now();
        for index in 0..self.sessions.len() {
            self.ask_next(index, now);
        }
    }
}

impl Handler<Inbound> for Client {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Self::Context) {
        let now = Instant::now();
        for frame in inbound {
            match message::Message::decode(&frame) {
                Ok((from, message::Message::Decided { request })) => {
                    self.on_decided(from, request, now);
                }
                Ok((
                    from,
                    message::Message::Redirect {
                        leader: Some(leader),
                    },
                )) => self.on_redirect(from, leader, now),
                // Nobody leads yet: the next tick asks elsewhere. Anything else is for replicas.
                _ => {}
            }
        }
    }
}

/// Asks a client how far it has come.
#[derive(Message)]
#[rtype(result = "Progress")]
pub(crate) struct Ask;

#[derive(Copy, Clone)]
pub(crate) struct Progress {
    pub(crate) decided: u64,
    /// Requests that still wait for an answer.
    pub(crate) open: usize,
}

impl Handler<Ask> for Client {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> Self::Result {
        MessageResult(Progress {
            decided: self.decided,
            open: self.sessions.iter().filter(|session| session.open).count(),
        })
    }
}

/// Lets a client finish what is open and ask for nothing more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hold;

impl Handler<Hold> for Client {
    type Result = ();

    fn handle(&mut self, _: Hold, _: &mut Self::Context) {
        self.holding = true;
    }
}

/// Ends a client, which hands over what it has seen.
#[derive(Message)]
#[rtype(result = "Harvest")]
pub(crate) struct Retire;

pub(crate) struct Harvest {
    /// From the first time a request was sent to its answer, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The longest time in which the group decided nothing.
    pub(crate) longest_pause: Duration,
    pub(crate) decided: u64,
    /// The number of the latest answered request, for every session.
    pub(crate) answered: Vec<u32>,
    /// Requests that were sent more than once. These alone may have taken more than one slot.
    pub(crate) repeated: HashSet<Request>,
}

impl Handler<Retire> for Client {
    type Result = MessageResult<Retire>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        let answered = |session: &Session| session.request.number - u32::from(session.open);
        MessageResult(Harvest {
            latency: self.latency.clone(),
            longest_pause: self.longest_pause,
            decided: self.decided,
            answered: self.sessions.iter().map(answered).collect(),
            repeated: std::mem::take(&mut self.repeated),
        })
    }
}
