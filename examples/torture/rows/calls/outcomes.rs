//! Compares what callers were told with what handlers got.

use std::{collections::HashMap, time::Duration};

use actix_transport::CallStats;
use serde_json::Value;

use super::callers::{CallLog, Outcome};
use crate::row::{Failure, Figures};

/// What the handlers of all lives got.
#[derive(Debug, Default)]
pub(super) struct Served {
    calls: HashMap<u64, u64>,
    /// How late the latest call was, without the time in which its process did not run.
    latest: Duration,
    life: Life,
}

/// What one process has told.
#[derive(Debug, Default)]
struct Life {
    /// Calls that a handler got after their deadline: how late, and when.
    late: Vec<(Duration, Duration)>,
    /// When the process did not run: how long, and until when.
    stalls: Vec<(Duration, Duration)>,
}

impl Served {
    pub(super) fn note(&mut self, line: &str) -> Result<(), Failure> {
        let words: Vec<_> = line.split(' ').collect();
        let micros = |word: &str| word.parse().map(Duration::from_micros);
        match words[..] {
            ["served", call, late, at] => {
                *self.calls.entry(call.parse()?).or_default() += 1;
                let late = micros(late)?;
                if !late.is_zero() {
                    self.life.late.push((late, micros(at)?));
                }
            }
            ["stall", length, at] => self.life.stalls.push((micros(length)?, micros(at)?)),
            _ => return Err(Failure::error(format!("a server of calls wrote `{line}`"))),
        }
        Ok(())
    }

    /// Notes that a process has ended: its clock ends with it.
    pub(super) fn life_ends(&mut self) {
        let Life { late, stalls } = std::mem::take(&mut self.life);
        for (late, at) in late {
            let due = at.saturating_sub(late);
            let stalled = |(length, until): &(Duration, Duration)| {
                let (from, until) = (until.saturating_sub(*length).max(due), (*until).min(at));
                until.saturating_sub(from)
            };
            let stalled: Duration = stalls.iter().map(stalled).sum();
            self.latest = self.latest.max(late.saturating_sub(stalled));
        }
    }
}

/// The counters of the node that serves.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct ServedCounts {
    received: u64,
    /// Calls whose callers were told something.
    told: u64,
    pub(super) serving: u64,
    lost: u64,
}

impl ServedCounts {
    pub(super) fn parse(json: &Value) -> Self {
        let of = |name: &str| json[name].as_u64().unwrap_or(u64::MAX);
        ServedCounts {
            received: of("received"),
            told: of("answered") + of("failed") + of("unanswered") + of("refused"),
            serving: of("serving"),
            lost: of("lost"),
        }
    }
}

/// Without faults, whatever one node has said, the other has heard.
pub(super) fn counters_agree(
    (calls_before, calls): (CallStats, CallStats),
    (served_before, served): (ServedCounts, ServedCounts),
    figures: &mut Figures,
) {
    let heard = |stats: &CallStats| {
        let failed = stats.failed;
        let by_handlers = stats.answered + failed.failed + failed.unanswered;
        by_handlers + failed.refused + failed.no_handler + stats.stray
    };
    let (heard, told) = (
        heard(&calls) - heard(&calls_before),
        served.told - served_before.told - (served.lost - served_before.lost),
    );
    figures.require(heard == told, || {
        format!("without faults, {told} calls were answered, and {heard} answers came")
    });
    let (called, received) = (
        calls.called - calls_before.called,
        served.received - served_before.received,
    );
    figures.require(received <= called && received > 0, || {
        format!("without faults, {called} calls were made and {received} came")
    });
    figures.add(
        "without faults: called, came, answered, answers came",
        format!("{called}, {received}, {told}, {heard}"),
    );
}

/// Both sides.
pub(super) struct Outcomes {
    callers: CallLog,
    served: Served,
}

impl Outcomes {
    pub(super) fn new(callers: CallLog, served: Served) -> Self {
        Outcomes { callers, served }
    }

    fn count(&self, of: Outcome) -> usize {
        let outcomes = self.callers.outcomes.values();
        outcomes.filter(|outcome| **outcome == of).count()
    }

    pub(super) fn check(&self, late: Duration, figures: &mut Figures) {
        let (log, served) = (&self.callers, &self.served);
        let wrong = self.count(Outcome::Wrong);
        figures.require(wrong == 0, || format!("{wrong} callers were told nonsense"));
        figures.require(log.twice == 0, || format!("{} ended twice", log.twice));
        let twice = served.calls.values().filter(|times| **times > 1).count();
        figures.require(twice == 0, || format!("{twice} calls were served twice"));
        let (mut lies, mut from_nowhere) = (0, 0);
        for (id, outcome) in &log.outcomes {
            let was_served = served.calls.contains_key(id);
            lies += u64::from(*outcome == Outcome::NotSent && was_served);
            from_nowhere += u64::from(*outcome == Outcome::Answered && !was_served);
        }
        figures.require(lies == 0, || {
            format!("{lies} calls were served that were not sent")
        });
        figures.require(from_nowhere == 0, || {
            format!("{from_nowhere} calls were answered by nobody")
        });
        figures.require(served.latest <= late, || {
            format!("a handler got a call {:?} too late", served.latest)
        });
        let second = Duration::from_secs(1);
        figures.require(log.latest <= second, || {
            format!("a call ended {:?} after its deadline", log.latest)
        });
        let stats = log.stats;
        figures.require(stats.pending == 0, || format!("{} pending", stats.pending));
        let (called, known) = (stats.called, log.outcomes.len() as u64);
        // A call that is dropped before its first poll was not made.
        figures.require(called <= known, || {
            format!("{known} calls were made, and {called} were counted")
        });
        for needed in [
            Outcome::Answered,
            Outcome::Failed,
            Outcome::NotSent,
            Outcome::InDoubt,
            Outcome::GivenUp,
        ] {
            let times = self.count(needed);
            figures.require(times > 0, || format!("{needed:?} never happened"));
        }
    }

    pub(super) fn add_to(&self, figures: &mut Figures) {
        let log = &self.callers;
        figures.add("calls", log.outcomes.len());
        figures.add(
            "answered, failed, not sent, in doubt, given up",
            [
                Outcome::Answered,
                Outcome::Failed,
                Outcome::NotSent,
                Outcome::InDoubt,
                Outcome::GivenUp,
            ]
            .map(|outcome| self.count(outcome).to_string())
            .join(", "),
        );
        let mut errors: Vec<_> = log.errors.iter().collect();
        errors.sort();
        let errors = errors.iter().map(|(text, times)| format!("{text} {times}"));
        figures.add("errors", errors.collect::<Vec<_>>().join(", "));
        figures.add("served", self.served.calls.len());
        figures.add(
            "handlers late by at most",
            format!("{:.1?}", self.served.latest),
        );
        figures.add("callers late by at most", format!("{:.1?}", log.latest));
    }
}
