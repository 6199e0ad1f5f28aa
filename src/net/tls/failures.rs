//! What came of handshakes: how many were made, and why others were not.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError};

use crate::net::{
    addr::network,
    time::{SystemTime, wall_clock},
};

/// The most networks of which it is remembered that handshakes from them failed. Of more, the one that was
/// quiet for longest makes room.
const MAX_NETWORKS: usize = 256;

/// Why a TLS handshake failed.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// What came is not TLS, or not TLS that makes sense.
    NotTls,
    /// It took longer than [`Config::connect_timeout`](crate::Config::connect_timeout).
    TimedOut,
    /// The other end closed the connection, or it was lost.
    Closed,
    /// 256 handshakes were under way, and one more came. Of the ip with most, the oldest gives way.
    Crowded,
    /// The other end sent more than a handshake may take.
    TooLong,
    /// The two ends have no version or method in common.
    Incompatible,
    /// The other end showed no certificate.
    NoCertificate,
    /// No CA that this node trusts stands behind the certificate.
    UnknownIssuer,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// No name in the certificate is allowed; see [`Tls::allow`](crate::Tls::allow).
    NotAllowed,
    /// The certificate is neither for the name that was dialled nor for the node that is meant.
    WrongName,
    /// The handshake succeeded, and then the other end said to be a node that its certificate does not cover; see
    /// [`Tls::node_rule`](crate::Tls::node_rule).
    WrongNode,
    /// The certificate cannot be read, is not for this use, its signature is wrong, or the chain to the CA is too
    /// long.
    BadCertificate,
    /// The other end ended the handshake. Mostly it does not accept the certificate of this node; its log says
    /// why.
    Rejected,
}

impl HandshakeFailure {
    const ALL: [HandshakeFailure; 15] = [
        HandshakeFailure::NotTls,
        HandshakeFailure::TimedOut,
        HandshakeFailure::Closed,
        HandshakeFailure::Crowded,
        HandshakeFailure::TooLong,
        HandshakeFailure::Incompatible,
        HandshakeFailure::NoCertificate,
        HandshakeFailure::UnknownIssuer,
        HandshakeFailure::Expired,
        HandshakeFailure::NotYetValid,
        HandshakeFailure::NotAllowed,
        HandshakeFailure::WrongName,
        HandshakeFailure::WrongNode,
        HandshakeFailure::BadCertificate,
        HandshakeFailure::Rejected,
    ];

    /// Tells what an error of rustls means.
    pub(super) fn of(err: &rustls::Error) -> Self {
        match err {
            rustls::Error::InvalidCertificate(err) => HandshakeFailure::of_certificate(err),
            rustls::Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
            rustls::Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeFailure::Closed,
            rustls::Error::AlertReceived(_) => HandshakeFailure::Rejected,
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
                HandshakeFailure::Incompatible
            }
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::DecryptError
            | rustls::Error::PeerSentOversizedRecord
            | rustls::Error::PeerMisbehaved(_) => HandshakeFailure::NotTls,
            _ => HandshakeFailure::BadCertificate,
        }
    }

    fn of_certificate(err: &CertificateError) -> Self {
        match err {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                HandshakeFailure::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                HandshakeFailure::NotYetValid
            }
            CertificateError::UnknownIssuer => HandshakeFailure::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                HandshakeFailure::WrongName
            }
            CertificateError::ApplicationVerificationFailure => HandshakeFailure::NotAllowed,
            _ => HandshakeFailure::BadCertificate,
        }
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandshakeFailure::NotTls => "the other end does not speak TLS",
            HandshakeFailure::TimedOut => "the TLS handshake took too long",
            HandshakeFailure::Closed => {
                "the other end closed the connection in the TLS handshake; perhaps it has no TLS"
            }
            HandshakeFailure::Crowded => "too many TLS handshakes at the same time",
            HandshakeFailure::TooLong => "the other end sent too much in the TLS handshake",
            HandshakeFailure::Incompatible => "no version or method of TLS in common",
            HandshakeFailure::NoCertificate => "the other end showed no certificate",
            HandshakeFailure::UnknownIssuer => "no trusted CA stands behind the certificate",
            HandshakeFailure::Expired => "the certificate has expired",
            HandshakeFailure::NotYetValid => "the certificate is not valid yet",
            HandshakeFailure::NotAllowed => "no name in the certificate is allowed",
            HandshakeFailure::WrongName => "the certificate is for another name",
            HandshakeFailure::WrongNode => "the certificate does not cover the node",
            HandshakeFailure::BadCertificate => "the certificate cannot be used",
            HandshakeFailure::Rejected => "the other end does not accept this one",
        })
    }
}

impl Error for HandshakeFailure {}

