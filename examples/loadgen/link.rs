//! Sending to another node, over a connection or by datagrams, for callers that may wait for room.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use actix_transport::{GroupId, Lane, Payload, Peer, PeerAddr, SendError, Transport};
use tokio::time::sleep;

use crate::Failure;

/// Pause before a datagram is offered again to a full queue, which holds some ten milliseconds'
/// worth.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub(crate) enum Link {
    Tcp(Peer),
    Udp(Transport, SocketAddr),
}

impl Link {
    pub(crate) fn new(transport: &Transport, to: &PeerAddr, udp: bool) -> Result<Self, Failure> {
        // Also needed for UDP: it checks whether the address can be sent to.
        let peer = transport.peer(to)?;
        Ok(match udp {
            true => Link::Udp(transport.clone(), resolve(transport, to)?),
            false => Link::Tcp(peer),
        })
    }

    /// Returns the link to the same node on this lane. Datagrams have no lanes.
    pub(crate) fn on(self, lane: Lane) -> Self {
        match self {
            Link::Tcp(peer) => Link::Tcp(peer.lane(lane)),
            udp @ Link::Udp(..) => udp,
        }
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

    /// Sends frames together, and waits for room where there is none. Datagrams go one by one.
    pub(crate) async fn send_all<P: Payload, I>(&self, frames: I) -> Result<(), Failure>
    where
        I: IntoIterator<Item = (GroupId, P)>,
    {
        let Link::Tcp(peer) = self else {
            for (group, payload) in frames {
                self.send(group, payload).await?;
            }
            return Ok(());
        };
        // As with single frames, only what has to wait becomes a future.
        let Err(refused) = peer.try_send_all(frames) else {
            return Ok(());
        };
        match refused.is_full() {
            true => {
                let sent = peer.send_all(refused).await;
                sent.map_err(|err| err.to_string().into())
            }
            false => Err(refused.to_string().into()),
        }
    }

    /// Sends a frame as soon as there is room for it.
    pub(crate) async fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), Failure> {
        match self.try_send(group, payload) {
            Ok(()) => Ok(()),
            Err(refused) => self.retry(group, refused).await,
        }
    }

    /// Sends a message, which may be longer than a frame, and waits until it is written.
    pub(crate) async fn send_large(&self, group: GroupId, payload: Vec<u8>) -> Result<(), Failure> {
        match self {
            Link::Tcp(peer) => Ok(peer.send_large(group, payload).await?),
            Link::Udp(..) => Err("a message in parts cannot be sent by datagrams".into()),
        }
    }

    /// Sends a refused frame as soon as there is room for it. Fails if there was another reason.
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
                // There is no call that waits for room for a datagram, so try again after a pause.
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

/// Finds where datagrams for this address go. A name is resolved once, because the transport sends
/// datagrams to no names.
fn resolve(transport: &Transport, to: &PeerAddr) -> Result<SocketAddr, Failure> {
    if let Some(addr) = to.ip_addr() {
        return Ok(addr);
    }
    let name = to.to_string();
    let failed = |problem: String| format!("{name}: {problem}");
    let mut addrs = name
        .to_socket_addrs()
        .map_err(|err| failed(err.to_string()))?;
    let is_ipv4 = transport.local_addr().is_ipv4();
    let addr = addrs.find(|addr| addr.is_ipv4() == is_ipv4);
    addr.ok_or_else(|| failed("has no address of the ip version of --listen".to_string()).into())
}
