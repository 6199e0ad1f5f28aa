//! Tasks that make calls, each of them one call after the other, and what comes of the calls.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{runtime::Handle, task::JoinSet};

use crate::Failure;

/// The longest time that the histogram tells from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// What the tasks run on.
#[derive(Clone)]
pub(crate) enum Runtime {
    /// The arbiter that starts them.
    Arbiter,
    /// Any tokio runtime.
    Tokio(Handle),
}

/// Calls to be made, and how those made have ended. All tasks share it.
pub(crate) struct Tally {
    next: AtomicU64,
    end: u64,
    ended: Mutex<Ended>,
}

/// How calls have ended.
#[derive(Clone)]
pub(crate) struct Ended {
    /// How long the answered ones took, in nanoseconds.
    pub(crate) nanos: Histogram<u64>,
    /// How many failed, by reason.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    begun: Instant,
    /// When the last one ended.
    at: Instant,
    last_answer: Instant,
}

/// Makes the calls of `tally`, `in_flight` at a time. `call` makes the call with a number, and returns why it failed.
pub(crate) async fn make<C, F>(
    runtime: &Runtime,
    in_flight: usize,
    tally: &Arc<Tally>,
    call: C,
) -> Result<(), Failure>
where
    C: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), &'static str>> + Send,
{
    tally.begin();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (tally, call) = (tally.clone(), call.clone());
        let task = async move {
            while let Some(number) = tally.next() {
                let asked = Instant::now();
                let answered = call(number).await;
                tally.note(asked, answered);
            }
        };
        match runtime {
            Runtime::Arbiter => tasks.spawn_local(task),
            Runtime::Tokio(handle) => tasks.spawn_on(task, handle),
        };
    }
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    Ok(())
}

impl Tally {
    /// Makes one for calls with the numbers from `first` on.
    pub(crate) fn new(first: u64, calls: u64) -> Result<Arc<Self>, Failure> {
        let now = Instant::now();
        let ended = Ended {
            nanos: Histogram::new_with_max(LONGEST.as_nanos() as u64, 3)?,
            failures: BTreeMap::new(),
            begun: now,
            at: now,
            last_answer: now,
        };
        Ok(Arc::new(Tally {
            next: AtomicU64::new(first),
            end: first.saturating_add(calls),
            ended: Mutex::new(ended),
        }))
    }

    /// Starts the clock.
    fn begin(&self) {
        let (mut ended, now) = (self.lock(), Instant::now());
        (ended.begun, ended.at, ended.last_answer) = (now, now, now);
    }

    pub(crate) fn ended(&self) -> Ended {
        self.lock().clone()
    }

    /// Returns how long no call was answered.
    pub(crate) fn silence(&self) -> Duration {
        self.lock().last_answer.elapsed()
    }

    /// Returns the number of the next call, if there is one more.
    fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        (number < self.end).then_some(number)
    }

    fn note(&self, asked: Instant, answered: Result<(), &'static str>) {
        let now = Instant::now();
        let mut ended = self.lock();
        ended.at = now;
        match answered {
            Ok(()) => {
                let time = now - asked;
                ended.nanos.saturating_record(time.as_nanos() as u64);
                ended.last_answer = now;
            }
            Err(why) => *ended.failures.entry(why).or_default() += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the time from the start of the clock to the last end of a call.
    pub(crate) fn seconds(&self) -> f64 {
        (self.at - self.begun).as_secs_f64()
    }

    /// Returns how many calls were answered in a second.
    pub(crate) fn rate(&self) -> f64 {
        match self.nanos.is_empty() {
            true => 0.0,
            false => self.nanos.len() as f64 / self.seconds(),
        }
    }

    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.nanos.value_at_quantile(quantile) as f64 / 1e3
    }
}
