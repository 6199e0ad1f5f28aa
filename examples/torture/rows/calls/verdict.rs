//! Compares what callers were told with what handlers got, over all processes of both nodes.

use std::time::Duration;

use super::{
    journal::{CallFacts, Journal},
    message::{CallName, Life},
    told::{Served, Told},
};
use crate::row::Figures;

/// How late a handler may get a call, by its own clock.
const HANDLER_LATE: Duration = Duration::from_millis(50);
/// How late a caller may be told that its time is over.
const CALLER_LATE: Duration = Duration::from_secs(1);

/// Checks each call of each node.
pub(super) fn check(journal: &Journal, figures: &mut Figures) {
    for node in [1, 2] {
        for rule in RULES {
            let calls = journal.calls.iter();
            let of_node = calls.filter(|(call, _)| Life::of(**call).node == node);
            let broken = of_node.filter(|(call, facts)| !(rule.holds)(journal, **call, facts));
            let broken: Vec<_> = broken.map(|(call, _)| *call).collect();
            figures.require(broken.is_empty(), || {
                let (times, first) = (broken.len(), broken[0]);
                let what = rule.broken;
                format!("{times} calls of node {node} {what}, such as {first:#x}")
            });
        }
        let told = |which: &dyn Fn(Told) -> bool| {
            let lives = journal.lives.iter().filter(|(life, _)| life.node == node);
            lives.map(|(_, facts)| facts.tally.told(which)).sum::<u64>()
        };
        let kinds: [(&str, &dyn Fn(Told) -> bool); 5] = [
            ("answered", &|told| told == Told::Answered),
            ("failed", &|told| told == Told::Failed),
            ("not sent", &Told::is_unsent),
            ("in doubt", &|told| {
                matches!(told, Told::Deadline | Told::Lost)
            }),
            ("given up", &|told| told == Told::GivenUp),
        ];
        for (kind, which) in kinds {
            figures.require(told(which) > 0, || {
                format!("no call of node {node} was {kind}")
            });
        }
    }
    let (handlers, callers) = latest(journal);
    figures.require(handlers <= HANDLER_LATE, || {
        format!("a handler got a call {handlers:?} too late")
    });
    figures.require(callers <= CALLER_LATE, || {
        format!("a call ended {callers:?} after its deadline")
    });
}

/// What holds of each call.
struct Rule {
    holds: fn(&Journal, CallName, &CallFacts) -> bool,
    /// What a call did of which it does not hold.
    broken: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        holds: |_, _, facts| facts.called == 1,
        broken: "were not made once",
    },
    Rule {
        // What was under way in a process that was killed has ended with it.
        holds: |journal, call, facts| {
            let caller = journal.lives.get(&Life::of(call));
            let may_be_open = caller.is_some_and(|life| life.was_killed);
            facts.ended == 1 || facts.ended == 0 && may_be_open
        },
        broken: "did not end once",
    },
    Rule {
        holds: |_, _, facts| facts.served <= 1,
        broken: "were served twice",
    },
    Rule {
        holds: |_, _, facts| facts.told != Some(Told::Wrong),
        broken: "were told nonsense",
    },
    Rule {
        holds: |_, _, facts| facts.told.map(Told::served) != Some(Served::No) || facts.served == 0,
        broken: "were served although no handler was to see them",
    },
    Rule {
        holds: |_, _, facts| facts.told.map(Told::served) != Some(Served::Yes) || facts.served == 1,
        broken: "were answered by nobody",
    },
];

/// By how much the latest handler and the latest caller were late.
fn latest(journal: &Journal) -> (Duration, Duration) {
    let latest = journal.lives.values().map(|life| life.latest);
    latest.fold(Default::default(), |worst, latest| {
        (worst.0.max(latest.0), worst.1.max(latest.1))
    })
}

/// Adds what came of the calls.
pub(super) fn add_to(journal: &Journal, figures: &mut Figures) {
    let of_node = |node: u8, count: &dyn Fn(&CallFacts) -> bool| {
        let calls = journal.calls.iter();
        let calls = calls.filter(|(call, facts)| Life::of(**call).node == node && count(facts));
        calls.count()
    };
    let both = |count: &dyn Fn(&CallFacts) -> bool| {
        format!("{} and {}", of_node(1, count), of_node(2, count))
    };
    figures.add("calls of node 1 and 2", both(&|_| true));
    let ends = Told::all().filter_map(|told| {
        let times = both(&|facts| facts.told == Some(told));
        (times != "0 and 0").then(|| format!("{} {times}", told.word()))
    });
    figures.add("ends", ends.collect::<Vec<_>>().join(", "));
    figures.add(
        "open when their process was killed",
        both(&|facts| facts.ended == 0),
    );
    figures.add("served", both(&|facts| facts.served > 0));
    let (handlers, callers) = latest(journal);
    figures.add("handlers late by at most", format!("{handlers:.1?}"));
    figures.add("callers late by at most", format!("{callers:.1?}"));
}
