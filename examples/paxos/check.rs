//! The checks on one group after a run: same logs, and no request lost or applied twice.

use std::collections::HashMap;

use crate::{
    actor::ReplicaReport,
    client::ClientReport,
    message::NodeId,
    store::{Outcome, Store},
    value::Value,
};

/// Counts from the log of a group.
#[derive(Copy, Clone, Default)]
pub(crate) struct LogCheck {
    pub(crate) instances: u64,
    /// Instances with a request that an earlier instance had already applied.
    pub(crate) duplicates: u64,
}

/// Checks that all replicas of a group have the same log, entry by entry, and that the log agrees
/// with what the client saw: every value is the one that was sent, every request is applied exactly once and in the order of its session,
/// every answered request is in the log, and only a request that was sent twice has two instances.
pub(crate) fn check(replicas: &[ReplicaReport], client: &ClientReport) -> Result<LogCheck, String> {
    let Some((one, others)) = replicas.split_first() else {
        return Ok(LogCheck::default());
    };
    for (other, node) in others.iter().zip(NodeId::replicas().skip(1)) {
        let first = NodeId::replica(0);
        let differs = |(one, other)| one != other;
        if let Some(instance) = one.log.iter().zip(&other.log).position(differs) {
            return Err(format!(
                "{first} and {node} disagree on instance {instance}"
            ));
        }
        let (len, other_len) = (one.log.len(), other.log.len());
        if len != other_len {
            return Err(format!("{first} has {len} instances, {node} {other_len}"));
        }
    }

    let mut store = Store::default();
    let mut log = LogCheck::default();
    let mut latest = HashMap::new();
    for (value, instance) in one.log.iter().zip(0..) {
        log.instances += 1;
        if let Some(request) = value.request()
            && *value != Value::new(request, client.payload)
        {
            return Err(format!(
                "instance {instance} is not what was sent: {value:?}"
            ));
        }
        match store.apply(value) {
            Outcome::Applied(request) => {
                let latest = latest.entry(request.session).or_insert(0);
                if request.number != *latest + 1 {
                    return Err(format!("instance {instance} skips to {request:?}"));
                }
                *latest = request.number;
            }
            Outcome::Duplicate(request) if client.repeated.contains(&request) => {
                log.duplicates += 1;
            }
            Outcome::Duplicate(request) => {
                return Err(format!(
                    "instance {instance} repeats {request:?}, which was sent once"
                ));
            }
            Outcome::NoOp => {}
        }
    }

    for (&answered, session) in client.answered.iter().zip(0..) {
        let applied = store.latest(session);
        if applied < answered {
            return Err(format!(
                "session {session} was answered {answered}, but its latest request in the log is {applied}"
            ));
        }
    }
    let counts = replicas.iter().map(|replica| replica.applied);
    for (applied, node) in counts.zip(NodeId::replicas()) {
        if applied != client.decided {
            let decided = client.decided;
            return Err(format!("{node} applied {applied} of {decided} requests"));
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use hdrhistogram::Histogram;

    use super::*;
    use crate::value::Request;

    const PAYLOAD: usize = 16;

    fn request(number: u32) -> Request {
        Request { session: 0, number }
    }

    /// Checks three replicas with these requests in their logs; two of them were answered.
    fn verdict(logs: [&[u32]; 3], repeated: &[u32]) -> Result<u64, String> {
        let value = |&number: &u32| Value::new(request(number), PAYLOAD);
        verdict_on(logs.map(|log| log.iter().map(value).collect()), repeated)
    }

    fn verdict_on(logs: [Vec<Value>; 3], repeated: &[u32]) -> Result<u64, String> {
        let replicas = logs.map(|log| ReplicaReport { log, applied: 2 });
        let client = ClientReport {
            latency: Histogram::new(3).expect("three digits are a valid precision"),
            longest_pause: Duration::ZERO,
            decided: 2,
            answered: vec![2],
            repeated: repeated
                .iter()
                .copied()
                .map(request)
                .collect::<HashSet<_>>(),
            payload: PAYLOAD,
        };
        check(&replicas, &client).map(|log| log.duplicates)
    }

    #[test]
    fn only_a_repeated_request_may_be_decided_twice() {
        assert_eq!(verdict([&[1, 2], &[1, 2], &[1, 2]], &[]), Ok(0));
        assert_eq!(verdict([&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]], &[1]), Ok(1));
        verdict([&[1, 1, 2], &[1, 1, 2], &[1, 1, 2]], &[]).expect_err("decided twice");
        verdict([&[1], &[1], &[1]], &[]).expect_err("answered and not in the log");
        verdict([&[2, 1], &[2, 1], &[2, 1]], &[]).expect_err("out of order");
        verdict([&[1, 2], &[1, 2], &[1, 1]], &[]).expect_err("another value");
        verdict([&[1, 2], &[1, 2], &[1]], &[]).expect_err("a shorter log");
    }

    #[test]
    fn a_value_must_be_what_was_sent_even_if_all_replicas_have_the_same() {
        let mut bytes = Value::new(request(2), PAYLOAD).bytes().to_vec();
        bytes[PAYLOAD - 1] ^= 1;
        let bytes = bytes.into();
        let log = vec![
            Value::new(request(1), PAYLOAD),
            Value::received(&bytes, &bytes),
        ];
        verdict_on([log.clone(), log.clone(), log], &[]).expect_err("another padding");
    }
}
