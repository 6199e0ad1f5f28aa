//! The callers, and what they were told.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use actix_transport::{
    CallError, CallStats, GroupId, Identity, Lane, NodeId, Peer, Shutdown, Transport,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::server::{self, BY_ACTOR, BY_FUNCTION, PLANS, Plan};
use crate::{row::Failure, world, world::pause};

const CALLERS: u64 = 64;
const LANES: [Lane; 2] = [Lane::NORMAL, Lane::CONTROL];
const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// What a caller knows of its call in the end.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Outcome {
    Answered,
    /// By the handler, or because it dropped the call.
    Failed,
    /// Not, and no handler has seen the call.
    NotSent,
    /// Not, and it may have been served.
    InDoubt,
    /// The caller has given up.
    GivenUp,
    /// An answer that is not the one to the question.
    Wrong,
}

/// The callers in a thread of their own.
pub(super) struct Callers {
    shared: Arc<Shared>,
    transport: Transport,
    peer: Peer,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

struct Shared {
    on: AtomicBool,
    next: AtomicU64,
    calling: AtomicU64,
    log: Mutex<CallLog>,
}

/// What all callers were told.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    pub(super) outcomes: HashMap<u64, Outcome>,
    /// Calls of which a caller was told twice. There is no way to, but this is what the row is for.
    pub(super) twice: u64,
    /// By how much a call ended later than its deadline, at most.
    pub(super) latest: Duration,
    /// Errors, by what they say.
    pub(super) errors: HashMap<&'static str, u64>,
    pub(super) stats: CallStats,
}

impl Callers {
    pub(super) fn start(to: SocketAddr, seed: u64) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            on: AtomicBool::new(true),
            next: AtomicU64::new(1),
            calling: AtomicU64::new(0),
            log: Mutex::default(),
        });
        let (ready, transport) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("callers".into());
        let thread =
            thread.spawn(move || world::system(call(to, seed, of_thread, ready, ended)))?;
        let transport = transport.recv()?;
        Ok(Callers {
            peer: transport.peer(to)?,
            shared,
            transport,
            end,
            thread,
        })
    }

    /// Lets the callers call, or waits until all have ended their calls.
    pub(super) fn set_on(&self, on: bool) -> Result<(), Failure> {
        self.shared.on.store(on, SeqCst);
        match on {
            true => Ok(()),
            false => wait_until("callers have ended", || {
                self.shared.calling.load(SeqCst) == 0
            }),
        }
    }

    /// Waits until so many more calls have begun.
    pub(super) fn wait_for_calls(&self, calls: u64) -> Result<(), Failure> {
        let before = self.shared.next.load(SeqCst);
        wait_until("more calls", || {
            self.shared.next.load(SeqCst) >= before + calls
        })
    }

    /// Waits until a call was answered: there is a connection.
    pub(super) fn one_answered(&self) -> Result<(), Failure> {
        let answered = || self.stats().answered;
        let before = answered();
        self.set_on(true)?;
        wait_until("an answer", || answered() > before)?;
        self.set_on(false)
    }

    /// Makes a call on each lane, and waits for the answers.
    pub(super) fn one_on_each_lane(&self) -> Result<(), Failure> {
        for lane in LANES {
            let id = self.shared.next.fetch_add(1, SeqCst);
            let question = server::question(id, Plan::Answer, 0);
            let call = self.peer.call(BY_FUNCTION, question).lane(lane);
            let answer = futures::executor::block_on(call)?;
            let is_right = answer == server::answer(id, Plan::Answer);
            let outcome = if is_right {
                Outcome::Answered
            } else {
                Outcome::Wrong
            };
            self.shared.log.lock().outcomes.insert(id, outcome);
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> CallStats {
        self.transport.stats().calls
    }

    /// Ends them. Returns what they were told.
    pub(super) fn end(self) -> Result<CallLog, Failure> {
        let stats = self.stats();
        self.transport.stats().balance()?;
        drop(self.end);
        let ended = self.thread.join();
        ended.map_err(|_| Failure::error("the callers panicked"))?;
        let mut log = std::mem::take(&mut *self.shared.log.lock());
        log.stats = stats;
        Ok(log)
    }
}

fn wait_until(what: &str, fact: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + LONG;
    while !fact() {
        if Instant::now() > deadline {
            return Err(Failure::error(format!("did not happen: {what}")));
        }
        pause(MS);
    }
    Ok(())
}

async fn call(
    to: SocketAddr,
    seed: u64,
    shared: Arc<Shared>,
    ready: std::sync::mpsc::Sender<Transport>,
    ended: oneshot::Receiver<()>,
) {
    let identity = Identity::new(NodeId::new(1)).cluster("torture");
    let builder = Transport::builder()
        .config(server::config())
        .identity(identity);
    let transport = builder.connect_only().expect("an arbiter");
    let peer = transport.peer(to).expect("usable");
    for caller in 0..CALLERS {
        let draw = fastrand::Rng::with_seed(seed ^ (caller << 32));
        actix::spawn(call_again_and_again(peer.clone(), draw, shared.clone()));
    }
    let _ = ready.send(transport.clone());
    let _ = ended.await;
    transport.stop(Shutdown::Now).await;
}

async fn call_again_and_again(peer: Peer, mut draw: fastrand::Rng, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(MS * draw.u32(..10)).await;
        // Raised first, so that whoever waits for the end sees this call or sees it not begin.
        shared.calling.fetch_add(1, SeqCst);
        if shared.on.load(SeqCst) {
            one_call(&peer, &mut draw, &shared).await;
        }
        shared.calling.fetch_sub(1, SeqCst);
    }
}

