//! [`FromServer`]: checks the certificate of a node that this one dials.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::{
    ids::NodeId,
    net::tls::{
        keys::Keys,
        verifier::{NotAllowed, parse},
    },
};

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
