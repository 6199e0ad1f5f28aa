//! [`Lateness`]: what was late in one process, without the time in which the process did not run.

use std::time::Duration;

use super::journal_line::Late;

#[derive(Debug, Default)]
pub(super) struct Lateness {
    handlers: Vec<Late>,
    callers: Vec<Late>,
    /// When the process did not run: how long, and until when.
    stalls: Vec<(Duration, Duration)>,
}

impl Lateness {
    /// Notes when a handler got a call.
    pub(super) fn handler(&mut self, late: Late) {
        if !late.by.is_zero() {
            self.handlers.push(late);
        }
    }

    /// Notes when a caller was told how its call ended.
    pub(super) fn caller(&mut self, late: Late) {
        if !late.by.is_zero() {
            self.callers.push(late);
        }
    }

    pub(super) fn stall(&mut self, length: Duration, until: Duration) {
        self.stalls.push((length, until));
    }

    /// Returns how late the latest handler was, and the latest caller. All stalls must be known.
    pub(super) fn worst(&self) -> (Duration, Duration) {
        let worst = |of: &[Late]| of.iter().map(|late| self.without_stalls(*late)).max();
        let worst = |of| worst(of).unwrap_or_default();
        (worst(&self.handlers), worst(&self.callers))
    }

    fn without_stalls(&self, Late { by, at }: Late) -> Duration {
        let due = at.saturating_sub(by);
        let stalled = |(length, until): &(Duration, Duration)| {
            let (from, until) = (until.saturating_sub(*length).max(due), (*until).min(at));
            until.saturating_sub(from)
        };
        let stalled: Duration = self.stalls.iter().map(stalled).sum();
        by.saturating_sub(stalled)
    }
}
