//! TLS below the links: checks who is at the other end, and encrypts what is sent.
//!
//! Owns the keys of this node, the handshakes and the encryption. What is done with a node that has shown its
//! certificate is left to `session`.
//!
//! ```text
//! Tls (what the user says) ─► keys ─► endpoint ─ handshake ─► secured (under the two halves of a connection)
//!                              verifier ┘   └ places: how many at the same time, and how much of the processor
//! ```

mod acknowledged;
mod certificate;
mod current;
mod endpoint;
mod failures;
pub(crate) mod first_byte;
mod from_server;
mod handshake;
mod handshake_error;
mod keys;
pub(crate) mod pattern;
mod places;
mod secured;
mod trust;
mod verifier;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::{
    certificate::Certificate,
    failures::{FailedHandshakes, HandshakeFailure, HandshakeFailures, TlsStats},
};
pub(crate) use self::{
    endpoint::{Endpoint, Expected},
    handshake_error::HandshakeError,
    keys::Keys,
    secured::Secured,
};
use self::{
    keys::{NodeRule, Pem, Rules},
    pattern::SanPattern,
};
use crate::{ids::NodeId, tls_error::TlsError};

/// The keys of this node, and who is let in. Give it to [`Builder::tls`](crate::Builder::tls).
///
/// All connections are encrypted with TLS 1.3, and both ends show a certificate. A certificate is accepted
/// if a CA of this node stands behind it, it is valid now, and one of its names is
/// [allowed](Tls::allow). It must also cover the number of the node that shows it; see
/// [`node_rule`](Tls::node_rule). A node that is dialled must have the name that was dialled in its certificate,
/// or the certificate must cover the node that is meant there ([`Builder::peer`](crate::Builder::peer)).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use actix_transport::{Identity, NodeId, Tls, Transport};
///
/// let tls = Tls::from_pem_files("ca.pem", "node-2.pem", "node-2.key")?.allow(["node-*.svc"]);
/// let transport = Transport::builder()
///     .identity(Identity::new(NodeId::new(2)).cluster("kv"))
///     .tls(tls)
///     .bind("0.0.0.0:7000")?;
/// # Ok(())
/// # }
/// ```
///
/// A certificate that limits what it is for (extended key usage) must name both servers and clients.
/// No connection is resumed, and there is no revocation list: to shut a node out, change what is allowed or the
/// CA with [`Transport::reload_tls`](crate::Transport::reload_tls), which also ends connections that are
/// open.
#[derive(Clone)]
pub struct Tls {
    pem: Pem,
    files: Option<Files>,
    patterns: Vec<String>,
    node_rule: Option<NodeRule>,
    mode: TlsMode,
    datagrams: bool,
    reload_every: Option<Duration>,
}

/// Whether connections without TLS are accepted, too.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum TlsMode {
    /// Every connection must be encrypted.
    #[default]
    Required,
    /// For the time in which a cluster changes to TLS or back: a connection that begins without TLS is
    /// accepted as it is, and a peer that does not answer TLS is dialled again without. **Until all nodes require
    /// TLS, nothing is protected:** whoever reaches the port can speak for any node, and an attacker in the
    /// network can force two nodes to talk without TLS.
    ///
    /// The first byte tells the two apart: it is 22 in TLS, and 22 as the first byte of a frame's length means
    /// at least 369,098,752 bytes. [`Config::max_frame`](crate::Config::max_frame) must be below that, so such a frame
    /// is malformed. Connections without TLS still need a session.
    Optional,
}

#[derive(Debug, Clone)]
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn read(&self) -> Result<Pem, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|err| TlsError::Read {
                path: path.to_owned(),
                source: Arc::new(err),
            })
        };
        Ok(Pem {
            ca: read(&self.ca)?,
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }
}

impl Tls {
    /// Reads the keys from files in PEM format, on the calling thread: the certificates of one or more CAs; the
    /// certificate of this node, followed by those between it and the CA; and its private key.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be read or used, or says what does not fit together.
    pub fn from_pem_files(
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let files = Files {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
        };
        Tls::new(files.read()?, Some(files))
    }

