//! [`Keys`]: the keys of this node, and whom it trusts. They are replaced as a whole.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier, verify_server_cert_signed_by_trust_anchor},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    ids::NodeId,
    net::{
        time::wall_clock,
        tls::{
            TlsMode,
            certificate::Certificate,
            pattern::SanPattern,
            verifier::{FromClient, NotAllowed, Role, check_length},
        },
    },
    tls_error::{PemFile, TlsError},
};

/// What this protocol is called in a handshake (ALPN), so that no other one over TLS is taken for it.
const PROTOCOL: &[u8] = b"actix-transport/1";

/// Decides which nodes a certificate may speak for.
pub(super) type NodeRule = Arc<dyn Fn(&Certificate, NodeId) -> bool + Send + Sync>;

/// Whom a node lets in.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) patterns: Arc<[SanPattern]>,
    /// `None`: the default.
    pub(super) node_rule: Option<NodeRule>,
    pub(super) mode: TlsMode,
}

/// Keys that fit together, and the rules.
pub(crate) struct Keys {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    from_client: Arc<dyn ClientCertVerifier>,
    own: Arc<CertifiedKey>,
    certificate: Arc<Certificate>,
    rules: Rules,
    server: Arc<ServerConfig>,
}

/// The three files as text.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Pem {
    pub(super) ca: Vec<u8>,
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Keys {
    /// Reads the keys. The rules need at least one pattern.
    pub(super) fn new(pem: &Pem, rules: Rules) -> Result<Self, TlsError> {
        if rules.patterns.is_empty() {
            return Err(TlsError::NobodyAllowed);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&pem.ca, PemFile::Ca)? {
            let added = roots.add(root);
            added.map_err(|err| TlsError::bad(PemFile::Ca, err))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&pem.cert, PemFile::Certificate)?;
        let certificate = Certificate::from_der(&chain[0]);
        let certificate = certificate.map_err(|err| TlsError::bad(PemFile::Certificate, err))?;
        if certificate.not_after() < wall_clock() {
            return Err(TlsError::Expired(certificate.to_string()));
        }
        if certificate.not_before() > wall_clock() {
            return Err(TlsError::NotYetValid(certificate.to_string()));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key);
        let key = key.map_err(|err| TlsError::bad(PemFile::Key, err))?;
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(|err| match err {
            Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            err => TlsError::bad(PemFile::Key, err),
        })?;
        let own = Arc::new(own);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .clear_root_hint_subjects()
            .build()
            .map_err(|err| TlsError::bad(PemFile::Ca, err))?;
        let from_client = Arc::new(FromClient::new(verifier, rules.patterns.clone()));
        let server = server_config(&provider, from_client.clone(), &own)?;
        let keys = Keys {
            provider,
            roots,
            from_client,
            own,
            certificate: Arc::new(certificate),
            rules,
            server: Arc::new(server),
        };
        keys.check_use()?;
        Ok(keys)
    }

    /// Checks that the own certificate may be used at both ends of a connection. Another CA may stand behind it
    /// than behind those of the others, so nothing else is checked.
    fn check_use(&self) -> Result<(), TlsError> {
        for role in [Role::Client, Role::Server] {
            let verified = self.verify(role, &self.own.cert, &self.certificate);
            if let Err(Error::InvalidCertificate(
                err @ (CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. }),
            )) = verified
            {
                return Err(TlsError::bad(PemFile::Certificate, err));
            }
        }
        Ok(())
    }

    /// Returns the certificate of this node.
    pub(crate) fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Returns whether a node with these keys shows the same certificates as with the others.
    pub(super) fn show_the_same_as(&self, others: &Keys) -> bool {
        self.own.cert == others.own.cert
    }

    /// Returns whether connections without TLS are accepted, too.
    pub(crate) fn are_optional(&self) -> bool {
        self.rules.mode == TlsMode::Optional
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(super) fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// Makes the settings of one dial.
    pub(super) fn client(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone());
        let mut client = builder
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.own.clone())));
        // Each connection is checked anew, by the keys of its time.
        client.resumption = Resumption::disabled();
        // A node has one certificate, whatever it is called. The name would be readable for everybody.
        client.enable_sni = false;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(client)
    }

    /// Checks the certificates of a far end as in a handshake, but for its name: whether a CA that is trusted
    /// stands behind them now, and whether they are let in.
    pub(super) fn verify(
        &self,
        role: Role,
        chain: &[CertificateDer<'_>],
        certificate: &Certificate,
    ) -> Result<(), Error> {
        let Some((first, others)) = chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        match role {
            // Knows the patterns, too.
            Role::Client => {
                let now = UnixTime::now();
                self.from_client.verify_client_cert(first, others, now)?;
            }
            Role::Server => {
                self.verify_server(first, others, UnixTime::now())?;
                NotAllowed::unless(certificate.matches(&self.rules.patterns))?;
            }
        }
        Ok(())
    }

    /// Checks whether a CA that is trusted stands behind the certificates of a far end that was dialled.
    pub(super) fn verify_server(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        check_length(others)?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(first)?,
            &self.roots,
            others,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }

    /// Returns whether a certificate may speak for a node.
    pub(super) fn covers(&self, certificate: &Certificate, node: NodeId) -> bool {
        match &self.rules.node_rule {
            Some(rule) => ask(rule, certificate, node),
            None => certificate.covers(node, &self.rules.patterns),
        }
    }

    /// Returns whether the certificate of this node may speak for it. Whether this node would let itself in
    /// does not matter.
    pub(super) fn covers_own(&self, me: NodeId) -> bool {
        match &self.rules.node_rule {
            Some(rule) => ask(rule, &self.certificate, me),
            None => self.certificate.covers(me, &[SanPattern::any()]),
        }
    }
}

impl fmt::Debug for Keys {
    /// Shows nothing that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.certificate).finish()
    }
}

/// Asks the user's rule. If it panics, the certificate covers nothing.
fn ask(rule: &NodeRule, certificate: &Certificate, node: NodeId) -> bool {
    let asked = panic::catch_unwind(AssertUnwindSafe(|| rule(certificate, node)));
    asked.unwrap_or(false)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    from_client: Arc<dyn ClientCertVerifier>,
    own: &Arc<CertifiedKey>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&TLS13]);
    let mut server = builder
        .map_err(|err| TlsError::bad(PemFile::Key, err))?
        .with_client_cert_verifier(from_client)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    // Tickets are for resuming a connection, which no node does.
    server.send_tls13_tickets = 0;
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(server)
}

/// Reads the certificates of one file: at least one.
fn certificates(pem: &[u8], file: PemFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::NoCertificate { file }),
        Ok(certificates) => Ok(certificates),
        Err(err) => Err(TlsError::bad(file, err)),
    }
}