async fn one_call(peer: &Peer, draw: &mut fastrand::Rng, shared: &Shared) {
    let id = shared.next.fetch_add(1, SeqCst);
    // Long answers are slow, so they are few.
    let plan = match draw.u8(..100) {
        0..60 => Plan::Answer,
        60..85 => Plan::AnswerLater,
        85..87 => Plan::AnswerAtLength,
        87..94 => Plan::Fail,
        _ => Plan::DropIt,
    };
    debug_assert!(PLANS.contains(&plan));
    let question = server::question(id, plan, draw.u8(..60));
    let group = [BY_ACTOR, BY_FUNCTION][draw.usize(..2)];
    let lane = LANES[usize::from(draw.u8(..4) == 0)];
    let deadline = MS * draw.u32(1..400);
    let began = Instant::now();
    let call = ask(peer, group, question, draw)
        .deadline(deadline)
        .lane(lane);
    let told = match draw.u8(..5) {
        0 => tokio::time::timeout(MS * draw.u32(..40), call).await.ok(),
        _ => Some(call.await),
    };
    let late = began.elapsed().saturating_sub(deadline);
    let mut log = shared.log.lock();
    let outcome = match told {
        None => Outcome::GivenUp,
        Some(Ok(bytes)) if bytes == server::answer(id, plan) => Outcome::Answered,
        Some(Ok(_)) => Outcome::Wrong,
        Some(Err(err)) => {
            let (outcome, text) = meaning(&err, id);
            *log.errors.entry(text).or_default() += 1;
            outcome
        }
    };
    log.latest = log.latest.max(late);
    if log.outcomes.insert(id, outcome).is_some() {
        log.twice += 1;
    }
}

fn ask(
    peer: &Peer,
    group: GroupId,
    question: bytes::Bytes,
    draw: &mut fastrand::Rng,
) -> actix_transport::CallFuture {
    match draw.bool() {
        true => peer.call(group, question),
        false => peer.try_call(group, question),
    }
}

/// Returns what an error says about the call, and a word for it.
fn meaning(err: &CallError, id: u64) -> (Outcome, &'static str) {
    match err {
        CallError::Failed { code, text } => match *code == id as u32 && *text == id.to_string() {
            true => (Outcome::Failed, "failed"),
            false => (Outcome::Wrong, "wrong"),
        },
        CallError::Unanswered => (Outcome::Failed, "unanswered"),
        CallError::Deadline { sent: true } => (Outcome::InDoubt, "deadline"),
        CallError::Lost { sent: true } => (Outcome::InDoubt, "lost"),
        err if err.may_be_served() => (Outcome::Wrong, "unexpected"),
        CallError::Deadline { .. } => (Outcome::NotSent, "deadline, not sent"),
        CallError::Lost { .. } => (Outcome::NotSent, "lost, not sent"),
        CallError::Unreachable { .. } => (Outcome::NotSent, "unreachable"),
        CallError::Full => (Outcome::NotSent, "full"),
        CallError::Refused => (Outcome::NotSent, "refused"),
        CallError::NoHandler => (Outcome::NotSent, "no handler"),
        _ => (Outcome::Wrong, "unexpected"),
    }
}
