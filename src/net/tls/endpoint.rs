//! [`Endpoint`]: the keys of one transport, its handshakes, and what came of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;

use crate::{
    ids::NodeId,
    net::{
        tcp::Stream,
        time::{self, wall_clock},
        tls::{
            Tls, TlsMode,
            certificate::Certificate,
            error::TlsError,
            failures::{Failures, HandshakeFailure, RefusedHandshakes, TlsStats},
            first_byte::{self, FirstByte},
            handshake::{HandshakeError, accept, connect},
            keys::Keys,
            places::Places,
        },
    },
};

/// The TLS of one transport.
#[derive(Debug)]
pub(crate) struct Endpoint {
    me: NodeId,
    max_frame: usize,
    keys: ArcSwap<Keys>,
    places: Places,
    failures: Failures,
    /// How long a handshake may take.
    time_limit: Duration,
}

/// Who must answer at an address that is dialled.
#[derive(Debug)]
pub(crate) struct Expected<'e> {
    /// The name that was dialled. `None` if it was an ip.
    pub(crate) host: Option<&'e str>,
    /// The node that is meant.
    pub(crate) node: Option<NodeId>,
}

impl Endpoint {
    /// Makes the one of node `me`, whose frames may have `max_frame` bytes.
    pub(crate) fn new(
        tls: &Tls,
        me: NodeId,
        max_frame: usize,
        time_limit: Duration,
    ) -> Result<Self, TlsError> {
        let keys = tls.load()?;
        check(&keys, me, max_frame)?;
        Ok(Endpoint {
            me,
            max_frame,
            keys: ArcSwap::from_pointee(keys),
            places: Places::default(),
            failures: Failures::default(),
            time_limit,
        })
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Returns the certificate of this node.
    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        self.keys.load().certificate().clone()
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.keys.load().rules().mode == TlsMode::Optional
    }

    /// Uses other keys for connections from now on. Those before remain in use if these cannot be used, or
    /// would not cover this node.
    pub(crate) fn reload(&self, tls: &Tls) -> Result<(), TlsError> {
        let keys = tls.load()?;
        check(&keys, self.me, self.max_frame)?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Returns how long the certificate of this node is still valid.
    pub(crate) fn time_left(&self) -> Duration {
        self.keys.load().time_left(wall_clock()).unwrap_or_default()
    }

    pub(crate) fn stats(&self) -> TlsStats {
        let expires = self.keys.load().certificate().not_after();
        self.failures.stats(expires)
    }

    /// Returns where handshakes came from that failed.
    pub(crate) fn refused(&self) -> Vec<RefusedHandshakes> {
        self.failures.by_ip()
    }

    // ---- handshakes --------------------------------------------------------------------------------

    /// Makes the handshake on a connection that was accepted. If TLS is optional and the connection begins
    /// without it, returns it as it is.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        stream: Stream,
        from: SocketAddr,
    ) -> Result<Stream, HandshakeError> {
        let accepted = self.accept_within(stream, from).await;
        if let Err(err) = &accepted {
            let reason = err.reason;
            tracing::debug!(%from, ?reason, %err, "tls handshake failed");
            self.failures.count(from.ip(), reason);
        }
        accepted
    }

    /// Counts a connection that the other end ended because it does not accept this one.
    pub(super) fn rejected(&self, ip: IpAddr, err: &rustls::Error) {
        tracing::debug!(%ip, %err, "the other end does not accept this node");
        self.failures.count(ip, HandshakeFailure::Rejected);
    }

    async fn accept_within(
        self: &Arc<Self>,
        stream: Stream,
        from: SocketAddr,
    ) -> Result<Stream, HandshakeError> {
        let limit = time::now() + self.time_limit;
        let mut first = [0];
        let peeked = time::timeout(self.time_limit, stream.tcp.peek(&mut first)).await;
        let arrived = match peeked {
            Ok(Ok(n)) => &first[..n],
            Ok(Err(err)) => return Err(HandshakeError::lost(&err)),
            Err(_) => return Err(HandshakeFailure::TimedOut.into()),
        };
        match FirstByte::of(arrived) {
            FirstByte::Tls => {}
            FirstByte::Plain if self.is_optional() => return Ok(stream),
            FirstByte::Plain => return Err(HandshakeFailure::NotTls.into()),
            FirstByte::NeedMore => return Err(HandshakeFailure::Closed.into()),
        }
        let place = self.places.enter(from.ip());
        let accepting = accept(self, stream, &place);
        let secured = place.within(limit, accepting).await?;
        self.failures.accepted();
        Ok(secured)
    }

    /// Makes the handshake on a connection to a peer.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        stream: Stream,
        addr: SocketAddr,
        expected: Expected<'_>,
    ) -> Result<Stream, HandshakeError> {
        let name = match expected.host {
            Some(host) => ServerName::try_from(host.to_owned()),
            None => Ok(ServerName::from(addr.ip())),
        };
        let name = name.map_err(|_| HandshakeFailure::WrongName)?;
        let connecting = connect(self, stream, name, expected.node);
        let connected = match time::timeout(self.time_limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(HandshakeFailure::TimedOut.into()),
        };
        match &connected {
            Ok(_) => self.failures.connected(),
            Err(err) => {
                let reason = err.reason;
                tracing::debug!(peer = %addr, ?reason, %err, "tls handshake failed");
                self.failures.count(addr.ip(), reason);
            }
        }
        connected
    }
}

/// Checks that the first byte tells TLS from frames, if both are accepted, and that the own certificate covers
/// this node: no other node would accept it.
fn check(keys: &Keys, me: NodeId, max_frame: usize) -> Result<(), TlsError> {
    if keys.rules().mode == TlsMode::Optional && !first_byte::leaves_apart(max_frame) {
        return Err(TlsError::FramesTooLong {
            max: first_byte::MAX_PLAIN_FRAME,
        });
    }
    match keys.covers_own(me) {
        true => Ok(()),
        false => Err(TlsError::NotOurs {
            node: me,
            certificate: Box::new(keys.certificate().as_ref().clone()),
        }),
    }
}
