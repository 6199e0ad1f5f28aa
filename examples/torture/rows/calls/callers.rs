//! The callers of a node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use actix_transport::{CallFuture, Peer};
use parking_lot::Mutex;

use super::{
    journal_line::{JournalLine, Late},
    message::{BY_ACTOR, BY_FUNCTION, LANES, Life, Plan, Question},
    told::Told,
};
use crate::row::Failure;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// How callers call.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Load {
    Off,
    /// With deadlines of some milliseconds, and a fifth of the calls are given up.
    Impatient,
    /// With deadlines that do not pass, and no call is given up.
    Patient,
}

/// The callers. They run on the arbiter that starts them.
pub(super) struct Callers(Arc<Shared>);

struct Shared {
    peer: Peer,
    life: Life,
    /// When the clock of the journal began.
    began: Instant,
    load: Mutex<Load>,
    next: AtomicU32,
    calling: AtomicU64,
}

impl Callers {
    /// Starts so many, which do not call yet.
    pub(super) fn start(callers: u64, peer: Peer, life: Life, seed: u64, began: Instant) -> Self {
        let shared = Arc::new(Shared {
            peer,
            life,
            began,
            load: Mutex::new(Load::Off),
            next: AtomicU32::new(1),
            calling: AtomicU64::new(0),
        });
        for caller in 0..callers {
            let draw = fastrand::Rng::with_seed(seed ^ life.call(0) ^ caller << 16);
            actix::spawn(shared.clone().call_again_and_again(draw));
        }
        Callers(shared)
    }

    pub(super) fn set_load(&self, load: Load) {
        *self.0.load.lock() = load;
    }

    /// Lets no more calls begin, and waits until all have ended.
    pub(super) async fn quiet(&self) -> Result<(), Failure> {
        self.set_load(Load::Off);
        let deadline = Instant::now() + LONG;
        while self.0.calling.load(SeqCst) > 0 {
            if Instant::now() > deadline {
                return Err(Failure::error("callers do not end"));
            }
            tokio::time::sleep(MS).await;
        }
        Ok(())
    }

    /// Makes a call for a long answer on each lane to each handler, again if it fails. When these are answered, what
    /// was queued before them has arrived, both ways: frames of a lane keep their order, long answers do among each
    /// other, and the mailbox of the actor is empty.
    pub(super) async fn flush(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + LONG;
        for lane in LANES {
            for group in [BY_FUNCTION, BY_ACTOR] {
                let plan = Plan::AnswerAtLength;
                loop {
                    let question = self.0.question(plan, 0);
                    let call = self.0.peer.call(group, question.encode()).lane(lane);
                    let told = self.0.tell(question, LONG, call.deadline(LONG), None).await;
                    if told == Some(Told::Answered) {
                        break;
                    }
                    if told.is_none() || Instant::now() > deadline {
                        return Err(Failure::error("no call comes through"));
                    }
                    tokio::time::sleep(MS).await;
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn call_again_and_again(self: Arc<Self>, mut draw: fastrand::Rng) {
        loop {
            tokio::time::sleep(MS * draw.u32(..10)).await;
            // Raised first, so that whoever waits for the end sees this call or sees it not begin.
            self.calling.fetch_add(1, SeqCst);
            let load = *self.load.lock();
            if load != Load::Off {
                self.one_call(load, &mut draw).await;
            }
            self.calling.fetch_sub(1, SeqCst);
        }
    }

    async fn one_call(&self, load: Load, draw: &mut fastrand::Rng) {
        // Long answers are slow, so they are few.
        let plan = match draw.u8(..100) {
            0..60 => Plan::Answer,
            60..85 => Plan::AnswerLater,
            85..87 => Plan::AnswerAtLength,
            87..94 => Plan::Fail,
            _ => Plan::DropIt,
        };
        let wait = match draw.u8(..10) {
            0 => draw.u8(..),
            _ => draw.u8(..60),
        };
        let question = self.question(plan, wait);
        let group = [BY_ACTOR, BY_FUNCTION][draw.usize(..2)];
        let lane = LANES[usize::from(draw.u8(..4) == 0)];
        let (deadline, gives_up) = match load {
            Load::Patient => (LONG, false),
            _ => (MS * draw.u32(1..400), draw.u8(..5) == 0),
        };
        let call = match draw.bool() {
            true => self.peer.call(group, question.encode()),
            false => self.peer.try_call(group, question.encode()),
        };
        let patience = gives_up.then(|| MS * draw.u32(..40));
        let call = call.deadline(deadline).lane(lane);
        self.tell(question, deadline, call, patience).await;
    }

    fn question(&self, plan: Plan, wait: u8) -> Question {
        let call = self.life.call(self.next.fetch_add(1, SeqCst));
        Question { call, plan, wait }
    }

    /// Makes a call, which is given up when the patience is over. Writes both into the journal, and returns what its
    /// caller was told; nothing if nobody reads the journal.
    async fn tell(
        &self,
        question: Question,
        deadline: Duration,
        call: CallFuture,
        patience: Option<Duration>,
    ) -> Option<Told> {
        if !JournalLine::Called(question.call).write() {
            return None;
        }
        let began = Instant::now();
        let ended = match patience {
            // Even with no patience at all, the call is made: it is polled first.
            Some(patience) => tokio::time::timeout(patience, call).await.ok(),
            None => Some(call.await),
        };
        let now = Instant::now();
        let told = ended.map_or(Told::GivenUp, |ended| Told::of(ended, question));
        let late = Late {
            by: (now - began).saturating_sub(deadline),
            at: now - self.began,
        };
        let is_written = JournalLine::Ended(question.call, told, late).write();
        is_written.then_some(told)
    }
}
