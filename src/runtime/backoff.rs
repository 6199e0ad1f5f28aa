//! How long to wait before the next try: exponential, capped, with full jitter.
//!
//! Owns the count of tries since the last success. Knows no clock and draws no number of its own:
//! the waiting and the dice are the caller's.

use std::time::Duration;

/// The waits between tries that failed.
///
/// The n-th wait is drawn evenly from nothing up to `first · 2ⁿ`, capped at `max` ("full jitter", as
/// in Marc Brooker's *Exponential Backoff And Jitter*): many who lost the same peer at the same
/// moment come back spread out, not in step.
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

    /// The next wait, given an even draw from 0 to 1.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first
            .saturating_mul(factor)
            .min(self.max)
            .mul_f64(draw.clamp(0.0, 1.0))
    }

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
