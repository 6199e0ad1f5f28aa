//! [`Deadlines`]: in which order calls become too late, and who must look when.

use std::{
    collections::BTreeSet,
    mem,
    task::{Poll, Waker},
    time::Duration,
};

use crate::net::time::Instant;

/// Longer deadlines are shortened to this, a century: a clock may not reach further.
pub(crate) const LATEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The deadlines of calls, by what the calls are known by.
#[derive(Debug)]
pub(crate) struct Deadlines<Id> {
    ordered: BTreeSet<(Instant, Id)>,
    /// When the next look is due. Not reset when the first deadline goes away: most calls are answered long before
    /// theirs, and then nobody needs to be woken for the next call.
    armed: Option<Instant>,
    /// Whether a deadline has come that is before the next look, and whom to wake when one comes.
    has_sooner: bool,
    sooner: Option<Waker>,
}

impl<Id> Default for Deadlines<Id> {
    fn default() -> Self {
        Deadlines {
            ordered: BTreeSet::new(),
            armed: None,
            has_sooner: false,
            sooner: None,
        }
    }
}

impl<Id: Copy + Ord> Deadlines<Id> {
    /// Adds a deadline. Returns whom to wake if it is before the next look.
    #[must_use]
    pub(crate) fn add(&mut self, at: Instant, id: Id) -> Option<Waker> {
        self.ordered.insert((at, id));
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        self.has_sooner = true;
        self.sooner.take()
    }

    pub(crate) fn remove(&mut self, at: Instant, id: Id) {
        self.ordered.remove(&(at, id));
    }

    /// Takes out those that are over.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Id> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.ordered.first().copied()
            && at <= now
        {
            self.ordered.pop_first();
            due.push(id);
        }
        due
    }

    /// Returns when the next look is due. `None` if there are no deadlines.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        self.armed = self.ordered.first().map(|(at, _)| *at);
        self.armed
    }

    /// Is ready when a deadline has come that is before the next look. Until then `waker` is kept, and what is left in
    /// it is dropped without a lock, as it is foreign code. Only one may wait for this at a time.
    pub(crate) fn poll_sooner(&mut self, waker: &mut Option<Waker>) -> Poll<()> {
        if mem::take(&mut self.has_sooner) {
            return Poll::Ready(());
        }
        mem::swap(&mut self.sooner, waker);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::time;

    #[test]
    fn only_a_deadline_before_the_next_look_wakes_whoever_looks() {
        let now = time::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut deadlines = Deadlines::default();
        let look = || Some(Waker::noop().clone());
        let sooner = |deadlines: &mut Deadlines<u64>, at, id| deadlines.add(at, id).is_some();
        assert!(deadlines.poll_sooner(&mut look()).is_pending());
        assert!(sooner(&mut deadlines, at(10), 1));
        assert!(deadlines.poll_sooner(&mut look()).is_ready());
        assert!(deadlines.poll_sooner(&mut look()).is_pending());
        assert!(!sooner(&mut deadlines, at(20), 2));
        deadlines.remove(at(10), 1);
        assert!(
            !sooner(&mut deadlines, at(15), 3),
            "the look at 10 finds it"
        );
        assert!(sooner(&mut deadlines, at(5), 4));
        assert_eq!(deadlines.take_due(at(15)), [4, 3]);
        assert_eq!(deadlines.arm(), Some(at(20)));
        deadlines.remove(at(20), 2);
        assert_eq!(deadlines.arm(), None);
        assert!(deadlines.poll_sooner(&mut look()).is_ready(), "from before");
        assert!(deadlines.poll_sooner(&mut look()).is_pending());
        assert!(sooner(&mut deadlines, at(30), 5));
    }
}
