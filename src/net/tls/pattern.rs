//! [`SanPattern`]: which names in certificates are let in.
//!
//! Owns the rules by which a pattern and a name match. Where the names come from is left to `certificate`,
//! and that the certificate is genuine to rustls.
//!
//! ```text
//! pattern              matches                                does not match
//! *                    every certificate of the CA, also one without names
//! node-*.svc           node-2.svc   NODE-2.SVC.   node-.svc   node-2.kv.svc   2.svc   *.svc
//! *.kv.svc             node-2.kv.svc                          kv.svc   a.b.kv.svc
//! spiffe://kv/node/*   spiffe://KV/node/2                     spiffe://kv/Node/2   spiffe://kv/node/2/x
//! ```
//!
//! - A pattern with `://` is for URIs, all others are for DNS names. Only `*` alone is for both.
//! - DNS: `*` stands for any characters within one label, or for none, and never for a dot. Capital letters
//!   count as small ones, and one dot at the end is ignored.
//! - URI: in the host, `*` stands for any characters within one label, or for none; in the path, within one
//!   segment. Capital letters of the scheme and the host count as small ones; the path is compared exactly.
//!   Nothing is decoded or resolved: `%41` is not `A`, and `..` is a segment like any other.
//! - A name that is no plain name is matched by `*` alone only. See [`is_plain_dns`] and [`is_plain_uri`].
//!   A wildcard name such as `*.svc` is one of these: it is never expanded.

use std::{fmt, net::IpAddr, str::FromStr};

/// The longest DNS name without a dot at its end, and the longest label: what the domain name system allows.
/// In a pattern, `*` counts as one character.
pub(super) const MAX_DNS: usize = 253;
const MAX_LABEL: usize = 63;

/// The longest URI. SPIFFE allows URIs of this length.
pub(super) const MAX_URI: usize = 2048;

/// What stands between the scheme of a URI and its host.
const AFTER_SCHEME: &str = "://";

/// Which names are let in.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) struct SanPattern(Kind);

#[derive(Debug, Clone, Eq, PartialEq)]
enum Kind {
    /// `*` alone.
    Any,
    /// In small letters, without a dot at its end.
    Dns(Box<str>),
    /// In small letters up to `path`, where the host ends.
    Uri { text: Box<str>, path: usize },
}

impl SanPattern {
    /// Returns the pattern `*`.
    pub(crate) fn any() -> Self {
        SanPattern(Kind::Any)
    }

    /// Returns whether every certificate of the CA is let in.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == Kind::Any
    }

    /// Returns whether it matches the DNS name of a certificate.
    pub(crate) fn matches_dns(&self, name: &str) -> bool {
        match &self.0 {
            Kind::Any => true,
            Kind::Dns(pattern) => is_plain_dns(name) && fits(pattern, without_end_dot(name), HOST),
            Kind::Uri { .. } => false,
        }
    }

    /// Returns whether it matches the URI of a certificate.
    pub(crate) fn matches_uri(&self, uri: &str) -> bool {
        match &self.0 {
            Kind::Any => true,
            Kind::Dns(_) => false,
            Kind::Uri { text, path } => {
                let (host, pattern) = text.split_at(*path);
                let fit = |(front, path)| fits(host, front, HOST) && fits(pattern, path, PATH);
                is_plain_uri(uri) && split_uri(uri).is_some_and(fit)
            }
        }
    }
}

impl FromStr for SanPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let kind = match text {
            "*" => Ok(Kind::Any),
            _ if text.contains(AFTER_SCHEME) => uri(text),
            _ => dns(text),
        };
        kind.map(SanPattern).map_err(|problem| PatternError {
            pattern: text.to_owned(),
            problem,
        })
    }
}

impl fmt::Display for SanPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match &self.0 {
            Kind::Any => "*",
            Kind::Dns(text) | Kind::Uri { text, .. } => text,
        })
    }
}

/// A text that is no pattern of names.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{pattern:?} is no pattern of names in certificates: {problem}")]
pub(crate) struct PatternError {
    pattern: String,
    problem: &'static str,
}

/// Reads the pattern of a DNS name.
fn dns(text: &str) -> Result<Kind, &'static str> {
    check_stars(text)?;
    if !text.is_ascii() {
        return Err("a name with other letters is written in its ASCII form, `xn--…`");
    }
    let name = without_end_dot(text);
    if name == "*" {
        return Err("a dot behind `*` alone means nothing");
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("certificates are known by their DNS names and URIs, not by ips");
    }
    if !name.bytes().all(|byte| in_dns(byte) || byte == b'*') {
        return Err("a DNS name has only letters, digits, `-`, `.` and `_`, and a URI has a `://`");
    }
    if name.len() > MAX_DNS {
        return Err("a DNS name has at most 253 characters");
    }
    if !name.split('.').all(is_label) {
        return Err("the parts of a DNS name between its dots have 1 to 63 characters");
    }
    Ok(Kind::Dns(name.to_ascii_lowercase().into()))
}

