//! [`Journal`]: what all processes of both nodes have written of their calls.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    journal_line::JournalLine,
    lateness::Lateness,
    message::{CallName, Life},
    told::Told,
};

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) calls: HashMap<CallName, CallFacts>,
    pub(super) lives: BTreeMap<Life, LifeFacts>,
}

/// What became of one call.
#[derive(Debug, Default)]
pub(super) struct CallFacts {
    pub(super) called: u8,
    /// How often its caller was told the end. There is no way to twice, but this is what the row is for.
    pub(super) ended: u8,
    pub(super) told: Option<Told>,
    pub(super) served: u8,
}

/// What one process has done.
#[derive(Debug, Default)]
pub(super) struct LifeFacts {
    pub(super) tally: Tally,
    /// Whether it was killed.
    pub(super) was_killed: bool,
    /// By how much the latest handler and the latest caller were late, when the process has ended.
    pub(super) latest: (Duration, Duration),
    lateness: Lateness,
}

/// Numbers of lines so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) called: u64,
    pub(super) told: BTreeMap<Told, u64>,
    pub(super) served: u64,
}

impl Journal {
    /// Notes what this process has written.
    pub(super) fn note(&mut self, by: Life, line: JournalLine) {
        let life = self.lives.entry(by).or_default();
        match line {
            JournalLine::Called(call) => {
                self.calls.entry(call).or_default().called += 1;
                life.tally.called += 1;
            }
            JournalLine::Ended(call, told, late) => {
                let call = self.calls.entry(call).or_default();
                call.ended += 1;
                call.told = Some(told);
                *life.tally.told.entry(told).or_default() += 1;
                life.lateness.caller(late);
            }
            JournalLine::Served(call, late) => {
                self.calls.entry(call).or_default().served += 1;
                life.tally.served += 1;
                life.lateness.handler(late);
            }
            JournalLine::Stall(length, until) => life.lateness.stall(length, until),
        }
    }

    /// Notes that a process has ended, and that all of its lines are known.
    pub(super) fn life_ends(&mut self, life: Life, was_killed: bool) {
        let life = self.lives.entry(life).or_default();
        life.was_killed = was_killed;
        life.latest = std::mem::take(&mut life.lateness).worst();
    }

    /// Returns what a process has done so far.
    pub(super) fn tally(&self, life: Life) -> Tally {
        let life = self.lives.get(&life);
        life.map(|life| life.tally.clone()).unwrap_or_default()
    }
}

impl Tally {
    pub(super) fn told(&self, which: impl Fn(Told) -> bool) -> u64 {
        let told = self.told.iter().filter(|(told, _)| which(**told));
        told.map(|(_, times)| times).sum()
    }

    /// Returns what has come since an earlier one of the same life.
    pub(super) fn since(&self, before: &Tally) -> Tally {
        let told = self.told.iter().map(|(told, times)| {
            let before = before.told.get(told).copied().unwrap_or_default();
            (*told, times - before)
        });
        Tally {
            called: self.called - before.called,
            told: told.collect(),
            served: self.served - before.served,
        }
    }
}
