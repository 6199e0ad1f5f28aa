//! Clocks and timers, except for the coarse clock in `clock`.
//!
//! Timers and [`now`] go by tokio's clock, which tests can pause.

pub(crate) use std::time::{Instant as StdInstant, SystemTime};
pub(crate) use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// Returns the present moment on the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the present wall-clock time in microseconds since 1970, for an incarnation.
pub(crate) fn wall_clock_micros() -> u64 {
    let since = wall_clock().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Returns the present wall-clock time. It may jump, so it is only ever shown, never waited for.
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
