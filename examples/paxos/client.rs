//! The load on one group: each session sends a request, waits for the answer and sends the next.
//!
//! The clients of all groups share one transport and talk to the replicas over the wire only. A
//! client learns which replica leads from a redirect, or tries another one after a timeout.

use std::{
    collections::HashSet,
    mem,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult};
use actix_transport::Inbound;
use hdrhistogram::Histogram;

use crate::{
    links::Links,
    message::{self, NodeId},
    value::{Request, Value, repeat_after},
};

/// How often the client looks for requests that had no answer in time.
const TICK: Duration = Duration::from_millis(50);

/// What a client sends.
#[derive(Copy, Clone)]
pub(crate) struct Load {
    pub(crate) sessions: u32,
    /// Bytes of a value.
    pub(crate) payload: usize,
    /// The least time between two requests of a session.
    pub(crate) interval: Duration,
}

/// Longest latency on record, in microseconds. Longer ones count as this.
const LONGEST: u64 = 60_000_000;

pub(crate) struct Client {
    links: Links,
    /// The replica that this client takes for the leader.
    leader: NodeId,
    /// When this replica last answered, or when the client first took it for the leader.
    heard: Instant,
    sessions: Vec<Session>,
    load: Load,
    stopping: bool,
    latency: Histogram<u64>,
    sample_begun: Instant,
    decided: u64,
    /// `decided` at `sample_begun`.
    decided_before: u64,
    last_decided: Instant,
    longest_pause: Duration,
    repeated: HashSet<Request>,
}

struct Session {
    /// The latest request; `open` while it has no answer.
    request: Request,
    open: bool,
    /// When the next one may be asked.
    next: Instant,
    asked: Instant,
    /// When it was last sent: later than `asked` if it was repeated.
    sent: Instant,
}

impl Client {
    /// Creates a client whose sessions send their first request when the actor starts.
    pub(crate) fn new(links: Links, leader: NodeId, load: Load) -> Self {
        let now = Instant::now();
        let session = |session| Session {
            request: Request { session, number: 0 },
            open: false,
            next: now,
            asked: now,
            sent: now,
        };
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            links,
            leader,
            heard: now,
            sessions: (0..load.sessions).map(session).collect(),
            load,
            stopping: false,
            latency: latency.expect("1 to a minute, to three digits, are valid bounds"),
            sample_begun: now,
            decided: 0,
            decided_before: 0,
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
        let latency = now.duration_since(session.asked).as_micros() as u64;
        // A late answer delays the next request, which would have been late as well: it counts, too.
        let recorded = match self.load.interval.as_micros() as u64 {
            0 => self.latency.record(latency.min(LONGEST)),
            interval => self.latency.record_correct(latency.min(LONGEST), interval),
        };
        recorded.expect("within the bounds of the histogram");
        self.decided += 1;
        self.longest_pause = self
            .longest_pause
            .max(now.duration_since(self.last_decided));
        self.last_decided = now;
        self.ask_if_due(index, now);
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
        for index in 0..self.sessions.len() {
            self.ask_if_due(index, now);
        }
        self.repeat_overdue(now);
        self.links.flush();
    }

    fn repeat_overdue(&mut self, now: Instant) {
        let repeat_after = repeat_after(self.load.payload);
        let overdue =
            |session: &Session| session.open && now.duration_since(session.sent) >= repeat_after;
        if !self.sessions.iter().any(overdue) {
            return;
        }
        // If the leader has answered other sessions, only a frame was lost. If it has answered
        // none, the next replica is tried.
        if now.duration_since(self.heard) >= repeat_after {
            self.leader = NodeId::replica(self.leader.index() + 1);
            self.heard = now;
        }
        self.repeat(now, overdue);
    }

    fn ask_if_due(&mut self, index: usize, now: Instant) {
        let session = &mut self.sessions[index];
        if session.open || session.next > now || self.stopping {
            return;
        }
        session.next = now + self.load.interval;
        session.request.number += 1;
        session.open = true;
        session.asked = now;
        session.sent = now;
        let value = Value::new(session.request, self.load.payload);
        self.links
            .send(self.leader, message::Message::Propose { value });
    }

    fn repeat(&mut self, now: Instant, which: impl Fn(&Session) -> bool) {
        for session in self.sessions.iter_mut().filter(|session| which(session)) {
            session.sent = now;
            self.repeated.insert(session.request);
            let value = Value::new(session.request, self.load.payload);
            self.links
                .send(self.leader, message::Message::Propose { value });
        }
    }
}

impl Actor for Client {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Often enough for the sessions to ask in time.
        let tick = match self.load.interval {
            Duration::ZERO => TICK,
            interval => TICK.min(interval / 20),
        };
        ctx.run_interval(tick, |client, _| client.tick(Instant::now()));
        self.tick(Instant::now());
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

/// Asks a client for its answers since the last such question, or since its start.
#[derive(Message)]
#[rtype(result = "Sample")]
pub(crate) struct TakeSample;

pub(crate) struct Sample {
    /// As in [`ClientReport`].
    pub(crate) latency: Histogram<u64>,
    decided: u64,
    time: Duration,
}

impl Sample {
    pub(crate) fn decided_per_second(&self) -> f64 {
        self.decided as f64 / self.time.as_secs_f64()
    }
}

impl Handler<TakeSample> for Client {
    type Result = MessageResult<TakeSample>;

    fn handle(&mut self, _: TakeSample, _: &mut Self::Context) -> Self::Result {
        let now = Instant::now();
        let latency = Histogram::new_from(&self.latency);
        let sample = Sample {
            latency: mem::replace(&mut self.latency, latency),
            decided: self.decided - self.decided_before,
            time: now.duration_since(self.sample_begun),
        };
        self.sample_begun = now;
        self.decided_before = self.decided;
        MessageResult(sample)
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
    /// Time from the first sending of a request to its answer, in microseconds, since the last
    /// [`TakeSample`].
    pub(crate) latency: Histogram<u64>,
    /// The longest time without a decision in this group.
    pub(crate) longest_pause: Duration,
    pub(crate) decided: u64,
    /// The number of the latest answered request of each session.
    pub(crate) answered: Vec<u32>,
    /// Requests that were sent more than once. Only these may have more than one instance.
    pub(crate) repeated: HashSet<Request>,
    /// Bytes of each value.
    pub(crate) payload: usize,
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
            repeated: mem::take(&mut self.repeated),
            payload: self.load.payload,
        })
    }
}
