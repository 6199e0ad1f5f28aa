//! [`Account`]: what a node has counted, and what its journal says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journal::Tally;
use crate::row::Failure;

#[derive(Debug, Clone)]
pub(super) struct Account {
    /// The counters by their path, such as `called.failed.lost` or `served.received`.
    counters: BTreeMap<String, u64>,
    pub(super) tally: Tally,
}

impl Account {
    pub(super) fn parse(json: &str, tally: Tally) -> Result<Self, Failure> {
        let mut counters = BTreeMap::new();
        flatten("", &serde_json::from_str(json)?, &mut counters);
        Ok(Account { counters, tally })
    }

    /// Returns a counter.
    pub(super) fn of(&self, counter: &str) -> u64 {
        let counter = self.counters.get(counter);
        *counter.expect("the row asks for counters that there are")
    }

    /// Returns what has come since an earlier one of the same life.
    pub(super) fn since(&self, before: &Account) -> Account {
        let counters = self.counters.iter().map(|(name, count)| {
            // What is not a sum may have become less.
            (name.clone(), count.saturating_sub(before.of(name)))
        });
        Account {
            counters: counters.collect(),
            tally: self.tally.since(&before.tally),
        }
    }

    /// Returns whether no call is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.of("called.pending") == 0 && self.of("served.serving") == 0
    }
}

fn flatten(path: &str, value: &Value, counters: &mut BTreeMap<String, u64>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                flatten(&path, value, counters);
            }
        }
        value => {
            counters.insert(path.into(), value.as_u64().unwrap_or(u64::MAX));
        }
    }
}
