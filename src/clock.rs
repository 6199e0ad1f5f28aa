//! The time that frames age by.
//!
//! Owns one number: milliseconds since some moment before the process began, monotonic, so that a
//! wall clock that jumps ages nothing. It is read once for every frame that is sent, so it is the
//! system's *coarse* clock (about 5 ns a read here, 25 ns for `std::time::Instant`), which moves in
//! steps of 1 to 10 ms: fine beside limits of seconds. The queue never reads it, it is told.

use std::time::Duration;

/// A moment, in milliseconds.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Tick(u64);

impl Tick {
    pub(crate) fn now() -> Self {
        // Ticks are seconds with 32 binary places; ten of them are more than a millisecond needs.
        let ticks = coarsetime::Instant::now().as_ticks();
        Tick(((ticks >> 22) * 1000) >> 10)
    }

    #[cfg(test)]
    pub(crate) fn from_millis(millis: u64) -> Self {
        Tick(millis)
    }

    /// The time from `earlier` to here; none when `earlier` is later.
    pub(crate) fn since(self, earlier: Tick) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_with_the_fine_clock() {
        let (fine, coarse) = (std::time::Instant::now(), Tick::now());
        std::thread::sleep(Duration::from_millis(60));
        let (fine, coarse) = (fine.elapsed(), Tick::now().since(coarse));
        // Two reads may each lag by one step of the coarse clock.
        assert!(
            coarse + Duration::from_millis(25) > fine,
            "{coarse:?} for {fine:?}"
        );
        assert!(
            coarse < fine + Duration::from_millis(25),
            "{coarse:?} for {fine:?}"
        );
    }

    #[test]
    fn a_moment_to_come_is_not_a_negative_age() {
        let (early, late) = (Tick::from_millis(1), Tick::from_millis(5));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
