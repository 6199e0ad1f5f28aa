//! The coarse clock that frames age by.
//!
//! It counts milliseconds from some moment in the past and is monotonic: a wall clock that jumps ages
//! no frame. It is read once for every frame that is sent, so it uses the system's *coarse* clock
//! where there is one: 3 ns per read, where `std::time::Instant` took 25. That clock advances in steps
//! of 1 to 10 ms, which is fine for limits of seconds. The queue never reads it; it is given the time.

use std::time::Duration;

/// Added to timers for stale frames. It is the longest step of the clock, so that the frames have gone
/// stale when the timer fires.
pub(crate) const EXPIRY_SLACK: Duration = Duration::from_millis(10);

/// A moment on the coarse clock, in milliseconds.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct CoarseInstant(u64);

impl CoarseInstant {
    /// Reads the clock.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[inline]
    pub(crate) fn now() -> Self {
        use rustix::time::{ClockId, clock_gettime};

        let now = clock_gettime(ClockId::MonotonicCoarse);
        CoarseInstant(now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000)
    }

    /// Reads the clock. This system has no coarse one, so the fine one is used.
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

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub(crate) fn since(self, earlier: CoarseInstant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_with_the_fine_clock() {
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

    /// A test cannot set the machine's wall clock. It shows instead that the clock lies between two reads
    /// of the time since boot, which is decades less than the wall clock.
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