    /// Takes the keys as text in PEM format; see [`from_pem_files`](Tls::from_pem_files).
    ///
    /// # Errors
    ///
    /// Says what cannot be used, or does not fit together.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let pem = Pem {
            ca: ca.to_vec(),
            cert: cert.to_vec(),
            key: key.to_vec(),
        };
        Tls::new(pem, None)
    }

    fn new(pem: Pem, files: Option<Files>) -> Result<Self, TlsError> {
        let tls = Tls {
            pem,
            files,
            patterns: Vec::new(),
            node_rule: None,
            mode: TlsMode::default(),
            datagrams: false,
            reload_every: None,
        };
        // The keys are checked here, where the names of the files are at hand, and made when they are used.
        tls.clone().allow(["*"]).load()?;
        Ok(tls)
    }

    /// Says whose certificates are accepted, by the names in them: DNS names, or URIs such as those of SPIFFE.
    /// At least one pattern must be given; one that fits suffices. If one is no pattern, `bind` says so.
    ///
    /// `*` alone accepts every certificate of the CA. A pattern with `://` is for URIs, all others are for DNS
    /// names. Further calls add patterns. In a DNS name and in the host of a URI, `*` stands for any characters
    /// within one label, and in the path of a URI within one segment. `node-*.svc` accepts `node-2.svc`, but
    /// neither `node-2.kv.svc` nor a certificate for `*.svc`.
    #[must_use]
    pub fn allow(mut self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let patterns = patterns.into_iter().map(|it| it.as_ref().to_owned());
        self.patterns.extend(patterns);
        self
    }

    /// Sets which nodes a certificate covers. A node whose certificate does not cover its number is refused.
    ///
    /// By default a certificate covers node 2 if one of its names is allowed and ends in the number 2: a DNS
    /// name in its first label (`node-2.svc`, `kv-2`), a URI in the last segment of its path
    /// (`spiffe://kv/node/2`). All digits at the end count, so `node-12` is 12. `rule` is called on the threads
    /// of the transport, several times for each connection, and must not block. If it panics, the certificate
    /// covers nothing.
    #[must_use]
    pub fn node_rule(
        mut self,
        rule: impl Fn(&Certificate, NodeId) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.node_rule = Some(Arc::new(rule));
        self
    }

    /// Sets whether connections without TLS are accepted, too. The default is [`TlsMode::Required`].
    #[must_use]
    pub fn mode(mut self, mode: TlsMode) -> Self {
        self.mode = mode;
        self
    }

    /// Lets this node send and receive datagrams, which are never encrypted: everybody can read, change and
    /// forge them. Without this, a transport with TLS has none.
    #[must_use]
    pub fn allow_datagrams(mut self) -> Self {
        self.datagrams = true;
        self
    }

    /// Lets the transport read the files again in this interval, at least one second. If they have changed, and
    /// can be used, they are used from then on, as after
    /// [`Transport::reload_tls`](crate::Transport::reload_tls). Otherwise the former keys remain in use, and
    /// [`PeerEvent::TlsNotReloaded`](crate::PeerEvent::TlsNotReloaded) tells why, once. Three files are not replaced
    /// at the same moment: a mixture that does not fit together is told, and the next time all is read again. A
    /// thread is started for each time. Does nothing without files.
    /// By default, files are read once.
    #[must_use]
    pub fn reload_every(mut self, interval: Duration) -> Self {
        self.reload_every = Some(interval.max(Duration::from_secs(1)));
        self
    }

    /// Returns how often the files are read again.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.reload_every.filter(|_| self.files.is_some())
    }

    pub(crate) fn has_datagrams(&self) -> bool {
        self.datagrams
    }

    /// Reads the files again. `None`: nothing has changed.
    pub(crate) fn read_again(&self) -> Result<Option<Self>, TlsError> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        let pem = files.read()?;
        Ok((pem != self.pem).then(|| Tls {
            pem,
            ..self.clone()
        }))
    }

    /// Parses the texts and the patterns.
    fn load(&self) -> Result<Keys, TlsError> {
        let patterns = self.patterns.iter().map(|text| {
            let pattern = text.parse::<SanPattern>();
            pattern.map_err(|err| TlsError::Pattern(err.to_string()))
        });
        let rules = Rules {
            patterns: patterns.collect::<Result<_, _>>()?,
            node_rule: self.node_rule.clone(),
            mode: self.mode,
        };
        Keys::new(&self.pem, rules)
    }
}

impl fmt::Debug for Tls {
    /// Shows nothing that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .field("patterns", &self.patterns)
            .field("mode", &self.mode)
            .field("datagrams", &self.datagrams)
            .field("reload_every", &self.reload_every)
            .finish_non_exhaustive()
    }
}
