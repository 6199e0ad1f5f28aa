//! Dialling, with a bound on how many connections are being made at the same time.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::sync::Semaphore;

use crate::{config::Config, net::tcp::Stream, observe::reporter::Reporter};

/// Makes the connections of all peers of one transport.
#[derive(Debug)]
pub(crate) struct Dialer {
    config: Arc<Config>,
    permits: Semaphore,
    reporter: Reporter,
}

impl Dialer {
    pub(crate) fn new(config: Arc<Config>, reporter: Reporter) -> Self {
        Dialer {
            permits: Semaphore::new(config.max_dials),
            config,
            reporter,
        }
    }

    /// Waits for its turn, then makes a connection to `addr`.
    pub(super) async fn dial(&self, addr: SocketAddr) -> io::Result<Stream> {
        // An error would mean that the semaphore was closed, which nobody does.
        let _permit = self.permits.acquire().await;
        self.reporter.dialling();
        Stream::dial(addr, &self.config).await
    }
}
