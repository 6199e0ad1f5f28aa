//! How long the threads of a process waited for a processor. That is not the process's fault, and it depends on
//! which processor the system put them on: an idle twin, on another one, may wait much less.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::row::Failure;

const INTERVAL: Duration = Duration::from_millis(1);

/// A thread that looks every millisecond how long the main thread and the arbiters of a process have waited.
/// From that follows how late frames are that come once in each millisecond.
pub(crate) struct ProcessorWait {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl ProcessorWait {
    pub(crate) fn start(pid: u32) -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let done = over.clone();
        let threads = threads(pid)?;
        // Up to a minute.
        let mut waits = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let thread = thread::Builder::new().name("processor_wait".into());
        let thread = thread.spawn(move || {
            let (mut at, mut before) = (Instant::now(), waited(&threads));
            while !done.load(Relaxed) {
                thread::sleep(INTERVAL);
                let passed = at.elapsed();
                let now = waited(&threads);
                at += passed;
                record(&mut waits, now.saturating_sub(before), passed);
                before = now;
            }
            waits
        })?;
        Ok(ProcessorWait { over, thread })
    }

    /// Ends the thread. Returns by how much the waiting made 99 % of such frames late at most.
    pub(crate) fn end(self) -> Result<Duration, Failure> {
        self.over.store(true, Relaxed);
        let waits = self.thread.join();
        let waits = waits.map_err(|_| Failure::error("the thread that looks on panicked"))?;
        Ok(Duration::from_nanos(waits.value_at_quantile(0.99)))
    }
}

/// Records a wait that has ended within the time that has `passed`. The kernel tells of it only then, but it may
/// have begun long before. A frame that came at its beginning was late by all of it, later ones by less.
fn record(waits: &mut Histogram<u64>, wait: u64, passed: Duration) {
    let interval = INTERVAL.as_nanos() as u64;
    let late = wait.div_ceil(interval);
    for frame in 0..late {
        waits.saturating_record(wait - frame * interval);
    }
    let frames = passed.as_nanos() as u64 / interval;
    waits.saturating_record_n(0, frames.saturating_sub(late));
}

/// The accounts that the kernel keeps of the main thread and of the arbiters.
fn threads(pid: u32) -> Result<Vec<PathBuf>, Failure> {
    let mut accounts = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        let name = fs::read_to_string(thread.path().join("comm"))?;
        if name.starts_with("actix-rt") || thread.file_name() == *pid.to_string() {
            accounts.push(thread.path().join("schedstat"));
        }
    }
    Ok(accounts)
}

/// Returns how long these threads have waited so far, in nanoseconds; 0 if the kernel does not tell.
fn waited(threads: &[PathBuf]) -> u64 {
    let wait = |account: &PathBuf| {
        let account = fs::read_to_string(account).ok()?;
        account.split(' ').nth(1)?.parse::<u64>().ok()
    };
    threads.iter().filter_map(wait).sum()
}
