//! The keys of this process and whom it lets in, if it encrypts its connections.

use std::path::{Path, PathBuf};

use actix_transport::{Builder, PemFile, Tls, TlsError, TlsMode};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct TlsArgs {
    /// Encrypts connections, and accepts certificates that this CA signed: a PEM file. `loadgen keys` makes
    /// one. The certificates of other nodes are checked against their numbers, so `--node` is needed.
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key", "tls_allow"],
          conflicts_with = "udp")]
    tls_ca: Option<PathBuf>,

    /// The certificate of this node, followed by those between it and the CA: a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,

    /// The private key of this node: a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_key: Option<PathBuf>,

    /// A name that other nodes must have in their certificates, such as `node-*.test`. Of several, one is
    /// enough. `*` accepts every certificate of the CA.
    #[arg(long, value_name = "PATTERN", requires = "tls_ca")]
    tls_allow: Vec<String>,

    /// Accepts connections without encryption, too, and dials nodes that have none. Then nothing is
    /// protected: this is for clusters that change to encryption.
    #[arg(long, requires = "tls_ca")]
    tls_optional: bool,
}

impl TlsArgs {
    pub(crate) fn is_on(&self) -> bool {
        self.tls_ca.is_some()
    }

    pub(crate) fn mode(&self) -> &'static str {
        match (self.is_on(), self.tls_optional) {
            (false, _) => "off",
            (true, false) => "required",
            (true, true) => "optional",
        }
    }

    /// Gives the builder the keys.
    pub(crate) fn secure(&self, builder: Builder) -> Result<Builder, Failure> {
        // Of the three files, all are given or none is.
        let (Some(ca), Some(cert), Some(key)) = (&self.tls_ca, &self.tls_cert, &self.tls_key)
        else {
            return Ok(builder);
        };
        let tls = Tls::from_pem_files(ca, cert, key).map_err(|err| self.name_file(err))?;
        let mode = match self.tls_optional {
            true => TlsMode::Optional,
            false => TlsMode::Required,
        };
        Ok(builder.tls(tls.allow(&self.tls_allow).mode(mode)))
    }

    /// Names the flag and the file that cannot be used.
    fn name_file(&self, err: TlsError) -> Failure {
        let file = match &err {
            TlsError::NoCertificate { file } | TlsError::Bad { file, .. } => *file,
            TlsError::KeyMismatch => PemFile::Key,
            TlsError::Expired(_) => PemFile::Certificate,
            // It names the file.
            _ => return err.into(),
        };
        let (flag, path) = match file {
            PemFile::Ca => ("--tls-ca", &self.tls_ca),
            PemFile::Certificate => ("--tls-cert", &self.tls_cert),
            PemFile::Key => ("--tls-key", &self.tls_key),
            _ => return err.into(),
        };
        let path = path.as_deref().map(Path::display);
        let path = path.map(|path| format!(" {path}")).unwrap_or_default();
        format!("{flag}{path}: {err}").into()
    }
}

/// Returns the flag whose value cannot be used, if it is one of these.
pub(crate) fn flag_of(err: &TlsError) -> Option<&'static str> {
    Some(match err {
        TlsError::Pattern(_) | TlsError::NobodyAllowed => "--tls-allow",
        TlsError::NotOurs { .. } => "--tls-cert",
        TlsError::NeedsSessions => "--sessions",
        _ => return None,
    })
}
