//! [`Certificate`]: whose it is and how long it is valid.
//!
//! Reads what a certificate says and decides which nodes it is for. That it is genuine is left to rustls, and
//! comes first. Everything read here is bounded, because a certificate may have been made to do harm.

use std::fmt::{self, Write};

use x509_cert::{
    der::{
        self, Decode, Tag, Tagged,
        asn1::{AnyRef, ObjectIdentifier},
    },
    ext::Extension,
};

use crate::{
    ids::NodeId,
    net::{
        time::SystemTime,
        tls::pattern::{MAX_DNS, MAX_URI, SanPattern, is_plain_dns, is_plain_uri, split_uri},
        utc::Utc,
    },
};

/// The longest text of a subject, in bytes. Some hundred are usual.
pub(crate) const MAX_SUBJECT: usize = 256;

/// The most DNS names that are read, and the most URIs. Some ten are usual.
pub(crate) const MAX_NAMES: usize = 64;

/// The most names that are displayed: those of one node in one line of a log.
const SHOWN_NAMES: usize = 4;

/// Subject alternative names (RFC 5280, section 4.2.1.6), and the tags of the two kinds that are read.
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const DNS_NAME: u32 = 2;
const URI: u32 = 6;

/// What a certificate says: whose it is, and how long it is valid.
///
/// Displayed as a line of a log has it: `CN=node-2 (node-2.kv.svc), valid until 2027-01-01T00:00:00Z`. At most
/// four names are displayed. Serialized (feature `serde`), the times are texts as in
/// `2027-01-01T00:00:00Z`.
#[derive(Debug, Clone, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Certificate {
    subject: String,
    serial: String,
    dns_names: Vec<String>,
    uris: Vec<String>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    not_before: SystemTime,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    not_after: SystemTime,
}

impl Certificate {
    /// Returns the subject as text (RFC 4514), such as `CN=node-2,O=kv`. Empty if it has none. Characters that
    /// cannot be printed are escaped, and what is longer than 256 bytes ends in `…`.
    ///
    /// Nothing is decided by the subject: only the names below say whose the certificate is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the serial number, which no other certificate of the same CA has: hexadecimal, such as
    /// `0A:1B:2C`.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns the DNS names, in the order and the letters of the certificate. Wildcard names such as `*.svc`
    /// are among them; they are only matched by the pattern `*`.
    ///
    /// The first 64 are read; those behind them are left out, and let nobody in. So are those that are longer
    /// than 254 characters or have others than printable ASCII characters.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Returns the URIs, such as `spiffe://kv/node/2`, in the order and the letters of the certificate.
    ///
    /// The first 64 are read; those behind them are left out, and let nobody in. So are those that are longer
    /// than 2048 characters or have others than printable ASCII characters.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Returns the time from which on it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Returns the last second in which it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Reads a certificate. Does not check that it is genuine.
    pub(crate) fn from_der(bytes: &[u8]) -> Result<Self, BadCertificate> {
        let certificate = x509_cert::Certificate::from_der(bytes)?;
        let content = certificate.tbs_certificate();
        let mut subject = Bounded::default();
        // Fails if it is too long. What was written until then is kept.
        let _ = write!(subject, "{}", content.subject());
        let mut read = Certificate {
            subject: subject.text,
            serial: content.serial_number().to_string(),
            dns_names: Vec::new(),
            uris: Vec::new(),
            not_before: content.validity().not_before.to_system_time(),
            not_after: content.validity().not_after.to_system_time(),
        };
        let extensions = content.extensions().map_or(&[][..], |all| all);
        let names = |extension: &&Extension| extension.extn_id == ALTERNATIVE_NAMES;
        let mut names = extensions.iter().filter(names);
        if let Some(first) = names.next() {
            read.read_names(first.extn_value.as_bytes())?;
        }
        match names.next() {
            None => Ok(read),
            Some(_) => Err(BadCertificate::NamesTwice),
        }
    }

