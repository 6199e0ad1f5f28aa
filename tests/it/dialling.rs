//! Peers that do not answer a dial do not delay the dials of others.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use actix_transport::{Config, PeerEvent};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::support::*;

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// A port at which no dial is answered, on any address of this machine.
struct BlackHole {
    port: u16,
    _listener: Socket,
    _waiting: TcpStream,
}

impl BlackHole {
    async fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        listener.bind(&any.into()).expect("free port");
        listener.listen(0).expect("nobody else listens");
        let addr = listener.local_addr().expect("bound");
        let port = addr.as_socket().expect("an ip address").port();
        // A backlog of 0 holds one connection. This one fills it.
        let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        BlackHole {
            port,
            _listener: listener,
            _waiting: waiting.expect("listening"),
        }
    }

    /// Some of its addresses.
    fn addrs(&self, count: u16) -> impl Iterator<Item = SocketAddr> {
        (0..count).map(|index| {
            let [high, low] = index.to_be_bytes();
            (Ipv4Addr::new(127, 1, high, low), self.port).into()
        })
    }
}

/// Both placements. A dial without an answer would last for longer than any test.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        let config = config.connect_timeout(NEVER).stale_after(NEVER);
        config.max_dials(4).udp(false)
    })
}

#[test]
fn a_new_peer_and_one_that_was_lost_are_dialled_at_once_beside_many_that_do_not_answer() {
    for config in configs() {
        run(async {
            let a = node(config);
            let hole = BlackHole::new().await;
            for dead in hole.addrs(300) {
                a.try_send(dead, group(1), "anybody there?").expect("room");
            }
            until("all places are taken", || a.stats().links.dials >= 4).await;
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            for link in 1..=3 {
                peer.try_send(group(1), numbered(link, 10)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, link);
                drop(tap);
                until("lost", || !peer.stats().connected).await;
            }
            end([a]).await;
        });
    }
}

#[test]
fn every_peer_is_dialled_soon_although_none_answers() {
    const PEERS: u16 = 100;

    for config in configs() {
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let hole = BlackHole::new().await;
            let mut missing: Vec<_> = hole.addrs(PEERS).collect();
            for dead in &missing {
                a.try_send(*dead, group(1), "anybody there?").expect("room");
            }
            // The dials of the last few have nobody to make room for, so they go on.
            while missing.len() > 4 {
                if let PeerEvent::Unreachable { peer, error, .. } = events.next().await {
                    assert_eq!(error, std::io::ErrorKind::TimedOut);
                    missing.retain(|addr| *addr != peer);
                }
            }
            end([a]).await;
        });
    }
}
