//! Measures how long a link has had nothing to send.

use std::{pin::Pin, time::Duration};

use crate::net::time::{self, Instant, Sleep, sleep};

/// A link that has been idle for this long gives back the memory it used while it was busy.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// One timer for all idle periods of a link. It is set again only when it fires. Setting it again for each
/// send would cost more than the send.
pub(super) struct IdleTimer {
    limit: Duration,
    since: Instant,
    /// Whether the memory has been given back in this idle period.
    released: bool,
    pub(super) fired: Pin<Box<Sleep>>,
}

/// What is due when the timer has fired.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Due {
    Nothing,
    ReleaseMemory,
    /// The link has been idle for as long as it may be.
    EndLink,
}

impl IdleTimer {
    pub(super) fn new(limit: Duration) -> Self {
        IdleTimer {
            limit,
            since: time::now(),
            released: false,
            fired: Box::pin(sleep(RELEASE_AFTER.min(limit))),
        }
    }

    /// Notes that an idle period begins.
    pub(super) fn begin(&mut self) {
        self.since = time::now();
        if self.released {
            // The timer was set to the limit of the period before, which may be far away.
            self.released = false;
            self.set(RELEASE_AFTER.min(self.limit));
        }
    }

    /// Begins the idle period anew, because the link is still of use.
    pub(super) fn restart(&mut self) {
        self.since = time::now();
        self.set(self.limit);
    }

    /// The timer has fired: returns what is due, given when a sender last wrote to the link directly,
    /// and sets the timer again unless the link must end.
    pub(super) fn due(&mut self, last_direct_write: Option<Instant>) -> Due {
        let now = time::now();
        self.since = last_direct_write.map_or(self.since, |write| write.max(self.since));
        if now >= self.since + self.limit {
            return Due::EndLink;
        }
        let was_released = self.released;
        self.released = now >= self.since + RELEASE_AFTER;
        self.set(match self.released {
            true => self.limit,
            false => RELEASE_AFTER.min(self.limit),
        });
        match self.released && !was_released {
            true => Due::ReleaseMemory,
            false => Due::Nothing,
        }
    }

    /// Sets the timer to this long after the idle period began.
    fn set(&mut self, after: Duration) {
        self.fired.as_mut().reset(self.since + after);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_idle_link_gives_back_its_memory_after_a_second_and_ends_at_its_limit() {
        let mut timer = IdleTimer::new(10 * SECOND);
        timer.begin();
        (&mut timer.fired).await;
        assert_eq!(timer.due(None), Due::ReleaseMemory);
        let began = time::now();
        (&mut timer.fired).await;
        assert!(began.elapsed() >= 9 * SECOND);
        assert_eq!(timer.due(None), Due::EndLink);
    }

    #[tokio::test(start_paused = true)]
    async fn a_direct_write_begins_the_idle_period_anew() {
        let mut timer = IdleTimer::new(10 * SECOND);
        timer.begin();
        advance(9 * SECOND).await;
        let write = time::now();
        advance(SECOND / 2).await;
        assert_eq!(timer.due(Some(write)), Due::Nothing);
        (&mut timer.fired).await;
        assert_eq!(timer.due(Some(write)), Due::ReleaseMemory);
        (&mut timer.fired).await;
        assert_eq!(timer.due(Some(write)), Due::EndLink);
        assert!(write.elapsed() >= 10 * SECOND);
    }
}