    /// Reads the names. Kinds that are not known here are skipped, so that they do no harm.
    fn read_names(&mut self, bytes: &[u8]) -> der::Result<()> {
        for name in Vec::<AnyRef<'_>>::from_der(bytes)? {
            let Tag::ContextSpecific {
                constructed: false,
                number,
            } = name.tag()
            else {
                continue;
            };
            let (names, longest) = match number.value() {
                // One dot may be at the end.
                DNS_NAME => (&mut self.dns_names, MAX_DNS + 1),
                URI => (&mut self.uris, MAX_URI),
                _ => continue,
            };
            let bytes = name.value();
            let fits =
                (1..=longest).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
            if fits && names.len() < MAX_NAMES {
                names.push(bytes.iter().copied().map(char::from).collect());
            }
        }
        Ok(())
    }

    /// Returns whether it is let in: a pattern matches one of its names, or is `*` alone.
    pub(crate) fn matches(&self, patterns: &[SanPattern]) -> bool {
        patterns.iter().any(|pattern| {
            pattern.is_any()
                || self.dns_names.iter().any(|name| pattern.matches_dns(name))
                || self.uris.iter().any(|uri| pattern.matches_uri(uri))
        })
    }

    /// Returns whether it is for the node: one of its names is let in by a pattern and ends in the number of
    /// the node. A DNS name ends with its first label, and a URI with the last segment of its path:
    /// `node-2.kv.svc`, `spiffe://kv/node/2`.
    ///
    /// All digits at the end count, so `node-12` is not for node 2. Zeros in front are ignored. A number above
    /// 2⁶⁴ − 1 is for no node, and so is a name that is not plain, such as `*-2.svc`, even if `*` lets it in.
    pub(crate) fn covers(&self, node: NodeId, patterns: &[SanPattern]) -> bool {
        let is_it = |end: &str| number_at_end(end) == Some(node.get());
        let dns = |name: &&String| {
            is_plain_dns(name) && patterns.iter().any(|pattern| pattern.matches_dns(name))
        };
        let uri = |uri: &&String| {
            is_plain_uri(uri) && patterns.iter().any(|pattern| pattern.matches_uri(uri))
        };
        self.dns_names
            .iter()
            .filter(dns)
            .any(|name| is_it(first_label(name)))
            || self
                .uris
                .iter()
                .filter(uri)
                .any(|uri| is_it(last_segment(uri)))
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.dns_names.iter().chain(&self.uris);
        let all: Vec<&str> = all.map(String::as_str).collect();
        let (shown, more) = all.split_at(all.len().min(SHOWN_NAMES));
        let mut names = shown.join(", ");
        if !more.is_empty() {
            write!(names, " and {} more", more.len())?;
        }
        match (&*self.subject, &*names) {
            ("", "") => f.write_str("a certificate without names")?,
            ("", only) | (only, "") => f.write_str(only)?,
            (subject, names) => write!(f, "{subject} ({names})")?,
        }
        write!(f, ", valid until {}", Utc(self.not_after))
    }
}

/// Why a certificate cannot be read.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadCertificate {
    #[error("certificate cannot be read: {0}")]
    Encoding(#[from] der::Error),
    /// Which of them counts would be a guess.
    #[error("certificate has alternative names twice")]
    NamesTwice,
}

fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

fn last_segment(uri: &str) -> &str {
    let path = split_uri(uri).map_or("", |(_, path)| path);
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns the number that all digits at the end make. `None` if there is no digit, or the number is too
/// large.
fn number_at_end(text: &str) -> Option<u64> {
    let before = text.trim_end_matches(|last: char| last.is_ascii_digit());
    text[before.len()..].parse().ok()
}

/// Takes a text up to [`MAX_SUBJECT`] bytes, and escapes what cannot be printed.
#[derive(Default)]
struct Bounded {
    text: String,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        const CUT: char = '…';

        for char in more.chars() {
            let before = self.text.len();
            match char {
                ' '..='~' => self.text.push(char),
                // Leaves letters as they are.
                _ => self.text.extend(char.escape_debug()),
            }
            if self.text.len() > MAX_SUBJECT - CUT.len_utf8() {
                self.text.truncate(before);
                self.text.push(CUT);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
