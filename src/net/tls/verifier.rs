//! Who is let in: the rules of this node on top of those of rustls. Nodes that dial this one are checked here,
//! those that it dials in `from_server`.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::net::tls::{certificate::Certificate, pattern::SanPattern};

/// What the far end is in the handshake.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Role {
    /// It was dialled.
    Server,
    /// It dialled.
    Client,
}

/// The certificate is genuine, and its names are not among those that are let in.
#[derive(Debug)]
pub(super) struct NotAllowed;

impl NotAllowed {
    pub(super) fn unless(allowed: bool) -> Result<(), Error> {
        match allowed {
            true => Ok(()),
            // The far end gets the alert `access_denied`.
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

/// The most certificates that may stand between that of a node and the CA. rustls looks for a way through them
/// before it knows that the other end has a key, and tries very many where there are many.
pub(super) const MAX_BETWEEN: usize = 4;

/// Refuses a chain that is too long.
pub(super) fn check_length(intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
    match intermediates.len() {
        0..=MAX_BETWEEN => Ok(()),
        len => {
            let text = format!("{len} certificates between node and CA, {MAX_BETWEEN} are allowed");
            Err(Error::General(text))
        }
    }
}

/// Reads what a certificate says.
pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding.into())
}

/// Checks the certificates of nodes that dial this one.
#[derive(Debug)]
pub(super) struct FromClient {
    chain: Arc<dyn ClientCertVerifier>,
    patterns: Arc<[SanPattern]>,
}

impl FromClient {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, patterns: Arc<[SanPattern]>) -> Self {
        FromClient { chain, patterns }
    }
}

impl ClientCertVerifier for FromClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_length(intermediates)?;
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        NotAllowed::unless(parse(end_entity)?.matches(&self.patterns))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
