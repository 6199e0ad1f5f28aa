//! What is shown while a row runs: a line that moves where somebody looks, one now and then where a
//! log is written.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// The line of one row. Cheap to clone, and any thread may move it.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Inner>);

struct Inner {
    row: &'static str,
    bar: ProgressBar,
    done: AtomicU64,
    total: AtomicU64,
    /// When a log was last written to; none where there is a bar to look at.
    logged: Option<Mutex<Instant>>,
}

impl Progress {
    pub(crate) fn of(row: &'static str, watched: bool) -> Self {
        let bar = match watched {
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
            logged: (!watched).then(|| Mutex::new(Instant::now())),
        }))
    }

    /// How much there is to do.
    pub(crate) fn total(&self, total: u64) {
        self.0.total.store(total, Relaxed);
        self.0.bar.set_length(total);
    }

    /// How much of it is done.
    pub(crate) fn at(&self, done: u64) {
        self.0.done.store(done, Relaxed);
        self.0.bar.set_position(done);
        self.log("");
    }

    /// So much more of it is done.
    pub(crate) fn add(&self, more: u64) {
        let done = self.0.done.fetch_add(more, Relaxed) + more;
        self.at(done);
    }

    /// What is being done.
    pub(crate) fn say(&self, what: impl Into<String>) {
        let what = what.into();
        self.log(&what);
        self.0.bar.set_message(what);
    }

    pub(crate) fn end(&self) {
        self.0.bar.finish_and_clear();
    }

    fn log(&self, what: &str) {
        let Some(logged) = &self.0.logged else {
            return;
        };
        let mut logged = logged.lock().expect("nobody panics here");
        if logged.elapsed() < LOG_EVERY {
            return;
        }
        *logged = Instant::now();
        let (done, total) = (self.0.done.load(Relaxed), self.0.total.load(Relaxed));
        let _ = writeln!(
            std::io::stderr(),
            "{:<12} {done}/{total} {what}",
            self.0.row
        );
    }
}
