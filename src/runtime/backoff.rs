//! How long to wait before the next try: exponential, capped, with full jitter.
//!
//! Counts the failures since the last success. The caller waits, and draws the random number.

use std::time::Duration;

/// The waits between failed tries.
///
/// The n-th wait (from 0) is drawn evenly from 0 to `first · 2ⁿ`, capped at `max`. This is "full jitter"
/// from Marc Brooker's *Exponential Backoff And Jitter*: nodes that lost the same peer at the same
/// moment come back spread out over time.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Backoff {
            first,
            max,
            failures: 0,
        }
    }

    /// Returns the next wait, given a number drawn evenly from 0 to 1.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first
            .saturating_mul(factor)
            .min(self.max)
            .mul_f64(draw.clamp(0.0, 1.0))
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &mut Backoff, draw: f64) -> u128 {
        backoff.next(draw).as_millis()
    }

    #[test]
    fn doubles_up_to_its_cap_and_starts_over_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let waits: Vec<_> = (0..7).map(|_| millis(&mut backoff, 1.0)).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(millis(&mut backoff, 1.0), 200);
    }

    #[test]
    fn jitter_reaches_down_to_nothing() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        assert_eq!(millis(&mut backoff, 0.0), 0);
        assert_eq!(millis(&mut backoff, 0.25), 100);
    }

    #[test]
    fn survives_more_failures_than_a_shift_can_hold() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for _ in 0..100 {
            backoff.next(1.0);
        }
        assert_eq!(millis(&mut backoff, 1.0), 5000);
    }
}
