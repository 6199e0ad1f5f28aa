//! When accepting goes on after an error, and when it pauses.

use std::time::Duration;

use crate::runtime::backoff::Backoff;

/// Errors that may follow each other before accepting pauses, although each seems to concern one
/// connection only.
///
/// An error that takes no connection out of the backlog comes back at once: a system that denies
/// accepting made a core busy for ever. Pausing after the first error would let a stranger who can cause
/// them delay the others.
const IN_A_ROW: u32 = 64;

/// The errors since the last connection that was accepted.
#[derive(Debug)]
pub(super) struct AcceptErrors {
    waits: Backoff,
    in_a_row: u32,
}

impl AcceptErrors {
    pub(super) fn new() -> Self {
        const FIRST_WAIT: Duration = Duration::from_millis(100);
        const MAX_WAIT: Duration = Duration::from_secs(1);

        AcceptErrors {
            waits: Backoff::new(FIRST_WAIT, MAX_WAIT),
            in_a_row: 0,
        }
    }

    /// A connection was accepted.
    pub(super) fn accepted(&mut self) {
        self.waits.reset();
        self.in_a_row = 0;
    }

    /// Accepting failed. Returns how long to wait before the next try, if at all. An error that `lasts`
    /// will come back at once.
    pub(super) fn failed(&mut self, lasts: bool) -> Option<Duration> {
        // The wait is not random. Only this listener waits, so there is nobody to avoid, and a random
        // wait of zero would make this a busy loop.
        const FULL_WAIT: f64 = 1.0;

        self.in_a_row += 1;
        if !lasts && self.in_a_row <= IN_A_ROW {
            return None;
        }
        self.in_a_row = 0;
        Some(self.waits.next(FULL_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_error_that_lasts_is_followed_by_a_wait_which_grows_until_a_connection_comes() {
        let mut errors = AcceptErrors::new();
        let waits = [(); 6].map(|()| errors.failed(true).expect("a wait"));
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000].map(|n| n * MS));
        errors.accepted();
        assert_eq!(errors.failed(true), Some(100 * MS));
    }

    #[test]
    fn errors_of_single_connections_cost_no_time_unless_there_is_nothing_else() {
        let mut errors = AcceptErrors::new();
        for _ in 0..1000 {
            assert_eq!(errors.failed(false), None);
            errors.accepted();
        }
        let waits: Vec<_> = (0..130).filter_map(|_| errors.failed(false)).collect();
        assert_eq!(waits, [100 * MS, 200 * MS], "one for each 65 errors");
    }
}
