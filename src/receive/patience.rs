//! [`Patience`]: how long a link is still read that nobody needs any more.

use std::{pin::Pin, time::Duration};

use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    config::Config,
    net::time::{self, Instant, sleep},
    receive::end::End,
    session::{inbound_stream::Turn, open_link::OpenLink},
};

/// The patience of one connection.
pub(super) struct Patience {
    /// How long it waits for bytes once a later link waits for its turn.
    handover_wait: Duration,
    /// When a link that is of no use ends, even if bytes never stop.
    ends_at: Option<Instant>,
    /// How long it waits for the far end to end a link that this end has ended.
    close_wait: Duration,
    /// Resolves when there may be no more use. Kept from read to read: making it costs more than all else
    /// here. `None` once it has resolved, and before the link is known.
    stirred: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Patience {
    pub(super) fn new(config: &Config) -> Self {
        Patience {
            handover_wait: config.handover_wait,
            ends_at: None,
            close_wait: config.connect_timeout,
            stirred: None,
        }
    }

    /// Notes which link this is about.
    pub(super) fn watch(&mut self, link: &OpenLink) {
        let stirred = link.stirs_reading.clone().cancelled_owned();
        self.stirred = Some(Box::pin(stirred));
    }

    /// Waits until nobody has any use for the link, although the far end has not ended it. Polled only while
    /// there is nothing to read.
    pub(super) async fn with(&mut self, link: &OpenLink, turn: Option<&Turn>) -> End {
        if let Some(stirred) = &mut self.stirred {
            stirred.await;
            self.stirred = None;
        }
        let begun = time::now();
        loop {
            if turn.is_some_and(Turn::is_wanted) {
                sleep(self.handover_wait).await;
                // Whoever waited may have gone.
                match turn.is_some_and(Turn::is_wanted) {
                    true => return End::GaveWay,
                    false => continue,
                }
            }
            if link.is_written() && begun.elapsed() >= self.close_wait {
                return End::NotWritten;
            }
            // Nothing stirs a second time.
            sleep(self.handover_wait.min(self.close_wait)).await;
        }
    }

    /// Returns why the link must end although there is more to read: it has been of no use for so long that
    /// whoever had frames on their way needs less.
    pub(super) fn over(&mut self, link: &OpenLink, turn: Option<&Turn>) -> Option<End> {
        let end = match turn.is_some_and(Turn::is_wanted) {
            true => End::GaveWay,
            false if link.dialled && link.is_written() => End::NotWritten,
            false => {
                self.ends_at = None;
                return None;
            }
        };
        let now = time::now();
        let limit = self.handover_wait + self.close_wait;
        let at = *self.ends_at.get_or_insert(now + limit);
        (now > at).then_some(end)
    }

    /// The peer is not at fault for the time that our handlers take.
    pub(super) fn handlers_took(&mut self, time: Duration) {
        self.ends_at = self.ends_at.map(|at| at + time);
    }
}
