//! [`Patience`]: how long a link is still read that nobody needs any more.

use std::{cell::Cell, time::Duration};

use futures::future::OptionFuture;

use crate::{
    config::Config,
    net::time::{self, Instant, sleep, sleep_until},
    receive::end::End,
    session::{inbound_stream::Turn, open_link::OpenLink},
};

/// The patience of one connection.
pub(super) struct Patience {
    /// How long it waits for bytes once a later link waits for its turn.
    handover_wait: Duration,
    /// When that time is over.
    gives_way_at: Cell<Option<Instant>>,
    /// How long it waits for the far end to end a link that this end has ended.
    close_wait: Duration,
}

impl Patience {
    pub(super) fn new(config: &Config) -> Self {
        Patience {
            handover_wait: config.handover_wait,
            gives_way_at: Cell::new(None),
            close_wait: config.connect_timeout,
        }
    }

    /// Waits until nobody has any use for the link, although the far end has not ended it. Polled only while
    /// there is nothing to read.
    pub(super) async fn with(&self, link: &OpenLink, turn: Option<&Turn>) -> End {
        let wanted = turn.map(|turn| turn.wanted.cancelled());
        tokio::select! {
            Some(()) = OptionFuture::from(wanted) => {
                let at = self.gives_way_at.get();
                let at = at.unwrap_or_else(|| time::now() + self.handover_wait);
                self.gives_way_at.set(Some(at));
                sleep_until(at).await;
                End::GaveWay
            }
            () = link.until_written(), if link.dialled => {
                sleep(self.close_wait).await;
                End::NotWritten
            }
            else => std::future::pending().await,
        }
    }

    /// The peer is not at fault for the time that our handlers take.
    pub(super) fn handlers_took(&self, time: Duration) {
        let at = self.gives_way_at.get();
        self.gives_way_at.set(at.map(|at| at + time));
    }
}
