//! The time that frames age by.
//!
//! Owns one number: milliseconds since some moment in the past, monotonic, so that a wall clock that
//! jumps ages nothing. It is read once for every frame that is sent, so it is the system's *coarse*
//! clock, where there is one: 3 ns a read where `std::time::Instant` took 25. That moves in steps of
//! 1 to 10 ms, which is fine beside limits of seconds. The queue never reads it, it is told.

use std::time::Duration;

/// How much later than they go stale frames are looked for: more than a step of the clock, so that
/// one look finds them.
pub(crate) const EXPIRY_SLACK: Duration = Duration::from_millis(10);

/// A moment, in milliseconds.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct CoarseInstant(u64);

impl CoarseInstant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[inline]
    pub(crate) fn now() -> Self {
        use rustix::time::{ClockId, clock_gettime};

        let now = clock_gettime(ClockId::MonotonicCoarse);
        CoarseInstant(now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000)
    }

    /// Where there is no coarse clock, the fine one will do.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn now() -> Self {
        use std::{sync::LazyLock, time::Instant};

        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        CoarseInstant(BEGINNING.elapsed().as_millis() as u64)
    }

    #[cfg(any(test, feature = "test-internals"))]
    pub(crate) fn from_millis(millis: u64) -> Self {
        CoarseInstant(millis)
    }

    /// The time from `earlier` to here; none when `earlier` is later.
    pub(crate) fn since(self, earlier: CoarseInstant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_with_the_fine_clock() {
        use std::time::Instant;

        // Two reads may each lag by one step of the coarse clock.
        const STEPS: Duration = Duration::from_millis(25);

        // The fine clock is read before and after, so that nothing in between matters.
        let (before, first, after) = (Instant::now(), CoarseInstant::now(), Instant::now());
        std::thread::sleep(Duration::from_millis(60));
        let (least, coarse) = (after.elapsed(), CoarseInstant::now().since(first));
        let most = before.elapsed();
        assert!(coarse + STEPS > least, "{coarse:?} for {least:?}");
        assert!(coarse < most + STEPS, "{coarse:?} for {most:?}");
    }

    /// The machine's wall clock cannot be set in a test. What is read here is the time since the machine
    /// was started, between two reads of that; the wall clock, which has decades more on it, can jump
    /// as it likes.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_wall_clock_that_jumps_ages_nothing() {
        use rustix::time::{ClockId, clock_gettime};

        const STEP: u64 = 25;

        let millis = |clock| {
            let now = clock_gettime(clock);
            now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
        };
        let before = millis(ClockId::Monotonic);
        let CoarseInstant(now) = CoarseInstant::now();
        let after = millis(ClockId::Monotonic);
        assert!(
            (before.saturating_sub(STEP)..=after).contains(&now),
            "{now} is not between {before} and {after}"
        );
        assert!(millis(ClockId::Realtime) > after + 1_000_000_000);
    }

    #[test]
    fn a_moment_to_come_is_not_a_negative_age() {
        let (early, late) = (CoarseInstant::from_millis(1), CoarseInstant::from_millis(5));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
