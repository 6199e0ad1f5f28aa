//! The load on one group: each session sends a request, waits for the answer and sends the next.
//!
//! The clients of all groups share one transport and talk to the replicas over the wire only. A
//! client learns which replica leads from a redirect, or tries another one after a timeout.

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

/// A request without an answer for this long is sent again. This is far above the latency of a
/// group that has a leader, and below the time that an election takes.
const REPEAT: Duration = Duration::from_millis(200);

/// How often the client looks for such requests.
const TICK: Duration = Duration::from_millis(50);

/// Longest latency on record, in microseconds. Longer ones count as this.
const LONGEST: u64 = 60_000_000;

pub(crate) struct Client {
    links: Links,
    /// The replica that this client takes for the leader.
    leader: NodeId,
    /// When this replica last answered, or when the client first took it for the leader.
    heard: Instant,
    sessions: Vec<Session>,
    payload: usize,
    stopping: bool,
    latency: Histogram<u64>,
    decided: u64,
    last_decided: Instant,
    longest_pause: Duration,
    repeated: HashSet<Request>,
}

struct Session {
    /// The latest request; `open` while it has no answer.
    request: Request,
    open: bool,
    asked: Instant,
    /// When it was last sent: later than `asked` if it was repeated.
    sent: Instant,
}

impl Client {
    /// Creates a client whose sessions send their first request when the actor starts.
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
            stopping: false,
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
        if !self.stopping {
            self.ask_next(index, now);
        }
    }

    /// Moves to the leader that `from` names and repeats all open requests there. Of several
    /// redirects in a row only the first counts, because after it `from` is no longer
    /// `self.leader`.
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
        // If the leader has answered other sessions, only a frame was lost. If it has answered
        // none, the next replica is tried.
        if now.duration_since(self.heard) >= REPEAT {
            self.leader = NodeId::replica(self.leader.index() + 1);
            self.heard = now;
        }
        self.repeat(now, overdue);
        self.links.flush();
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
        self.links.flush();
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
                // `from` knows no leader: the next tick tries another replica. Other messages are
                // not for clients.
                _ => {}
            }
        }
        self.links.flush();
    }
}

/// Asks a client for its progress.
#[derive(Message)]
#[rtype(result = "Progress")]
pub(crate) struct Ask;

#[derive(Copy, Clone)]
pub(crate) struct Progress {
    pub(crate) decided: u64,
    /// Requests that have no answer yet.
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

/// Makes a client send no further requests; open ones are still finished.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopAsking;

impl Handler<StopAsking> for Client {
    type Result = ();

    fn handle(&mut self, _: StopAsking, _: &mut Self::Context) {
        self.stopping = true;
    }
}

/// Stops a client and returns its results.
#[derive(Message)]
#[rtype(result = "ClientReport")]
pub(crate) struct Retire;

pub(crate) struct ClientReport {
    /// Time from the first sending of a request to its answer, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The longest time without a decision in this group.
    pub(crate) longest_pause: Duration,
    pub(crate) decided: u64,
    /// The number of the latest answered request of each session.
    pub(crate) answered: Vec<u32>,
    /// Requests that were sent more than once. Only these may have more than one instance.
    pub(crate) repeated: HashSet<Request>,
}

impl Handler<Retire> for Client {
    type Result = MessageResult<Retire>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        let answered = |session: &Session| session.request.number - u32::from(session.open);
        MessageResult(ClientReport {
            latency: self.latency.clone(),
            longest_pause: self.longest_pause,
            decided: self.decided,
            answered: self.sessions.iter().map(answered).collect(),
            repeated: std::mem::take(&mut self.repeated),
        })
    }
}
