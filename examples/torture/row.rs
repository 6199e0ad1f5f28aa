//! Defines a row: a fault test, its result, and how it is run.

use std::{
    fmt, panic,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::progress::Progress;

/// One fault test.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The fault, and what must hold under it, in one line.
    pub(crate) what: &'static str,
    /// Runs on its own thread. Ends with [`Figures::verdict`], or early with a [`Failure`].
    pub(crate) run: fn(&Run) -> Result<Figures, Failure>,
}

/// The size of a run.
#[derive(Debug, Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Tier {
    /// All rows in minutes; run before each merge.
    Gate,
    /// All rows in less than an hour.
    Long,
}

impl Tier {
    pub(crate) fn from_name(word: &str) -> Option<Self> {
        Self::from_str(word, false).ok()
    }

    /// Returns the value for this tier.
    pub(crate) fn pick<T>(self, gate: T, long: T) -> T {
        match self {
            Tier::Gate => gate,
            Tier::Long => long,
        }
    }

    /// Returns the time after which a row counts as hanging.
    fn time_limit(self) -> Duration {
        self.pick(Duration::from_secs(240), Duration::from_secs(2 * 3600))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("gate", "long"))
    }
}

/// The parameters of a row.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) tier: Tier,
    /// Seed of all random choices in the row.
    pub(crate) seed: u64,
    pub(crate) progress: Progress,
}

/// The measurements of a row, in order, and the requirements that did not hold.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pairs: Vec<(&'static str, String)>,
    problems: Vec<String>,
}

impl Figures {
    /// Adds a figure.
    pub(crate) fn add(&mut self, label: &'static str, value: impl fmt::Display) {
        self.pairs.push((label, value.to_string()));
    }

    /// Records a problem unless `holds`. The row continues, so that the report shows all problems.
    pub(crate) fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(otherwise());
        }
    }

    /// Returns the figures, or a failure if there are problems.
    pub(crate) fn verdict(self) -> Result<Figures, Failure> {
        match self.problems.is_empty() {
            true => Ok(self),
            false => Err(Failure::Violated(self)),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More would hide the first, which matters most.
        const PROBLEMS: usize = 8;
        for problem in self.problems.iter().take(PROBLEMS) {
            write!(f, "{problem}; ")?;
        }
        if self.problems.len() > PROBLEMS {
            write!(f, "and {} more; ", self.problems.len() - PROBLEMS)?;
        }
        for (index, (label, value)) in self.pairs.iter().enumerate() {
            let between = if index == 0 { "" } else { " · " };
            write!(f, "{between}{label} {value}")?;
        }
        Ok(())
    }
}

/// Why a row did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A requirement did not hold.
    Violated(Figures),
    /// This machine cannot run the row, for this reason.
    Skipped(String),
    /// The row could not finish: the transport or the test itself is broken.
    Error(String),
}

impl Failure {
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Failure::Skipped(reason.into())
    }

    pub(crate) fn error(problem: impl Into<String>) -> Self {
        Failure::Error(problem.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(err: E) -> Self {
        Failure::Error(err.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Violated(figures) => figures.fmt(f),
            Failure::Skipped(text) | Failure::Error(text) => f.write_str(text),
        }
    }
}

/// How a row ended.
pub(crate) enum Outcome {
    Held(Figures),
    Skipped(String),
    Failed(Failure),
}

impl Row {
    /// Runs the row, and returns its outcome and how long it took. A row that panics or hangs
    /// fails.
    pub(crate) fn run(&self, run: Run) -> (Outcome, Duration) {
        let began = Instant::now();
        let (ended_tx, ended_rx) = mpsc::channel();
        let (row, time_limit) = (self.run, run.tier.time_limit());
        let builder = thread::Builder::new().name(self.name.into());
        let thread = builder.spawn(move || {
            let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| row(&run)));
            let ended = ended.unwrap_or_else(|panic| Err(Failure::Error(message(&*panic))));
            let _ = ended_tx.send(ended);
        });
        let ended = match thread {
            // There is no way to end a thread that hangs. It stays, and the other rows still run.
            Ok(_) => ended_rx
                .recv_timeout(time_limit)
                .unwrap_or_else(|_| Err(Failure::Error(format!("no end after {time_limit:?}")))),
            Err(err) => Err(err.into()),
        };
        let outcome = match ended {
            Ok(figures) => Outcome::Held(figures),
            Err(Failure::Skipped(reason)) => Outcome::Skipped(reason),
            Err(failure) => Outcome::Failed(failure),
        };
        (outcome, began.elapsed())
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}
