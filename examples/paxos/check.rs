//! What must be true of a group when all is over.

use std::collections::HashMap;

use crate::{
    actor::Legacy,
    client::Harvest,
    message::NodeId,
    store::{Outcome, Store},
};

/// What was found in the log of a group.
#[derive(Copy, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) slots: u64,
    /// Slots whose request had been applied by an earlier one.
    pub(crate) again: u64,
}

/// Checks that the replicas of a group have the same log, entry by entry, and that this log is
/// what its client was told: every request is applied exactly once and in its session's order, all
/// that was answered is there, and nothing takes two slots but what the client sent twice.
pub(crate) fn check(legacies: &[Legacy], harvest: &Harvest) -> Result<Tally, String> {
    let Some((one, others)) = legacies.split_first() else {
        return Ok(Tally::default());
    };
    for (other, node) in others.iter().zip(NodeId::replicas().skip(1)) {
        let first = NodeId::replica(0);
        let differs = |(one, other)| one != other;
        if let Some(slot) = one.log.iter().zip(&other.log).position(differs) {
            return Err(format!("{first} and {node} disagree on slot {slot}"));
        }
        let (len, other_len) = (one.log.len(), other.log.len());
        if len != other_len {
            return Err(format!("{first} has {len} slots, {node} {other_len}"));
        }
    }

    let mut store = Store::default();
    let mut tally = Tally::default();
    let mut latest = HashMap::new();
    for (value, slot) in one.log.iter().zip(0..) {
        tally.slots += 1;
        match store.apply(value) {
            Outcome::Applied(request) => {
                let latest = latest.entry(request.session).or_insert(0);
                if request.number != *latest + 1 {
                    return Err(format!("slot {slot} skips to {request:?}"));
                }
                *latest = request.number;
            }
            Outcome::Again(request) if harvest.repeated.contains(&request) => tally.again += 1,
            Outcome::Again(request) => {
                return Err(format!(
                    "slot {slot} repeats {request:?}, which was sent once"
                ));
            }
            Outcome::Nothing => {}
        }
    }

    for (&answered, session) in harvest.answered.iter().zip(0..) {
        let applied = store.latest(session);
        if applied < answered {
            return Err(format!(
                "session {session} was answered {answered}, the log ends with its {applied}"
            ));
        }
    }
    let counts = legacies.iter().map(|legacy| legacy.applied);
    for (applied, node) in counts.zip(NodeId::replicas()) {
        if applied != harvest.decided {
            let decided = harvest.decided;
            return Err(format!("{node} applied {applied} of {decided} requests"));
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use hdrhistogram::Histogram;

    use super::*;
    use crate::message::{Request, Value};

    fn request(number: u32) -> Request {
        Request { session: 0, number }
    }

    /// Checks three replicas whose logs hold these requests, of which two were answered.
    fn verdict(logs: [&[u32]; 3], repeated: &[u32]) -> Result<u64, String> {
        let legacies = logs.map(|log| Legacy {
            log: log.iter().map(|&n| Value::new(request(n), 8)).collect(),
            applied: 2,
        });
        let harvest = Harvest {
            latency: Histogram::new(3).expect("three digits are a valid precision"),
            longest_pause: Duration::ZERO,
            decided: 2,
            answered: vec![2],
            repeated: repeated
                .iter()
                .copied()
                .map(request)
                .collect::<HashSet<_>>(),
        };
        check(&legacies, &harvest).map(|tally| tally.again)
    }

    #[test]
    fn only_what_was_sent_twice_may_be_decided_twice() {
        assert_eq!(verdict([&[1, 2], &[1, 2], &[1, 2]], &[]), Ok(0));
        assert_eq!(verdict([&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]], &[1]), Ok(1));
        verdict([&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]], &[]).expect_err("decided twice");
        verdict([&[1], &[1], &[1]], &[]).expect_err("answered and not in the log");
        verdict([&[2, 1], &[2, 1], &[2, 1]], &[]).expect_err("out of order");
        verdict([&[1, 2], &[1, 2], &[1, 1]], &[]).expect_err("another value");
        verdict([&[1, 2], &[1, 2], &[1]], &[]).expect_err("a shorter log");
    }
}
