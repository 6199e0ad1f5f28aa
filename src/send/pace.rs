//! How closely sends follow one another: whether one comes alone.
//!
//! Owns the time at which a sender last wrote a frame by itself, for all links of a transport
//! together: who sends the same to many peers is better served by writers that share the work.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A send that follows the beginning of such a write this closely does not come alone: some two
/// system calls, so that a sender is not held up by more than it would take to wake the writer.
const CLOSE: Duration = Duration::from_micros(12);

/// Nor does one that follows its end this closely, where system calls take longer than that.
const AT_ONCE: Duration = Duration::from_micros(2);

/// When a sender last wrote by itself: from when to when.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<[Instant; 2]>);

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Pace(Mutex::new([now; 2]))
    }

    /// Whether what is sent now follows closely.
    pub(crate) fn is_close(&self, now: Instant) -> bool {
        let [began, ended] = *self.0.lock();
        now.saturating_duration_since(began) < CLOSE
            || now.saturating_duration_since(ended) < AT_ONCE
    }

    /// Notes such a write.
    pub(crate) fn note(&self, began: Instant, ended: Instant) {
        *self.0.lock() = [began, ended];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_write_closely_does_not_come_alone_however_long_the_write_took() {
        const MICRO: Duration = Duration::from_micros(1);

        let start = Instant::now();
        let pace = Pace::new(start);
        for (took, close, alone) in [(5, 11, 12), (11, 12, 13), (50, 51, 52)] {
            pace.note(start, start + took * MICRO);
            assert!(pace.is_close(start + close * MICRO), "{took} and {close}");
            assert!(!pace.is_close(start + alone * MICRO), "{took} and {alone}");
        }
    }
}
