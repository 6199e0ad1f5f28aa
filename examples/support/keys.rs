//! Keys for tests and experiments: certificate authorities (CAs), and certificates that they sign.
//!
//! Also makes what a node must refuse: certificates that are expired or not valid yet, of another CA, for
//! another name or node, with a long chain, or with a key that does not match. All keys are ECDSA P-256.
//! Not for production: there, the key of a CA belongs on a machine of its own.
//!
//! Programs and tests include this file by its path. The functions panic if a name is not ASCII, or if the
//! system has no random numbers.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd, string::Ia5String,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The certificate of the root, which nodes trust.
    root_pem: String,
    /// The certificates between the root's and those that this authority signs, from the lowest up. Empty
    /// if this is the root.
    intermediates_pem: String,
}

impl Authority {
    /// Makes a root, which signs its own certificate.
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (authority_params(name), generate_key());
        let certificate = params.self_signed(&key).expect("random numbers");
        Self {
            issuer: Issuer::new(params, key),
            root_pem: certificate.pem(),
            intermediates_pem: String::new(),
        }
    }

    /// Makes an authority whose own certificate this one signs.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), generate_key());
        let certificate = params.signed_by(&key, &self.issuer);
        Self {
            issuer: Issuer::new(params, key),
            root_pem: self.root_pem.clone(),
            intermediates_pem: certificate.expect("random numbers").pem() + &self.intermediates_pem,
        }
    }

    /// Makes an authority that is this many levels below this one. A chain with more than 6 intermediates is
    /// too long for rustls.
    pub(crate) fn below(self, levels: usize) -> Self {
        (0..levels).fold(self, |above, level| {
            above.intermediate(&format!("level {level}"))
        })
    }

    /// Makes a key, and signs a certificate for it.
    pub(crate) fn certificate(&self, request: Request) -> Keys {
        let key = generate_key();
        let certificate = request.params().signed_by(&key, &self.issuer);
        Keys {
            ca_pem: self.root_pem.clone(),
            cert_pem: certificate.expect("random numbers").pem() + &self.intermediates_pem,
            key_pem: key.serialize_pem(),
        }
    }

    /// Returns the certificate of the root.
    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Writes the root's certificate to `ca.pem`, and the key of this authority to `ca.key`.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        write_secret(&dir.join("ca.key"), &self.issuer.key().serialize_pem())?;
        write(&dir.join("ca.pem"), &self.root_pem)
    }
}

/// What a certificate says. `Request { not_after, ..Request::node(1) }` changes a field.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) dns: Vec<String>,
    pub(crate) uris: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Request {
    /// Asks for a certificate without names, valid from an hour ago for a year.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        Self {
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            not_before: now - HOUR,
            not_after: now + YEAR,
        }
    }

    /// Asks for a certificate of node N as `node-N.test`, on this machine.
    pub(crate) fn node(node: u64) -> Self {
        Self {
            ips: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            ..Self::new()
                .dns(&format!("node-{node}.test"))
                .dns("localhost")
        }
    }

    pub(crate) fn dns(mut self, name: &str) -> Self {
        self.dns.push(name.to_string());
        self
    }

    pub(crate) fn uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_string());
        self
    }

    /// Lets the certificate have ended an hour ago.
    pub(crate) fn expired(mut self) -> Self {
        let now = SystemTime::now();
        (self.not_before, self.not_after) = (now - 2 * HOUR, now - HOUR);
        self
    }

    /// Lets the certificate begin in an hour.
    pub(crate) fn not_yet_valid(mut self) -> Self {
        self.not_before = SystemTime::now() + HOUR;
        self
    }

    fn params(self) -> CertificateParams {
        let ascii = |text: String| Ia5String::try_from(text).expect("a name in ASCII");
        let subject = self.dns.first().or(self.uris.first()).cloned();
        let dns = self.dns.into_iter().map(ascii).map(SanType::DnsName);
        let uris = self.uris.into_iter().map(ascii).map(SanType::URI);
        let ips = self.ips.into_iter().map(SanType::IpAddress);

        let mut params = params(
            &subject.unwrap_or_default(),
            self.not_before,
            self.not_after,
        );
        params.subject_alt_names = dns.chain(uris).chain(ips).collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node dials and is dialled.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// What a node needs: the root that it trusts, its own certificate with the intermediates, and its key.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) ca_pem: String,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

impl Keys {
    /// Lets the node trust this authority instead of the one that signed its certificate.
    pub(crate) fn trusting(mut self, authority: &Authority) -> Self {
        self.ca_pem = authority.root_pem.clone();
        self
    }

    /// Takes the key of another node, which does not match the certificate.
    pub(crate) fn with_key_of(mut self, other: &Keys) -> Self {
        self.key_pem = other.key_pem.clone();
        self
    }

    /// Writes the certificate to `NAME.pem` and the key to `NAME.key`. A reader between the two finds a key
    /// that does not match.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> io::Result<()> {
        write_secret(&dir.join(format!("{name}.key")), &self.key_pem)?;
        write(&dir.join(format!("{name}.pem")), &self.cert_pem)
    }
}

/// Replaces a file at once: readers see the old text or the new one, never half of it. Errors name the
/// file.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    replace(path, text, 0o644)
}

/// Does the same as [`write`], for a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    replace(path, text, 0o600)
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = Path::new(&new);
    // An earlier process of the same id may have left it behind.
    let _ = fs::remove_file(new);
    let replaced = create(new, text, mode).and_then(|()| fs::rename(new, path));
    replaced.map_err(|err| {
        let _ = fs::remove_file(new);
        io::Error::new(err.kind(), format!("{}: {err}", path.display()))
    })
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // `create_new`, because the mode of a file that is already there would stay.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)?.write_all(text.as_bytes())
}

fn generate_key() -> KeyPair {
    KeyPair::generate().expect("random numbers")
}

fn authority_params(name: &str) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = params(name, now - HOUR, now + 10 * YEAR);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn params(subject: &str, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    // rcgen takes a date or the type of another crate, to which a duration can be added.
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH);
    let date = |time| date_time_ymd(1970, 1, 1) + since_1970(time).expect("a time after 1970");
    let mut params = CertificateParams::default();
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}
