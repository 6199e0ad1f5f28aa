//! Sockets: opened, tuned, dialled and handed between runtimes, here and nowhere else.
//!
//! A tokio socket belongs to the runtime it was registered with, so what crosses to another arbiter
//! crosses as a `std` socket and is adopted there. Everything above works with tokio's types and asks
//! this file for them; a simulated network, or TLS, would take its place.

pub(crate) mod clock;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::config::Config;

/// The sockets of one transport, on one port, not yet registered with a runtime.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) tcp: std::net::TcpListener,
    pub(crate) udp: Option<std::net::UdpSocket>,
    pub(crate) addr: SocketAddr,
}

/// Binds TCP at `addr` and, where asked for, UDP on the same port.
///
/// For port 0 the system chooses one that is free for TCP; if UDP has it taken, another is tried.
pub(crate) fn bind(addr: SocketAddr, config: &Config) -> io::Result<Bound> {
    const TRIES: usize = 16;

    let mut result = bind_once(addr, config);
    for _ in 1..TRIES {
        match &result {
            Err(err) if addr.port() == 0 && err.kind() == io::ErrorKind::AddrInUse => {
                result = bind_once(addr, config);
            }
            _ => break,
        }
    }
    result
}

fn bind_once(addr: SocketAddr, config: &Config) -> io::Result<Bound> {
    let tcp = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A node that restarts gets its port back while old connections still linger. Windows means
    // something else by it.
    #[cfg(unix)]
    tcp.set_reuse_address(true)?;
    tcp.set_nonblocking(true)?;
    tcp.bind(&addr.into())?;
    tcp.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    let tcp = std::net::TcpListener::from(tcp);
    let addr = tcp.local_addr()?;
    let udp = config.udp.then(|| bind_udp(addr)).transpose()?;
    Ok(Bound { tcp, udp, addr })
}

fn bind_udp(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let udp = std::net::UdpSocket::bind(addr)?;
    udp.set_nonblocking(true)?;
    Ok(udp)
}

/// Registers the accepting socket with this thread's runtime. The socket itself stays with the
/// caller, so that a `Listener` that is started anew accepts from the same backlog.
pub(crate) fn listener(tcp: &std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(tcp.try_clone()?)
}

/// Registers the datagram socket with this thread's runtime, likewise.
pub(crate) fn datagrams(udp: &std::net::UdpSocket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(udp.try_clone()?)
}

/// Takes an accepted connection out of this runtime, so that it can go to another's.
pub(crate) fn release(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.into_std()
}

/// Registers an accepted connection with this thread's runtime.
pub(crate) fn adopt(stream: std::net::TcpStream, config: &Config) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive(config))?;
    delay_acks(&stream);
    Ok(stream)
}

/// Asks for acknowledgements that wait for a second frame or for some 40 ms, as TCP has them where
/// data goes both ways. On a link on which we never write, the kernel would send one for every read:
/// a packet for each of ours, which was a sixth of the time of a round trip. It forgets this when it
/// has waited in vain, so a link that begins to talk again asks again.
pub(crate) fn delay_acks(stream: &TcpStream) {
    // What the kernel does not grant costs time and nothing else.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(stream).set_tcp_quickack(false);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

/// Makes a connection to write to.
pub(crate) async fn dial(addr: SocketAddr, config: &Config) -> io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(config.nodelay)?;
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&keepalive(config))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    options.set_tcp_user_timeout(Some(config.user_timeout))?;
    let connecting = tokio::time::timeout(config.connect_timeout, socket.connect(addr));
    let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    // Port numbers for outgoing connections are drawn from a range in which a peer that is away may
    // have listened: TCP then connects the socket to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "connected to itself",
        ));
    }
    Ok(stream)
}

