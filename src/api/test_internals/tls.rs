//! Parts of TLS without connections and keys.

use crate::{
    Certificate, NodeId,
    net::tls::{
        first_byte::{self, FirstByte},
        pattern::SanPattern,
    },
};

/// A pattern of names in certificates.
#[derive(Debug, Clone)]
pub struct Pattern(SanPattern);

impl Pattern {
    /// Reads a pattern. `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Pattern)
    }

    /// Returns whether it matches a DNS name.
    pub fn matches_dns(&self, name: &str) -> bool {
        self.0.matches_dns(name)
    }

    /// Returns whether it matches a URI.
    pub fn matches_uri(&self, uri: &str) -> bool {
        self.0.matches_uri(uri)
    }

    /// Returns whether it lets this certificate in.
    pub fn lets_in(&self, certificate: &Certificate) -> bool {
        certificate.matches(std::slice::from_ref(&self.0))
    }

    /// Returns whether it lets this certificate in for the node.
    pub fn lets_in_for(&self, certificate: &Certificate, node: NodeId) -> bool {
        certificate.covers(node, std::slice::from_ref(&self.0))
    }
}

/// Reads a certificate without checking that it is genuine. `None` if it cannot be read.
pub fn read_certificate(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

/// Returns whether what arrived on a connection begins with TLS. `None` if nothing has arrived.
pub fn begins_with_tls(arrived: &[u8]) -> Option<bool> {
    match FirstByte::of(arrived) {
        FirstByte::Tls => Some(true),
        FirstByte::Plain => Some(false),
        FirstByte::NeedMore => None,
    }
}

/// Returns whether TLS and frames can be told apart with this limit of a frame's length.
pub fn leaves_apart(max_frame: usize) -> bool {
    first_byte::leaves_apart(max_frame)
}
