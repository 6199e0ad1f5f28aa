//! [`TlsWatch`]: replaces the keys of a running transport, and ends links that are no longer accepted.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    ids::NodeId,
    net::{
        time::{self, Instant, SystemTime, sleep},
        tls::{Certificate, Endpoint, Tls},
    },
    observe::reporter::Reporter,
    session::context::SessionContext,
    tls_error::TlsError,
};

/// How often links are looked at whose certificates may have expired, and the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The warning starts this long before the own certificate expires.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How often it is told.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of a running transport, and what must be done as time goes by.
#[derive(Debug)]
pub(super) struct TlsWatch {
    pub(super) endpoint: Arc<Endpoint>,
    sessions: Arc<SessionContext>,
    reporter: Reporter,
    current: Mutex<InUse>,
    /// What was wrong with the files when they were read last. The same is not told again.
    told: Mutex<Option<String>>,
}

/// What the keys in use were made of.
#[derive(Debug, Clone)]
struct InUse {
    tls: Tls,
    /// How often they were changed.
    changes: u64,
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
            current: Mutex::new(InUse { tls, changes: 0 }),
            told: Mutex::new(None),
        }
    }

    /// Uses other keys, and ends the links that are not accepted any more.
    pub(super) fn reload(&self, tls: Tls) -> Result<(), TlsError> {
        self.change(tls, None)
    }

    /// Returns the nodes with which a link is open that these keys would end at once.
    pub(super) fn cut_by(&self, tls: &Tls) -> Result<Vec<NodeId>, TlsError> {
        let keys = self.endpoint.load(tls)?;
        Ok(self.sessions.cut_by(&keys))
    }

    /// Uses other keys. With `after`, does nothing if the keys were changed since then.
    fn change(&self, tls: Tls, after: Option<u64>) -> Result<(), TlsError> {
        // Not under the lock: the user's rule is asked here.
        let keys = self.endpoint.load(&tls)?;
        let mut current = self.current.lock();
        if after.is_some_and(|changes| changes != current.changes) {
            return Ok(());
        }
        self.endpoint.set_keys(keys);
        let changes = current.changes + 1;
        *current = InUse { tls, changes };
        drop(current);
        self.sessions.keys_changed();
        self.reporter.tls_reloaded(&self.endpoint.certificate());
        Ok(())
    }

    /// Ends links whose certificates have expired, lets the files be read again, and tells when the own
    /// certificate is about to expire. Does not end.
    pub(super) async fn run(self: Arc<Self>) {
        let mut read_at = time::now();
        let mut reading: Option<JoinHandle<()>> = None;
        // When it was told that the certificate with this end expires.
        let mut warned: Option<(SystemTime, Instant)> = None;
        loop {
            let (now, wall_clock) = (time::now(), time::wall_clock());
            let certificate = self.endpoint.certificate();
            let is_told = warned
                .is_some_and(|(end, at)| end == certificate.not_after() && now < at + WARN_AGAIN);
            if !is_told && expires_soon(&certificate, wall_clock) {
                self.reporter.expires_soon(&certificate);
                warned = Some((certificate.not_after(), now));
            }
            self.sessions.end_expired(wall_clock);
            let interval = self.current.lock().tls.interval();
            if interval.is_some_and(|interval| now >= read_at + interval)
                && reading.as_ref().is_none_or(JoinHandle::is_finished)
            {
                read_at = now;
                reading = self.start_reading();
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Reads the files again, on a thread of its own: the disk may not answer, and to check the certificates of
    /// many links takes a while.
    fn start_reading(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let watch = self.clone();
        let read = move || watch.tell(watch.read_again());
        let thread = thread::Builder::new().name("actix-transp-tls".to_owned());
        match thread.spawn(read) {
            Ok(thread) => Some(thread),
            Err(err) => {
                self.tell(Err(TlsError::NoThread(Arc::new(err))));
                None
            }
        }
    }

    fn read_again(&self) -> Result<(), TlsError> {
        let InUse { tls, changes } = self.current.lock().clone();
        match tls.read_again()? {
            Some(tls) => self.change(tls, Some(changes)),
            None => Ok(()),
        }
    }

    /// Tells what is wrong with the files, once.
    fn tell(&self, read: Result<(), TlsError>) {
        let error = read.err();
        let text = error.as_ref().map(TlsError::to_string);
        let mut told = self.told.lock();
        if *told != text {
            *told = text;
            drop(told);
            if let Some(error) = error {
                self.reporter.tls_not_reloaded(error);
            }
        }
    }
}

/// Returns whether less time is left than [`WARN_BEFORE`], or than a third of the time for which the certificate
/// is valid at all.
fn expires_soon(certificate: &Certificate, now: SystemTime) -> bool {
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let life = end.duration_since(begin).unwrap_or_default();
    let left = end.duration_since(now).unwrap_or_default();
    left < WARN_BEFORE.min(life / 3)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::session::{identity::Identity, meant::Meant};

    /// Keys of node 1, which this node trusts itself.
    fn tls() -> Tls {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["node-1.test".to_owned()]).expect("a name");
        let cert = params.self_signed(&key).expect("a certificate").pem();
        let key = key.serialize_pem();
        let tls = Tls::from_pem(cert.as_bytes(), cert.as_bytes(), key.as_bytes());
        tls.expect("keys that fit together").allow(["node-*.test"])
    }

    fn watch(tls: Tls) -> TlsWatch {
        let limit = Duration::from_secs(1);
        let endpoint = Endpoint::new(&tls, NodeId::new(1), 1 << 20, limit).expect("good keys");
        let identity = Identity::new(NodeId::new(1)).resolve().expect("valid");
        let sessions = SessionContext::new(identity, 1, 1 << 20, Meant::default(), true, limit);
        TlsWatch::new(
            Arc::new(endpoint),
            Arc::new(sessions),
            Reporter::default(),
            tls,
        )
    }

    #[test]
    fn files_that_were_read_before_a_reload_do_not_undo_it() {
        let watch = watch(tls());
        let read = (tls(), watch.current.lock().changes);
        watch.reload(tls()).expect("good keys");
        let newest = watch.endpoint.certificate();
        let (tls, changes) = read;
        watch.change(tls.clone(), Some(changes)).expect("good keys");
        assert_eq!(watch.endpoint.certificate(), newest);
        watch.change(tls, Some(changes + 1)).expect("good keys");
        assert_ne!(watch.endpoint.certificate(), newest);
    }
}