fn keepalive(config: &Config) -> TcpKeepalive {
    let interval = (config.keepalive / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(config.keepalive);
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    let keepalive = keepalive.with_interval(interval);
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let keepalive = keepalive.with_retries(3);
    keepalive
}

/// Whether a frame can be sent to this address at all.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    addr.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The address as the socket bound to `local` must name it, if it can reach it: a v6 socket knows v4
/// addresses in their mapped form, a v4 socket knows no v6 ones.
pub(crate) fn reachable_from(local: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    match (local, to) {
        (SocketAddr::V4(_), SocketAddr::V6(_)) => None,
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            Some((v4.ip().to_ipv6_mapped(), v4.port()).into())
        }
        _ => Some(to),
    }
}

/// The one form of an address: without the mapping that a v6 socket puts around v4 ones, and without
/// what does not tell one peer from another.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, addr.port()).into(),
        // The flow is no part of who is meant, nor is the scope where there is only one.
        IpAddr::V6(ip) => {
            let scope = match addr {
                SocketAddr::V6(addr) if ip.is_unicast_link_local() => addr.scope_id(),
                _ => 0,
            };
            SocketAddrV6::new(ip, addr.port(), 0, scope).into()
        }
    }
}

/// Whether accepting failed for want of something that may come back, not for the one connection.
pub(crate) fn is_exhaustion(err: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; ENOBUFS has none either.
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: [i32; 2] = [105, 55];
    let code = err.raw_os_error().unwrap_or(0);
    err.kind() == io::ErrorKind::OutOfMemory
        || (cfg!(unix) && (code == EMFILE || code == ENFILE || ENOBUFS.contains(&code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn localhost(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn udp_has_the_port_that_tcp_was_given() {
        let bound = bind(localhost(0), &Config::default()).expect("free port");
        let udp = bound.udp.expect("on by default");
        assert_eq!(udp.local_addr().expect("bound"), bound.addr);
        let without = bind(localhost(0), &Config::default().udp(false)).expect("free port");
        assert!(without.udp.is_none());
    }

    #[tokio::test]
    async fn a_dialled_connection_has_the_options_of_the_config() {
        let bound = bind(localhost(0), &Config::default()).expect("free port");
        for nodelay in [true, false] {
            let config = Config::default()
                .nodelay(nodelay)
                .keepalive(Duration::from_secs(7))
                .user_timeout(Duration::from_millis(1234));
            let stream = dial(bound.addr, &config).await.expect("listening");
            let socket = SockRef::from(&stream);
            assert_eq!(stream.nodelay().expect("tcp"), nodelay);
            assert!(socket.keepalive().expect("tcp"));
            #[cfg(target_os = "linux")]
            {
                let timeout = socket.tcp_user_timeout().expect("tcp");
                assert_eq!(timeout, Some(config.user_timeout));
                let idle = socket.tcp_keepalive_time().expect("tcp");
                assert_eq!(idle, config.keepalive);
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_listening_socket_has_the_backlog_of_the_config() {
        let bound = bind(localhost(0), &Config::default().backlog(1)).expect("free port");
        // A backlog of n holds n + 1 connections that nobody accepts; the next is not answered.
        let connect =
            || std::net::TcpStream::connect_timeout(&bound.addr, Duration::from_millis(100));
        let held: Vec<_> = (0..5).filter_map(|_| connect().ok()).collect();
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn addresses_that_nobody_can_have_are_not_usable() {
        for bad in [
            "127.0.0.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
        ] {
            assert!(!is_usable(bad.parse().expect("address")), "{bad}");
        }
        assert!(is_usable("[::1]:1".parse().expect("address")));
    }

    #[test]
    fn v4_addresses_are_mapped_for_a_v6_socket_and_back() {
        let (v4, v6) = (localhost(9), "[::1]:7".parse().expect("address"));
        let mapped = reachable_from(v6, v4).expect("mapped");
        assert_eq!(mapped.to_string(), "[::ffff:127.0.0.1]:9");
        assert_eq!(canonical(mapped), v4);
        assert_eq!(reachable_from(v4, v6), None);
    }
}
