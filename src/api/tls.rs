//! What a [`Transport`] offers if TLS is on.

use crate::{
    api::transport::Transport,
    ids::NodeId,
    net::tls::{Certificate, FailedHandshakes, Tls},
    tls_error::TlsError,
};

impl Transport {
    /// Uses other keys and rules from now on. New connections are made with them.
    ///
    /// A connection that is open ends at once, as [`DownReason::Untrusted`](crate::DownReason::Untrusted), if the
    /// certificate of the far end would not be accepted any more, or if it has no TLS and TLS is required now:
    /// nothing more that comes on it is delivered, except that frames which were read before may still reach their
    /// actors, and what is on the way is lost. If this node has another
    /// certificate now, its other connections end in order, as
    /// [`DownReason::Renewed`](crate::DownReason::Renewed), and new ones are made. All others remain.
    ///
    /// So another CA comes into use without cutting a connection: let all nodes trust both, then give each a
    /// certificate of the new one, and then let them trust the new one only: each node when
    /// [`nodes_cut_by`](Transport::nodes_cut_by) names none. A connection that has been replaced is still read to
    /// its end, which takes as long as the actors need for what came on it.
    ///
    /// What is allowed, the rule, the mode and the interval for reading files are those of the new `Tls`;
    /// [`Tls::allow_datagrams`] has no effect here. This reads no file. It checks the certificates of all open
    /// connections on the calling thread, which takes some hundred microseconds for each. May be called on any
    /// thread.
    ///
    /// # Errors
    ///
    /// Says what cannot be used, or that the transport was started without TLS. The former keys remain in use
    /// then.
    pub fn reload_tls(&self, tls: Tls) -> Result<(), TlsError> {
        let watch = self.0.tls.as_ref().ok_or(TlsError::Off)?;
        watch.reload(tls)
    }

    /// Returns the nodes with which a connection is open that [`reload_tls`](Transport::reload_tls) would end at
    /// once with these keys and rules, as [`DownReason::Untrusted`](crate::DownReason::Untrusted): each once, in
    /// the order of their numbers. Changes nothing.
    ///
    /// If there are none, these keys cut no connection, unless one is made before they are used with a certificate
    /// that they do not accept. A connection that has been replaced counts until all that came on it is handled;
    /// [`PeerStats::certificate`](crate::PeerStats::certificate) does not show it.
    ///
    /// ```no_run
    /// # use actix_transport::{Tls, TlsError, Transport};
    /// # use std::time::Duration;
    /// /// Trusts another CA only, when all nodes have certificates of it.
    /// async fn withdraw(transport: &Transport, only_new: Tls) -> Result<(), TlsError> {
    ///     while !transport.nodes_cut_by(&only_new)?.is_empty() {
    ///         tokio::time::sleep(Duration::from_millis(100)).await;
    ///     }
    ///     transport.reload_tls(only_new)
    /// }
    /// ```
    ///
    /// It checks the certificates of all open connections, as `reload_tls` does, on the calling thread.
    ///
    /// # Errors
    ///
    /// Those of [`reload_tls`](Transport::reload_tls).
    pub fn nodes_cut_by(&self, tls: &Tls) -> Result<Vec<NodeId>, TlsError> {
        let watch = self.0.tls.as_ref().ok_or(TlsError::Off)?;
        watch.cut_by(tls)
    }

    /// Returns the certificate of this node. `None` without TLS.
    pub fn certificate(&self) -> Option<Certificate> {
        let tls = self.0.tls.as_ref()?;
        Some(tls.endpoint.certificate().as_ref().clone())
    }

    /// Returns with which ips TLS handshakes failed, and why, whoever dialled: of 256 ips at most, those that
    /// failed last first. How many failed in all is in [`Stats::tls`](crate::Stats::tls).
    pub fn failed_handshakes(&self) -> Vec<FailedHandshakes> {
        let tls = self.0.tls.as_ref();
        tls.map(|tls| tls.endpoint.failed()).unwrap_or_default()
    }
}
