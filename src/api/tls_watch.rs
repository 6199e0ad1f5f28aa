//! [`TlsWatch`]: the keys of a running transport, and what becomes of the links that were made with those
//! before.

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    net::{
        time::{self, sleep},
        tls::{Endpoint, Tls},
    },
    observe::reporter::Reporter,
    session::context::SessionContext,
    tls_error::TlsError,
};

/// How often links are looked at whose certificates may have expired, and the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long before the own certificate expires that is told.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How often it is told.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of a running transport, and what must be done as time goes by.
#[derive(Debug)]
pub(super) struct TlsWatch {
    pub(super) endpoint: Arc<Endpoint>,
    sessions: Arc<SessionContext>,
    reporter: Reporter,
    /// What the keys were made of. Locked while they are changed, so that no change is lost.
    current: Mutex<Tls>,
}

impl TlsWatch {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        sessions: Arc<SessionContext>,
        reporter: Reporter,
        tls: Tls,
    ) -> Self {
        TlsWatch {
            endpoint,
            sessions,
            reporter,
            current: Mutex::new(tls),
        }
    }

    pub(super) fn reload(&self, tls: Tls) -> Result<(), TlsError> {
        let mut current = self.current.lock();
        self.endpoint.reload(&tls)?;
        *current = tls;
        drop(current);
        self.sessions.keys_changed();
        self.reporter.tls_reloaded(&self.endpoint.certificate());
        Ok(())
    }

    /// Ends links whose certificates have expired, reads the files again, and tells when the own certificate
    /// is about to expire. Does not end.
    pub(super) async fn run(self: Arc<Self>) {
        let mut read_at = time::now();
        let mut warn_at = read_at;
        loop {
            let now = time::now();
            if now >= warn_at && self.endpoint.time_left() < WARN_BEFORE {
                self.reporter.expires_soon(&self.endpoint.certificate());
                warn_at = now + WARN_AGAIN;
            }
            self.sessions.end_expired(time::wall_clock());
            let interval = self.current.lock().interval();
            if interval.is_some_and(|interval| now >= read_at + interval) {
                read_at = now;
                if let Err(err) = self.read_again().await {
                    self.reporter.tls_not_reloaded(err);
                }
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Reads the files again, on a thread of its own: they may be on a disk that does not answer.
    async fn read_again(self: &Arc<Self>) -> Result<(), TlsError> {
        let (done, read) = oneshot::channel();
        let before = self.current.lock().clone();
        let work = move || {
            let _ = done.send(before.read_again());
        };
        let thread = thread::Builder::new().name("actix-transp-tls".to_owned());
        thread.spawn(work).map_err(TlsError::unread)?;
        match read.await {
            Ok(Ok(Some(tls))) => self.reload(tls),
            Ok(Ok(None)) | Err(_) => Ok(()),
            Ok(Err(err)) => Err(err),
        }
    }
}
