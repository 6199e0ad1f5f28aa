//! How often an actor may be started again within a time window.

use std::{collections::VecDeque, time::Duration};

use crate::net::time::Instant;

/// The restarts within the current window. Reads no clock: the time is an argument.
#[derive(Debug)]
pub(crate) struct RestartBudget {
    limit: usize,
    window: Duration,
    /// When each of them happened, the oldest first.
    restarts: VecDeque<Instant>,
}

impl RestartBudget {
    pub(crate) fn new(limit: usize, window: Duration) -> Self {
        RestartBudget {
            limit,
            window,
            restarts: VecDeque::new(),
        }
    }

    /// Takes one restart. Returns false if the window has none left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while let Some(oldest) = self.restarts.front()
            && now - *oldest >= self.window
        {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.limit {
            return false;
        }
        self.restarts.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::time;

    #[test]
    fn the_budget_is_per_window() {
        const WINDOW: Duration = Duration::from_secs(60);

        let start = time::now();
        let mut budget = RestartBudget::new(2, WINDOW);
        assert!(budget.take(start));
        assert!(budget.take(start));
        assert!(!budget.take(start));
        assert!(budget.take(start + WINDOW));
    }
}
