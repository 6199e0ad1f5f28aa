//! Decides when an incomplete frame must be complete.
//!
//! This is the rule of [`Config::frame_timeout`](crate::Config::frame_timeout) and
//! [`Config::frame_floor`](crate::Config::frame_floor). Reads no clock and sets no timer, which is
//! left to `connection`.

use std::time::Duration;

use crate::{config::Config, net::time::Instant};

/// Computes when the incomplete frame of one connection, if there is one, must be complete.
#[derive(Debug)]
pub(crate) struct FrameDeadline {
    /// The least time that a frame is given.
    timeout: Duration,
    /// Bytes per second. A frame is given at least the time that it takes at this rate.
    floor: f64,
    /// When the frame began; `None` if no byte of a next frame has arrived.
    began: Option<Instant>,
}

impl FrameDeadline {
    pub(crate) fn new(config: &Config) -> Self {
        FrameDeadline {
            timeout: config.frame_timeout,
            floor: config.frame_floor as f64,
            began: None,
        }
    }

    /// Notes that the buffer begins with an incomplete frame. A `new_frame` begins now. Otherwise it is
    /// the frame that was noted before, if one was, and keeps the time at which it began.
    pub(crate) fn incomplete(&mut self, new_frame: bool, now: Instant) {
        if new_frame || self.began.is_none() {
            self.began = Some(now);
        }
    }

    /// Notes that the buffer is empty: nothing of a next frame has arrived.
    pub(crate) fn clear(&mut self) {
        self.began = None;
    }

    /// Gives the incomplete frame, if there is one, its full time again from now on. Called after a time
    /// in which we did not read, because the peer must not pay for our pause. Also called before a wait
    /// for memory, so that the wait may last as long as the frame may take.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.began = self.began.map(|_| now);
    }

    /// Returns when the frame must be complete; `None` if none has begun. `len` is the length of the
    /// frame, once that is known.
    pub(crate) fn at(&self, len: Option<usize>) -> Option<Instant> {
        let began = self.began?;
        let at_floor = Duration::from_secs_f64(len.unwrap_or(0) as f64 / self.floor);
        Some(began + self.timeout.max(at_floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::time;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gives each frame 10 s, or a second for each 100 bytes.
    fn deadline() -> FrameDeadline {
        let config = Config::default().frame_timeout(10 * SECOND);
        FrameDeadline::new(&config.frame_floor(100))
    }

    #[test]
    fn there_is_none_before_a_frame_begins() {
        let mut deadline = deadline();
        assert_eq!(deadline.at(Some(64)), None);
        deadline.restart(time::now());
        assert_eq!(deadline.at(Some(64)), None, "a restart begins no frame");
    }

    #[test]
    fn a_frame_has_the_timeout_or_what_its_length_takes_at_the_floor() {
        let (mut deadline, now) = (deadline(), time::now());
        deadline.incomplete(true, now);
        assert_eq!(deadline.at(None), Some(now + 10 * SECOND));
        assert_eq!(deadline.at(Some(1000)), Some(now + 10 * SECOND));
        assert_eq!(deadline.at(Some(3000)), Some(now + 30 * SECOND));
    }

    #[test]
    fn further_bytes_of_a_frame_do_not_move_its_deadline() {
        let (mut deadline, now) = (deadline(), time::now());
        deadline.incomplete(false, now);
        deadline.incomplete(false, now + SECOND);
        assert_eq!(deadline.at(None), Some(now + 10 * SECOND));
    }

    #[test]
    fn the_next_frame_has_its_own_deadline() {
        let (mut deadline, now) = (deadline(), time::now());
        deadline.incomplete(true, now);
        deadline.incomplete(true, now + SECOND);
        assert_eq!(deadline.at(None), Some(now + 11 * SECOND));
        deadline.clear();
        assert_eq!(deadline.at(None), None);
        deadline.incomplete(false, now + 2 * SECOND);
        assert_eq!(deadline.at(None), Some(now + 12 * SECOND));
    }

    #[test]
    fn a_restart_gives_the_frame_its_full_time() {
        let (mut deadline, now) = (deadline(), time::now());
        deadline.incomplete(true, now);
        deadline.restart(now + 5 * SECOND);
        assert_eq!(deadline.at(None), Some(now + 15 * SECOND));
    }

    #[test]
    fn the_longest_frame_at_the_lowest_floor_has_a_deadline() {
        let config = Config::default().frame_floor(1);
        let (mut deadline, now) = (FrameDeadline::new(&config), time::now());
        deadline.incomplete(true, now);
        let longest = 1 << 30;
        let at = deadline.at(Some(longest)).expect("begun");
        assert_eq!(at - now, longest as u32 * SECOND);
    }
}