/// How many handshakes failed, by reason.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub struct HandshakeFailures([u64; HandshakeFailure::ALL.len()]);

impl HandshakeFailures {
    /// Returns how many failed for this reason.
    pub fn of(&self, reason: HandshakeFailure) -> u64 {
        self.0[reason as usize]
    }

    /// Returns how many failed in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the reasons for which handshakes failed, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (HandshakeFailure, u64)> + '_ {
        let all = HandshakeFailure::ALL.into_iter().zip(self.0);
        all.filter(|&(_, count)| count > 0)
    }
}

impl fmt::Display for HandshakeFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (reason, count)) in self.iter().enumerate() {
            let before = if n == 0 { "" } else { ", " };
            write!(f, "{before}{count} {reason:?}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HandshakeFailures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// What came of TLS handshakes since the start.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TlsStats {
    /// Handshakes that were made with nodes that dialled this one.
    pub accepted: u64,
    /// Handshakes that were made with nodes that this one dialled.
    pub connected: u64,
    /// Handshakes that failed, at either end.
    pub failed: HandshakeFailures,
    /// When the certificate of this node expires; [`Transport::certificate`](crate::Transport::certificate)
    /// returns all of it. `None` without TLS.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub expires: Option<SystemTime>,
}

/// The handshakes with one ip, or IPv6 network of 64 bits, that failed.
#[derive(Debug, Clone, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FailedHandshakes {
    /// The ip. Of an IPv6 address only the first 64 bits, because one machine can have all of the others.
    pub ip: IpAddr,
    /// How many failed, by reason.
    pub failed: HandshakeFailures,
    /// When the last one failed.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub last: SystemTime,
}

/// Counts handshakes.
#[derive(Debug, Default)]
pub(super) struct Failures {
    accepted: AtomicU64,
    connected: AtomicU64,
    failed: Mutex<Failed>,
}

#[derive(Debug, Default)]
struct Failed {
    all: HandshakeFailures,
    by_network: HashMap<IpAddr, (HandshakeFailures, SystemTime)>,
}

impl Failures {
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connected.fetch_add(1, Relaxed);
    }

    /// Counts a handshake that failed.
    pub(super) fn count(&self, ip: IpAddr, reason: HandshakeFailure) {
        let (network, now) = (network(ip), wall_clock());
        let mut failed = self.failed.lock();
        failed.all.0[reason as usize] += 1;
        let by_network = &mut failed.by_network;
        if by_network.len() >= MAX_NETWORKS && !by_network.contains_key(&network) {
            let quiet = by_network.iter().min_by_key(|(_, (_, last))| *last);
            if let Some((&quiet, _)) = quiet {
                by_network.remove(&quiet);
            }
        }
        let (failures, last) = by_network
            .entry(network)
            .or_insert((HandshakeFailures::default(), now));
        failures.0[reason as usize] += 1;
        *last = now;
    }

    pub(super) fn stats(&self, expires: SystemTime) -> TlsStats {
        TlsStats {
            accepted: self.accepted.load(Relaxed),
            connected: self.connected.load(Relaxed),
            failed: self.failed.lock().all,
            expires: Some(expires),
        }
    }

    /// Returns where handshakes failed, those that failed last first.
    pub(super) fn by_ip(&self) -> Vec<FailedHandshakes> {
        let failed = self.failed.lock();
        let mut by_ip: Vec<_> = failed
            .by_network
            .iter()
            .map(|(&ip, &(failed, last))| FailedHandshakes { ip, failed, last })
            .collect();
        drop(failed);
        by_ip.sort_by_key(|it| std::cmp::Reverse(it.last));
        by_ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for (n, reason) in HandshakeFailure::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
        }
        let failures = Failures::default();
        failures.count([10, 0, 0, 1].into(), HandshakeFailure::Expired);
        failures.count([10, 0, 0, 1].into(), HandshakeFailure::Expired);
        failures.count([10, 0, 0, 2].into(), HandshakeFailure::Closed);
        let stats = failures.stats(wall_clock());
        assert_eq!(stats.failed.of(HandshakeFailure::Expired), 2);
        assert_eq!(stats.failed.total(), 3);
        assert_eq!(failures.by_ip().len(), 2);
    }

    #[test]
    fn what_is_remembered_of_ips_is_bounded() {
        let failures = Failures::default();
        for n in 0..2 * MAX_NETWORKS as u32 {
            failures.count(IpAddr::V4(n.into()), HandshakeFailure::NotTls);
        }
        assert_eq!(failures.by_ip().len(), MAX_NETWORKS);
        let total = failures.stats(wall_clock()).failed.total();
        assert_eq!(total, 2 * MAX_NETWORKS as u64);
    }
}
