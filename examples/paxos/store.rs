//! What the log is for: the state that every replica builds from it.
//!
//! A client that gets no answer asks again, perhaps elsewhere, and cannot know whether its first
//! proposal was decided. So a request may take two slots of the log, and whoever reads the log has
//! to take it once. A session asks one thing at a time, hence the number of its latest request is
//! all there is to remember of it.

use std::collections::HashMap;

use crate::message::{Request, Value};

#[derive(Default)]
pub(crate) struct Store {
    latest: HashMap<u32, u32>,
    applied: u64,
}

/// What came of a slot.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Outcome {
    Applied(Request),
    /// Applied by an earlier slot, so not again.
    Again(Request),
    /// The slot carries no request.
    Nothing,
}

impl Store {
    pub(crate) fn apply(&mut self, value: &Value) -> Outcome {
        let Some(request) = value.request() else {
            return Outcome::Nothing;
        };
        let latest = self.latest.entry(request.session).or_default();
        if request.number <= *latest {
            return Outcome::Again(request);
        }
        *latest = request.number;
        self.applied += 1;
        Outcome::Applied(request)
    }

    /// Returns how many requests have been applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the number of a session's latest request, 0 if it had none.
    pub(crate) fn latest(&self, session: u32) -> u32 {
        self.latest.get(&session).copied().unwrap_or_default()
    }
}
