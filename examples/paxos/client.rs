//! The load on one group: each session asks for a value to be decided, waits for the answer and asks for the next.
//!
//! A session is a task that calls the replica which it takes for the leader. It learns from the error of a call where the
//! leader is, or that it has to try another replica. It may always ask again, because the replicas apply each request
//! once.

use std::{
    collections::HashSet,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::ArbiterHandle;
use actix_transport::{CallError, GroupId, Peer};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::{sleep, sleep_until};

use crate::{
    message::NodeId,
    value::{Request, Value, repeat_after},
};

/// How long a session waits after an error before it asks again, unless the error names the leader.
const PAUSE: Duration = Duration::from_millis(50);

/// What a client sends.
#[derive(Copy, Clone)]
pub(crate) struct Load {
    pub(crate) sessions: u32,
    /// Bytes of a value.
    pub(crate) payload: usize,
    /// The time between two requests of a session, if the answers come in time.
    pub(crate) interval: Duration,
}

/// Longest latency on record, in microseconds. Longer ones count as this.
const LONGEST: u64 = 60_000_000;

pub(crate) struct Client {
    group: GroupId,
    /// By node.
    replicas: Vec<Peer>,
    load: Load,
    state: Mutex<State>,
}

/// What the sessions of a client share.
struct State {
    /// The replica that they take for the leader.
    leader: NodeId,
    /// When it last answered.
    heard: Instant,
    stopping: bool,
    /// Requests that have no answer yet.
    open: usize,
    latency: Histogram<u64>,
    sample_begun: Instant,
    decided: u64,
    /// `decided` at `sample_begun`.
    decided_before: u64,
    last_decided: Instant,
    longest_pause: Duration,
    answered: Vec<u32>,
    repeated: HashSet<Request>,
}

impl Client {
    /// Creates a client that calls these replicas.
    pub(crate) fn new(
        group: GroupId,
        replicas: Vec<Peer>,
        leader: NodeId,
        load: Load,
    ) -> Arc<Self> {
        let now = Instant::now();
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        let state = State {
            leader,
            heard: now,
            stopping: false,
            open: 0,
            latency: latency.expect("1 to a minute, to three digits, are valid bounds"),
            sample_begun: now,
            decided: 0,
            decided_before: 0,
            last_decided: now,
            longest_pause: Duration::ZERO,
            answered: vec![0; load.sessions as usize],
            repeated: HashSet::new(),
        };
        Arc::new(Self {
            group,
            replicas,
            load,
            state: Mutex::new(state),
        })
    }

    /// Starts the sessions on the thread of this arbiter.
    pub(crate) fn start(self: &Arc<Self>, arbiter: &ArbiterHandle) {
        for session in 0..self.load.sessions {
            arbiter.spawn(self.clone().run_session(session));
        }
    }

    async fn run_session(self: Arc<Self>, session: u32) {
        let mut due = Instant::now();
        for number in 1.. {
            let asked = Instant::now();
            if !self.state.lock().on_asked() {
                return;
            }
            let request = Request { session, number };
            self.decide(request).await;
            self.state
                .lock()
                .on_decided(request, asked, self.load.interval);
            due = (due + self.load.interval).max(asked);
            if due > Instant::now() {
                sleep_until(due.into()).await;
            }
        }
    }

    /// Asks until the request is decided.
    async fn decide(&self, request: Request) {
        let value = Value::new(request, self.load.payload).into_bytes();
        loop {
            let (leader, now) = (self.state.lock().leader, Instant::now());
            let call = self.replicas[leader.index()].call(self.group, value.clone());
            let answer = call.deadline(repeat_after(value.len())).await;
            let Err(why) = answer else { return };
            let redirected = self.state.lock().on_error(leader, now, request, &why);
            if !redirected {
                sleep(PAUSE).await;
            }
        }
    }

    /// Returns how far this client is.
    pub(crate) fn progress(&self) -> Progress {
        let state = self.state.lock();
        Progress {
            decided: state.decided,
            open: state.open,
        }
    }

    /// Returns the answers since the last call of this method, or since the start.
    pub(crate) fn take_sample(&self) -> Sample {
        let state = &mut *self.state.lock();
        let now = Instant::now();
        let latency = Histogram::new_from(&state.latency);
        let sample = Sample {
            latency: mem::replace(&mut state.latency, latency),
            decided: state.decided - state.decided_before,
            time: now.duration_since(state.sample_begun),
        };
        state.sample_begun = now;
        state.decided_before = state.decided;
        sample
    }

    /// Makes the sessions send no further requests; open ones are still finished.
    pub(crate) fn stop_asking(&self) {
        self.state.lock().stopping = true;
    }

    /// Returns the results, once no request is open.
    pub(crate) fn report(&self) -> ClientReport {
        let state = self.state.lock();
        ClientReport {
            latency: state.latency.clone(),
            longest_pause: state.longest_pause,
            decided: state.decided,
            answered: state.answered.clone(),
            repeated: state.repeated.clone(),
            payload: self.load.payload,
        }
    }
}

impl State {
    /// Returns whether there may be another request.
    fn on_asked(&mut self) -> bool {
        self.open += usize::from(!self.stopping);
        !self.stopping
    }

    fn on_decided(&mut self, request: Request, asked: Instant, interval: Duration) {
        let now = Instant::now();
        self.open -= 1;
        self.heard = now;
        self.answered[request.session as usize] = request.number;
        let latency = (now.duration_since(asked).as_micros() as u64).min(LONGEST);
        // A late answer delays the next request, which would have been late as well: it counts, too.
        let recorded = match interval.as_micros() as u64 {
            0 => self.latency.record(latency),
            interval => self.latency.record_correct(latency, interval),
        };
        recorded.expect("within the bounds of the histogram");
        self.decided += 1;
        self.longest_pause = self
            .longest_pause
            .max(now.duration_since(self.last_decided));
        self.last_decided = now;
    }

    /// Chooses whom to ask next. Returns whether the error says who leads.
    fn on_error(
        &mut self,
        asked: NodeId,
        when: Instant,
        request: Request,
        why: &CallError,
    ) -> bool {
        let named = match why {
            CallError::Failed { code, .. } => NodeId::named(*code),
            _ => None,
        };
        let next = match why {
            CallError::Failed { .. } => named.unwrap_or(asked.next()),
            // The leader has answered others meanwhile.
            CallError::Deadline { .. } if self.heard >= when => asked,
            _ => asked.next(),
        };
        // Of several errors in a row only the first counts.
        if self.leader == asked {
            self.leader = next;
        }
        if may_be_proposed(why) {
            self.repeated.insert(request);
        }
        named.is_some_and(|leader| leader != asked)
    }
}

/// Returns whether a replica may have proposed the value of a call that ended so.
fn may_be_proposed(why: &CallError) -> bool {
    // A replica that answers with a failure has not proposed it.
    why.may_be_served() && !matches!(why, CallError::Failed { .. })
}

#[derive(Copy, Clone)]
pub(crate) struct Progress {
    pub(crate) decided: u64,
    /// Requests that have no answer yet.
    pub(crate) open: usize,
}

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

pub(crate) struct ClientReport {
    /// Time from the first sending of a request to its answer, in microseconds, since the last
    /// [`Client::take_sample`].
    pub(crate) latency: Histogram<u64>,
    /// The longest time without a decision in this group.
    pub(crate) longest_pause: Duration,
    pub(crate) decided: u64,
    /// The number of the latest answered request of each session.
    pub(crate) answered: Vec<u32>,
    /// Requests that were sent again although they may have been proposed. Only these may have more than one
    /// instance.
    pub(crate) repeated: HashSet<Request>,
    /// Bytes of each value.
    pub(crate) payload: usize,
}