/// Reads the pattern of a URI.
fn uri(text: &str) -> Result<Kind, &'static str> {
    check_stars(text)?;
    if !text.bytes().all(|byte| in_uri(byte) || byte == b'*') {
        return Err(
            "it has a character that no URI has (`é` is written as `%C3%A9`), or a query or a fragment, which \
             are never matched",
        );
    }
    if text.len() > MAX_URI {
        return Err("a URI has at most 2048 characters");
    }
    let (front, path) =
        split_uri(text).ok_or("its scheme must be written out, such as `spiffe://`")?;
    if front.ends_with(AFTER_SCHEME) {
        return Err("it has no host");
    }
    let text = format!("{}{path}", front.to_ascii_lowercase());
    Ok(Kind::Uri {
        text: text.into(),
        path: front.len(),
    })
}

/// Refuses texts that need another `*` than there is.
fn check_stars(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains("**") {
        return Err(
            "`**` does not stand for several labels or segments: each needs a `*` of its own",
        );
    }
    Ok(())
}

/// Returns whether patterns other than `*` can match this DNS name: it has only the characters of host names
/// and `_`, in labels of 1 to 63, and is not too long.
pub(super) fn is_plain_dns(name: &str) -> bool {
    let name = without_end_dot(name);
    name.len() <= MAX_DNS && name.bytes().all(in_dns) && name.split('.').all(is_label)
}

/// Returns whether patterns other than `*` can match this URI: it has a scheme and a host, no query, no
/// fragment and no `*`, and is not too long.
pub(super) fn is_plain_uri(uri: &str) -> bool {
    let host_follows = |(front, _): (&str, &str)| !front.ends_with(AFTER_SCHEME);
    uri.len() <= MAX_URI && uri.bytes().all(in_uri) && split_uri(uri).is_some_and(host_follows)
}

/// Splits a URI before its path. `None` if it has no scheme with `://` behind it.
pub(super) fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(AFTER_SCHEME)?;
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let begins = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if !begins || !scheme.bytes().all(in_scheme) {
        return None;
    }
    let host = rest.find('/').unwrap_or(rest.len());
    Some(uri.split_at(uri.len() - rest.len() + host))
}

/// One dot at the end says that the name is complete.
fn without_end_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
}

fn in_dns(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

/// The characters of RFC 3986 without those that begin a query or a fragment, the brackets of an IPv6
/// address, and `*`.
fn in_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;=:@/".contains(&byte)
}

/// How a part of a name is compared.
#[derive(Copy, Clone)]
struct Rule {
    /// What `*` never stands for.
    ends: &'static [u8],
    /// Whether capital letters of the name count as small ones. The pattern has small letters then.
    any_case: bool,
}

/// A host name, or what a URI has before its path. There, `:` and `@` stand between the host, its port and a
/// user.
const HOST: Rule = Rule {
    ends: b".:@/",
    any_case: true,
};

const PATH: Rule = Rule {
    ends: b"/",
    any_case: false,
};

/// Returns whether all of `name` fits the pattern.
///
/// If something does not fit, only the latest `*` is given one character more. Those before it need not be
/// looked at again: the latest takes whatever they would leave to it, and no `*` takes what ends its part.
/// So there are at most `name.len()` new beginnings, each with at most `pattern.len()` steps. The most that the
/// bounds allow takes 2.4 ms (1,020 letters behind a `*`, and a URI of 2,040), a usual name less than 0.1 µs.
fn fits(pattern: &str, name: &str, rule: Rule) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut in_pattern, mut in_name) = (0, 0);
    // What is behind the latest `*`, and where the rest of the name began when it was last tried.
    let mut latest: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(in_name) {
        let byte = if rule.any_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        };
        match pattern.get(in_pattern) {
            Some(b'*') => {
                in_pattern += 1;
                latest = Some((in_pattern, in_name));
            }
            Some(expected) if *expected == byte => {
                in_pattern += 1;
                in_name += 1;
            }
            _ => match latest {
                Some((behind, tried)) if !rule.ends.contains(&name[tried]) => {
                    latest = Some((behind, tried + 1));
                    (in_pattern, in_name) = (behind, tried + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests;
