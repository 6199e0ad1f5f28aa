//! Shows progress while a row runs: a progress bar on a terminal, or a line now and then in a log.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Least time between two lines in a log.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// The progress of one row. Cheap to clone; any thread may update it.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Inner>);

struct Inner {
    row: &'static str,
    bar: ProgressBar,
    done: AtomicU64,
    total: AtomicU64,
    /// When the last line was logged. `None` on a terminal.
    last_log: Option<Mutex<Instant>>,
}

impl Progress {
    pub(crate) fn new(row: &'static str, is_terminal: bool) -> Self {
        let bar = match is_terminal {
            true => ProgressBar::no_length(),
            false => ProgressBar::hidden(),
        };
        let style = "{prefix:12} {elapsed:>4} {wide_bar} {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a template"));
        bar.set_prefix(row);
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(Arc::new(Inner {
            row,
            bar,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            last_log: (!is_terminal).then(|| Mutex::new(Instant::now())),
        }))
    }

    /// Sets the total amount of work.
    pub(crate) fn total(&self, total: u64) {
        self.0.total.store(total, Relaxed);
        self.0.bar.set_length(total);
    }

    /// Sets the amount of work done.
    pub(crate) fn set_done(&self, done: u64) {
        self.0.done.store(done, Relaxed);
        self.0.bar.set_position(done);
        self.log("");
    }

    /// Adds to the amount of work done.
    pub(crate) fn add(&self, more: u64) {
        let done = self.0.done.fetch_add(more, Relaxed) + more;
        self.set_done(done);
    }

    /// Shows what the row is doing.
    pub(crate) fn set_message(&self, what: impl Into<String>) {
        let what = what.into();
        self.log(&what);
        self.0.bar.set_message(what);
    }

    pub(crate) fn end(&self) {
        self.0.bar.finish_and_clear();
    }

    fn log(&self, what: &str) {
        let Some(last_log) = &self.0.last_log else {
            return;
        };
        let mut last_log = last_log.lock().expect("no holder of this lock panics");
        if last_log.elapsed() < LOG_EVERY {
            return;
        }
        *last_log = Instant::now();
        let (done, total) = (self.0.done.load(Relaxed), self.0.total.load(Relaxed));
        let _ = writeln!(
            std::io::stderr(),
            "{:<12} {done}/{total} {what}",
            self.0.row
        );
    }
}
