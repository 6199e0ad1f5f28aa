//! [`Endpoint`]: the keys of one transport, its handshakes, and what came of them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;

use crate::{
    ids::NodeId,
    net::{
        tcp::Stream,
        time,
        tls::{
            Tls,
            certificate::Certificate,
            current::Current,
            failures::{FailedHandshakes, HandshakeFailure, TlsStats},
            first_byte::{self, FirstByte},
            handshake::{accept, connect},
            handshake_error::HandshakeError,
            keys::Keys,
            places::Places,
        },
    },
    tls_error::TlsError,
};

/// The TLS of one transport.
#[derive(Debug)]
pub(crate) struct Endpoint {
    me: NodeId,
    max_frame: usize,
    current: Arc<Current>,
    places: Places,
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
            current: Arc::new(Current::new(keys)),
            places: Places::default(),
            time_limit,
        })
    }

    /// Returns the certificate of this node.
    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        self.current.keys().certificate().clone()
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.current.keys().are_optional()
    }

    /// Makes other keys, if they can be used and cover this node.
    pub(crate) fn load(&self, tls: &Tls) -> Result<Keys, TlsError> {
        let keys = tls.load()?;
        check(&keys, self.me, self.max_frame)?;
        Ok(keys)
    }

    /// Uses these keys for connections from now on.
    pub(crate) fn set_keys(&self, keys: Keys) {
        self.current.set_keys(keys);
    }

    pub(crate) fn stats(&self) -> TlsStats {
        let expires = self.current.keys().certificate().not_after();
        self.current.failures.stats(expires)
    }

    /// Returns with which ips handshakes failed.
    pub(crate) fn failed(&self) -> Vec<FailedHandshakes> {
        self.current.failures.by_ip()
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
            self.current.failures.count(from.ip(), reason);
        }
        accepted
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
        let accepting = accept(&self.current, stream, &place);
        let accepted = place.within(limit, accepting).await;
        drop(place);
        match accepted {
            Ok(secured) => {
                self.current.failures.accepted();
                Ok(secured)
            }
            Err(failed) => Err(failed.tell().await),
        }
    }

    /// Makes the handshake on a connection to a peer.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        stream: Stream,
        addr: SocketAddr,
        expected: Expected<'_>,
    ) -> Result<Stream, HandshakeError> {
        let name = match expected.host {
            Some(host) => ServerName::try_from(host.trim_end_matches('.').to_owned()),
            None => Ok(ServerName::from(addr.ip())),
        };
        let name = name.map_err(|_| HandshakeFailure::WrongName)?;
        let connecting = connect(&self.current, stream, name, expected.node);
        let connected = match time::timeout(self.time_limit, connecting).await {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(failed)) => Err(failed.tell().await),
            Err(_) => Err(HandshakeFailure::TimedOut.into()),
        };
        match &connected {
            Ok(_) => self.current.failures.connected(),
            Err(err) => {
                let reason = err.reason;
                tracing::debug!(peer = %addr, ?reason, %err, "tls handshake failed");
                self.current.failures.count(addr.ip(), reason);
            }
        }
        connected
    }
}

/// Checks that the first byte tells TLS from frames, if both are accepted, and that the own certificate covers
/// this node: no other node would accept it.
fn check(keys: &Keys, me: NodeId, max_frame: usize) -> Result<(), TlsError> {
    if keys.are_optional() && !first_byte::leaves_apart(max_frame) {
        return Err(TlsError::FramesTooLong {
            max: first_byte::MAX_PLAIN_FRAME,
        });
    }
    match keys.covers_own(me) {
        true => Ok(()),
        false => Err(TlsError::NotOurs {
            node: me,
            certificate: keys.certificate().to_string(),
        }),
    }
}
