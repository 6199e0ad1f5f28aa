//! The state machine that every replica builds from the log. It applies each request once.
//!
//! A client that gets no answer sends its request again, perhaps to another replica, and cannot
//! know whether the first proposal was decided. So one request may have two instances, and the
//! store must skip the second. A session has one request open at a time, so the store needs to
//! remember only the number of its latest request.

use std::collections::HashMap;

use crate::value::{Request, Value};

#[derive(Default)]
pub(crate) struct Store {
    latest: HashMap<u32, u32>,
    applied: u64,
}

/// Result of applying one instance.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Outcome {
    Applied(Request),
    /// An earlier instance has already applied this request.
    Duplicate(Request),
    /// The instance has no request.
    NoOp,
}

impl Store {
    pub(crate) fn apply(&mut self, value: &Value) -> Outcome {
        let Some(request) = value.request() else {
            return Outcome::NoOp;
        };
        let latest = self.latest.entry(request.session).or_default();
        if request.number <= *latest {
            return Outcome::Duplicate(request);
        }
        *latest = request.number;
        self.applied += 1;
        Outcome::Applied(request)
    }

    /// Returns the number of applied requests.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the number of a session's latest request, or 0 if it had none.
    pub(crate) fn latest(&self, session: u32) -> u32 {
        self.latest.get(&session).copied().unwrap_or_default()
    }
}
