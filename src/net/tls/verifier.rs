//! Who is believed in a handshake: the rules of this node on top of those of rustls.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    ids::NodeId,
    net::tls::{certificate::Certificate, keys::Keys, pattern::SanPattern},
};

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

/// Reads what a certificate says.
pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding.into())
}

// ---- who dials -----------------------------------------------------------------------------------------

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

// ---- whom this node dials ------------------------------------------------------------------------------

/// Checks the certificates of the node that one dial led to.
pub(super) struct FromServer {
    pub(super) keys: Arc<Keys>,
    /// The node that is meant. If there is one, the certificate may speak for it instead of having the name
    /// that was dialled.
    pub(super) meant: Option<NodeId>,
}

impl fmt::Debug for FromServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromServer")
            .field("meant", &self.meant)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for FromServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.keys.verify_server(end_entity, intermediates, now)?;
        let certificate = parse(end_entity)?;
        NotAllowed::unless(certificate.matches(&self.keys.rules().patterns))?;
        match self.meant {
            Some(meant) if self.keys.covers(&certificate, meant) => {}
            _ => verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.keys.provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.keys.provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
