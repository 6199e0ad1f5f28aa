//! [`Trust`]: why the far end of one connection is believed to be who it says.

use std::{net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::{
    ids::NodeId,
    net::{
        time::SystemTime,
        tls::{
            certificate::Certificate, current::Current, failures::HandshakeFailure, keys::Keys,
            verifier::Role,
        },
    },
};

/// The certificate of the far end, and by which keys it was accepted.
#[derive(Debug)]
pub(crate) struct Trust {
    current: Arc<Current>,
    /// The keys of this node when the connection was made.
    keys: Arc<Keys>,
    role: Role,
    ip: IpAddr,
    chain: Vec<CertificateDer<'static>>,
    certificate: Arc<Certificate>,
    /// What rustls said when it ended the connection.
    failure: Mutex<Option<String>>,
}

impl Trust {
    pub(super) fn new(
        current: Arc<Current>,
        keys: Arc<Keys>,
        (role, ip): (Role, IpAddr),
        chain: Vec<CertificateDer<'static>>,
        certificate: Certificate,
    ) -> Self {
        Trust {
            current,
            keys,
            role,
            ip,
            chain,
            certificate: Arc::new(certificate),
            failure: Mutex::new(None),
        }
    }

    pub(crate) fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Returns whether the far end may speak for this node. The keys and rules that count are those of now,
    /// which may be others than when the connection was made.
    pub(crate) fn vouches_for(&self, node: NodeId) -> bool {
        let now = self.current.keys();
        match Arc::ptr_eq(&now, &self.keys) {
            true => now.covers(&self.certificate, node),
            false => self.would_vouch_for(node, &now),
        }
    }

    /// Returns whether the far end might speak for this node if these keys and rules counted.
    pub(crate) fn would_vouch_for(&self, node: NodeId, keys: &Keys) -> bool {
        let verified = keys.verify(self.role, &self.chain, &self.certificate);
        verified.is_ok() && keys.covers(&self.certificate, node)
    }

    /// Notes that the far end says to be a node that its certificate does not cover.
    pub(super) fn is_of_another_node(&self, node: NodeId) {
        let (ip, certificate) = (self.ip, &self.certificate);
        tracing::debug!(%ip, %node, %certificate, "the certificate does not cover the node");
        self.current.failures.count(ip, HandshakeFailure::WrongNode);
    }

    /// Returns whether this node has another certificate by now than the one that it showed.
    pub(crate) fn is_of_former_keys(&self) -> bool {
        let now = self.current.keys();
        !Arc::ptr_eq(&now, &self.keys) && !now.show_the_same_as(&self.keys)
    }

    /// Returns when the first of the two certificates expires.
    pub(crate) fn expires(&self) -> SystemTime {
        let own = self.keys.certificate().not_after();
        own.min(self.certificate.not_after())
    }

    /// Returns whether a certificate of the connection has expired at this time.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        self.expires() < now
    }

    /// Notes what rustls said when it ended the connection.
    pub(super) fn failed(&self, err: &rustls::Error) {
        let mut failure = self.failure.lock();
        if failure.is_some() {
            return;
        }
        let reason = HandshakeFailure::of(err);
        *failure = Some(format!("{reason}: {err}"));
        // The handshake of the end that dials is done before the other end has looked at its certificate.
        if reason == HandshakeFailure::Rejected {
            self.current.rejected(self.ip, err);
        }
    }

    /// Returns what rustls said when it ended the connection: what is wrong with what the far end sent, or
    /// why the far end ended it.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}
