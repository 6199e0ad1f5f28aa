//! The coarse clock that frames age by.
//!
//! It counts milliseconds from some moment in the past and is monotonic: a wall clock that jumps ages
//! no frame. It is read once for every frame that is sent, so it uses the system's *coarse* clock
//! where there is one: 3 ns per read, where `std::time::Instant` took 25. That clock advances in steps
//! of 1 to 10 ms, which is fine for limits of seconds. The queue never reads it; it is given the time.
//!
//! On Linux it also counts the time in which the machine sleeps (suspend), so that frames do not go out
//! hours late. The clock that counts sleep, `CLOCK_BOOTTIME`, has no coarse variant, and takes as long as
//! `Instant`. It is read only once in each step of the coarse clock; see [`SleepClock`].

#[cfg(any(test, target_os = "linux", target_os = "android"))]
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
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
        use rustix::time::ClockId;

        static SLEEP: SleepClock = SleepClock::new();
        // The difference must never be too large, or new frames would be older than they are. So the clock
        // that counts sleep is read before the other one, and the difference is rounded, not the two.
        let slept =
            || nanos(ClockId::Boottime).saturating_sub(nanos(ClockId::Monotonic)) / 1_000_000;
        SLEEP.now(millis(ClockId::MonotonicCoarse), slept)
    }

    /// Reads the clock. This system has no coarse one, so the fine one is used. Whether it counts sleep
    /// depends on the system.
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

/// Reads a clock of the system, in milliseconds.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn millis(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Reads a clock of the system, in nanoseconds.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn nanos(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Adds the time that the machine has slept to a clock that does not count it.
///
/// Nobody sends while the machine sleeps, and it takes many milliseconds to wake up. So it is enough to
/// ask how long the machine has slept once in each step of the coarse clock. Between two steps a read
/// costs two loads.
///
/// Any thread may store into these: first what it learned, and then the step in which it learned it. A
/// thread that sees the step therefore sees what was learned in it.
#[cfg(any(test, target_os = "linux", target_os = "android"))]
struct SleepClock {
    /// The latest step in which `slept` was learned.
    step: AtomicU64,
    /// How long the machine has slept since it was started. Never too large: otherwise new frames could
    /// be older than they are.
    slept: AtomicU64,
}

#[cfg(any(test, target_os = "linux", target_os = "android"))]
impl SleepClock {
    const fn new() -> Self {
        SleepClock {
            step: AtomicU64::new(0),
            slept: AtomicU64::new(0),
        }
    }

    /// Returns the time, sleep included, given the time without it. Asks `slept` if this step is new.
    #[inline]
    fn now(&self, awake: u64, slept: impl FnOnce() -> u64) -> CoarseInstant {
        if self.step.load(Acquire) < awake {
            self.learn(awake, slept());
        }
        CoarseInstant(awake + self.slept.load(Relaxed))
    }

    #[cold]
    fn learn(&self, step: u64, slept: u64) {
        // A thread that is interrupted between two clocks learns too little, and a later one makes up
        // for it.
        self.slept.fetch_max(slept, Relaxed);
        self.step.store(step, Release);
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
        use rustix::time::ClockId;

        const STEP: u64 = 25;

        let before = millis(ClockId::Boottime);
        let CoarseInstant(now) = CoarseInstant::now();
        let after = millis(ClockId::Boottime);
        assert!(
            (before.saturating_sub(STEP)..=after).contains(&now),
            "{now} is not between {before} and {after}"
        );
        assert!(millis(ClockId::Realtime) > after + 1_000_000_000);
    }

    /// A test cannot put the machine to sleep, so it plays the system's clocks.
    #[test]
    fn time_goes_on_while_the_machine_sleeps() {
        const HOUR: u64 = 60 * 60 * 1000;

        let clock = SleepClock::new();
        let asleep_before = 7 * HOUR;
        let pushed = clock.now(1000, || asleep_before);
        assert_eq!(
            clock.now(1004, || asleep_before).since(pushed).as_millis(),
            4
        );
        let woken = clock.now(1008, || asleep_before + HOUR);
        assert_eq!(woken.since(pushed), Duration::from_millis(8 + HOUR));
        // A frame that is pushed now is new.
        let new = clock.now(1008, || unreachable!("known for this step"));
        assert_eq!(new.since(woken), Duration::ZERO);
    }

    #[test]
    fn a_thread_that_learns_too_little_of_a_sleep_does_not_turn_the_clock_back() {
        let clock = SleepClock::new();
        let first = clock.now(1000, || 500);
        let second = clock.now(1004, || 480);
        assert_eq!(second.since(first), Duration::from_millis(4));
    }

    #[test]
    fn a_moment_to_come_is_not_a_negative_age() {
        let (early, late) = (CoarseInstant::from_millis(1), CoarseInstant::from_millis(5));
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
