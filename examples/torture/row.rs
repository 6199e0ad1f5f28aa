//! What a row is: something done to the transport, and what must hold meanwhile.

use std::{
    fmt, panic,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::progress::Progress;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What is done, and what must hold, in one line.
    pub(crate) what: &'static str,
    /// Runs on a thread of its own. Ends with [`Figures::verdict`], or early with a [`Failure`].
    pub(crate) run: fn(&Run) -> Result<Figures, Failure>,
}

/// How much of it.
#[derive(Debug, Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Tier {
    /// Within minutes, before anything lands.
    Gate,
    /// For as long as it takes.
    Long,
}

impl Tier {
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::from_str(word, false).ok()
    }

    /// What of the two is this tier's.
    pub(crate) fn of<T>(self, gate: T, long: T) -> T {
        match self {
            Tier::Gate => gate,
            Tier::Long => long,
        }
    }

    /// How long a row may take before it counts as hanging.
    fn patience(self) -> Duration {
        self.of(Duration::from_secs(240), Duration::from_secs(2 * 3600))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of("gate", "long"))
    }
}

/// What a row is given.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) tier: Tier,
    /// What every draw of the row comes from.
    pub(crate) seed: u64,
    pub(crate) progress: Progress,
}

/// What a row found, in its order, and what of it is not as it must be.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pairs: Vec<(&'static str, String)>,
    problems: Vec<String>,
}

impl Figures {
    /// Notes a figure.
    pub(crate) fn add(&mut self, label: &'static str, value: impl fmt::Display) {
        self.pairs.push((label, value.to_string()));
    }

    /// Notes what does not hold. The row goes on, so that all of it is seen.
    pub(crate) fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(otherwise());
        }
    }

    /// Held, or not.
    pub(crate) fn verdict(self) -> Result<Figures, Failure> {
        match self.problems.is_empty() {
            true => Ok(self),
            false => Err(Failure::Broken(self)),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More would bury the first, which is the one to look at.
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

/// Why a row has no good end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not hold.
    Broken(Figures),
    /// This machine cannot do it; with the reason.
    Skipped(String),
    /// It could not be carried through: what is tested, or the test, is broken.
    Stuck(String),
}

impl Failure {
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Failure::Skipped(reason.into())
    }

    pub(crate) fn stuck(problem: impl Into<String>) -> Self {
        Failure::Stuck(problem.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(err: E) -> Self {
        Failure::Stuck(err.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Broken(figures) => figures.fmt(f),
            Failure::Skipped(text) | Failure::Stuck(text) => f.write_str(text),
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
    /// Runs the row; says how it ended and how long it took. A row that panics or hangs has failed.
    pub(crate) fn run(&self, run: Run) -> (Outcome, Duration) {
        let began = Instant::now();
        let (tell, told) = mpsc::channel();
        let (row, patience) = (self.run, run.tier.patience());
        let builder = thread::Builder::new().name(self.name.into());
        let thread = builder.spawn(move || {
            let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| row(&run)));
            let ended = ended.unwrap_or_else(|panic| Err(Failure::Stuck(message(&*panic))));
            let _ = tell.send(ended);
        });
        let ended = match thread {
            // A thread that hangs is left behind: there is no way to end it, and the others can
            // still be looked at.
            Ok(_) => told
                .recv_timeout(patience)
                .unwrap_or_else(|_| Err(Failure::Stuck(format!("no end after {patience:?}")))),
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
