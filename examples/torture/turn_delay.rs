//! How long a thread that works waits for a processor. Where the machine is busy, that is longer than what an
//! idle thread waits after it was woken, because the system prefers threads that have used little.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::row::Failure;

/// Each turn works for `WORK` of processor time, `PAUSE` after the one before: about as much as a reading
/// arbiter that hundreds of connections attack.
const PAUSE: Duration = Duration::from_millis(1);
const WORK: Duration = Duration::from_micros(100);

/// A thread that works in short turns and measures how late each of them ends.
pub(crate) struct TurnDelay {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl TurnDelay {
    pub(crate) fn start() -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let done = over.clone();
        // Up to a minute.
        let mut late = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let thread = thread::Builder::new().name("turn_delay".into());
        let thread = thread.spawn(move || {
            while !done.load(Relaxed) {
                let began = Instant::now();
                thread::sleep(PAUSE);
                work();
                let late_by = began.elapsed().saturating_sub(PAUSE + WORK);
                late.saturating_record(late_by.as_nanos() as u64);
            }
            late
        })?;
        Ok(TurnDelay { over, thread })
    }

    /// Ends the thread. Returns by how much 99 % of the turns were late at most.
    pub(crate) fn end(self) -> Result<Duration, Failure> {
        self.over.store(true, Relaxed);
        let late = self.thread.join();
        let late = late.map_err(|_| Failure::error("the thread that takes turns panicked"))?;
        Ok(Duration::from_nanos(late.value_at_quantile(0.99)))
    }
}

/// Uses `WORK` of processor time.
fn work() {
    let used = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
    };
    let until = used() + WORK;
    while used() < until {
        std::hint::spin_loop();
    }
}
