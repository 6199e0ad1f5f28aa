//! The way to another node, by connection or by datagrams, for those who have time to wait.

use std::{net::SocketAddr, time::Duration};

use actix_transport::{GroupId, Payload, Peer, PeerError, SendError, Transport};
use tokio::time::sleep;

use crate::Failure;

/// How long to leave a full queue of datagrams alone. It holds some ten milliseconds' worth.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub(crate) enum Link {
    Tcp(Peer),
    Udp(Transport, SocketAddr),
}

impl Link {
    pub(crate) fn new(transport: &Transport, to: SocketAddr, udp: bool) -> Result<Self, PeerError> {
        // Asked for either way, as it says whether the address can be sent to.
        let peer = transport.peer(to)?;
        Ok(match udp {
            true => Link::Udp(transport.clone(), to),
            false => Link::Tcp(peer),
        })
    }

    /// Sends a frame if there is room for it now.
    #[inline]
    pub(crate) fn try_send<P: Payload>(
        &self,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        match self {
            Link::Tcp(peer) => peer.try_send(group, payload),
            Link::Udp(transport, to) => transport.send_datagram(*to, group, payload),
        }
    }

    /// Sends a frame as soon as there is room for it.
    pub(crate) async fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), Failure> {
        match self.try_send(group, payload) {
            Ok(()) => Ok(()),
            Err(refused) => self.retry(group, refused).await,
        }
    }

    /// Sends what was refused, as soon as there is room for it, if room was all that was missing.
    pub(crate) async fn retry<P: Payload>(
        &self,
        group: GroupId,
        mut refused: SendError<P>,
    ) -> Result<(), Failure> {
        loop {
            let SendError::Full { payload, .. } = refused else {
                return Err(refused.to_string().into());
            };
            let sent = match self {
                Link::Tcp(peer) => peer.send(group, payload).await,
                // Datagrams know no waiting for room, so it is polled for.
                Link::Udp(transport, to) => {
                    sleep(PAUSE).await;
                    transport.send_datagram(*to, group, payload)
                }
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(err) => refused = err,
            }
        }
    }
}
