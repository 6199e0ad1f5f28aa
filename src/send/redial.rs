//! When a peer may be dialled again.

use std::time::Duration;

use crate::{
    config::Config,
    net::time::{Instant, SystemTime},
    observe::event::DownReason,
    runtime::backoff::Backoff,
};

/// The waits between dials of one peer. Reads no clock and draws no random number: both are arguments.
#[derive(Debug)]
pub(super) struct Redial {
    backoff: Backoff,
    stable_after: Duration,
    redial_first: Duration,
    redial_max: Duration,
    /// What is heard of the peer counts from then on.
    heard_from: Instant,
    /// The next dial must not begin earlier.
    pub(super) not_before: Instant,
    failing: Option<Failing>,
}

/// A series of failed dials.
#[derive(Debug, Copy, Clone)]
pub(super) struct Failing {
    pub(super) since: SystemTime,
    pub(super) failures: u32,
}

impl Redial {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Redial {
            backoff: Backoff::new(config.redial_first, config.redial_max),
            stable_after: config.stable_after,
            redial_first: config.redial_first,
            redial_max: config.redial_max,
            heard_from: now,
            not_before: now,
            failing: None,
        }
    }

    /// Notes that the peer was heard of: it may be dialled at once. Not more often than the first wait
    /// allows, whatever others say.
    pub(super) fn heard(&mut self, now: Instant) {
        if now >= self.heard_from {
            self.heard_from = now + self.redial_first;
            self.not_before = self.not_before.min(now);
        }
    }

    /// Notes that a dial failed. Returns the series of failures that it belongs to.
    pub(super) fn failed(&mut self, now: Instant, wall_clock: SystemTime, draw: f64) -> Failing {
        self.wait(now, draw);
        self.one_more_failure(wall_clock)
    }

    /// Notes that the peer refused this node, or this node the peer. That seldom changes soon, so the wait
    /// is long. Returns the series of failures that it belongs to.
    pub(super) fn refused(&mut self, now: Instant, wall_clock: SystemTime, draw: f64) -> Failing {
        self.wait_long(now, draw);
        self.one_more_failure(wall_clock)
    }

    fn one_more_failure(&mut self, wall_clock: SystemTime) -> Failing {
        let mut failing = self.failing.unwrap_or(Failing {
            since: wall_clock,
            failures: 0,
        });
        failing.failures = failing.failures.saturating_add(1);
        self.failing = Some(failing);
        failing
    }

    /// Notes that a dial succeeded.
    pub(super) fn succeeded(&mut self) {
        self.failing = None;
    }

    /// Notes that a link ended.
    pub(super) fn link_ended(
        &mut self,
        now: Instant,
        lived: Duration,
        reason: DownReason,
        draw: f64,
    ) {
        // Only a link that lived long enough makes the waits start over. Otherwise a peer that accepts and
        // hangs up would be dialled without pause.
        if lived >= self.stable_after {
            self.backoff.reset();
        }
        match reason {
            // The link that replaces it is there already.
            DownReason::Idle | DownReason::Replaced => {}
            DownReason::Refused(_) => self.wait_long(now, draw),
            _ => self.wait(now, draw),
        }
    }

    /// Waits between a half and all of the longest wait.
    fn wait_long(&mut self, now: Instant, draw: f64) {
        self.not_before = now + self.redial_max.mul_f64(0.5 + 0.5 * draw.clamp(0.0, 1.0));
    }

    fn wait(&mut self, now: Instant, draw: f64) {
        self.not_before = now + self.backoff.next(draw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::time, wire::control::refused::RefusedReason};

    const MS: Duration = Duration::from_millis(1);

    fn redial(now: Instant) -> Redial {
        let config = Config::default()
            .redial_first(200 * MS)
            .redial_max(1000 * MS)
            .stable_after(1000 * MS);
        Redial::new(&config, now)
    }

    #[test]
    fn a_link_that_ends_early_is_one_more_failure_and_a_stable_one_starts_the_waits_over() {
        let now = time::now();
        let mut redial = redial(now);
        for wait in [200, 400, 800] {
            redial.link_ended(now, 999 * MS, DownReason::Closed, 1.0);
            assert_eq!(redial.not_before, now + wait * MS);
        }
        redial.link_ended(now, 1000 * MS, DownReason::Closed, 1.0);
        assert_eq!(redial.not_before, now + 200 * MS);
    }

    #[test]
    fn after_an_idle_link_the_next_dial_does_not_wait() {
        let now = time::now();
        let mut redial = redial(now);
        redial.link_ended(now, 999 * MS, DownReason::Idle, 1.0);
        assert_eq!(redial.not_before, now);
    }

    #[test]
    fn after_a_refusal_the_next_dial_waits_long() {
        let now = time::now();
        let mut redial = redial(now);
        let refused = DownReason::Refused(RefusedReason::Cluster);
        redial.link_ended(now, 5000 * MS, refused, 0.0);
        assert_eq!(redial.not_before, now + 500 * MS);
        let failing = redial.refused(now, time::wall_clock(), 1.0);
        assert_eq!((redial.not_before, failing.failures), (now + 1000 * MS, 1));
    }

    #[test]
    fn failures_are_counted_from_the_first_of_a_series() {
        let now = time::now();
        let (first, later) = (time::wall_clock(), time::wall_clock() + 5000 * MS);
        let mut redial = redial(now);
        assert_eq!(redial.failed(now, first, 1.0).failures, 1);
        let second = redial.failed(now, later, 1.0);
        assert_eq!((second.since, second.failures), (first, 2));
        redial.succeeded();
        let third = redial.failed(now, later, 1.0);
        assert_eq!((third.since, third.failures), (later, 1));
    }
}
