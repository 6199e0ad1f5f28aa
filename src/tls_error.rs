//! [`TlsError`]: why keys or the settings of TLS cannot be used.

use std::{fmt, io, path::PathBuf, sync::Arc};

use crate::ids::NodeId;

/// One of the three files.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum PemFile {
    /// The certificates of the CAs.
    Ca,
    /// The certificate of this node, and those between it and the CA.
    Certificate,
    /// The private key of this node.
    Key,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PemFile::Ca => "the certificates of the CA",
            PemFile::Certificate => "the certificate",
            PemFile::Key => "the private key",
        })
    }
}

/// Keys that cannot be used. Keys that were in use before remain in use.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// No thread could be made to read the files.
    #[error("cannot make a thread to read the files: {0}")]
    NoThread(
        /// Why not.
        Arc<io::Error>,
    ),
    /// A file has no certificate in it.
    #[error("there is no certificate in PEM format where {file} should be")]
    NoCertificate {
        /// Which file.
        file: PemFile,
    },
    /// What is in a file cannot be used.
    #[error("{file} cannot be used: {problem}")]
    Bad {
        /// Which file.
        file: PemFile,
        /// What is wrong with it.
        problem: String,
    },
    /// The private key belongs to another certificate.
    #[error("the private key is not that of the certificate")]
    KeyMismatch,
    /// The certificate of this node has expired.
    #[error("the certificate has expired: {0}")]
    Expired(
        /// What it says.
        String,
    ),
    /// The certificate of this node is not valid yet, by the clock of this machine.
    #[error("the certificate is not valid yet: {0}")]
    NotYetValid(
        /// What it says.
        String,
    ),
    /// A pattern cannot be parsed; see [`Tls::allow`](crate::Tls::allow).
    #[error("{0}")]
    Pattern(String),
    /// No pattern was given to [`Tls::allow`](crate::Tls::allow).
    #[error("nobody is allowed: say whose certificates are accepted, or `*` for all of this CA")]
    NobodyAllowed,
    /// The transport was started without keys.
    #[error("the transport was started without TLS")]
    Off,
    /// The number of the node is not covered by its own certificate, so no other node would accept it.
    #[error("the certificate does not cover node {node}: {certificate}")]
    NotOurs {
        /// The number of this node.
        node: NodeId,
        /// What the certificate says.
        certificate: String,
    },
    /// Nodes show by their certificates who they are, so this one needs an
    /// [`Identity`](crate::Identity), and sessions that are required.
    #[error("TLS needs an identity of this node, and sessions that are required")]
    NeedsSessions,
    /// Frames may be so long that a plain connection could begin like one with TLS.
    #[error("with `TlsMode::Optional`, config field `max_frame` may be {max} at most")]
    FramesTooLong {
        /// The longest frame limit.
        max: usize,
    },
}

impl TlsError {
    pub(crate) fn bad(file: PemFile, problem: impl fmt::Display) -> Self {
        TlsError::Bad {
            file,
            problem: problem.to_string(),
        }
    }
}
