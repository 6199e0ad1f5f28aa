//! Opens the sockets of one transport: TCP and UDP on one port.

use std::{io, net::SocketAddr};

use crate::{
    config::Config,
    net::{tcp::ListeningSocket, udp::UnattachedUdp},
};

/// The sockets of one transport, not yet attached to a runtime.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) tcp: ListeningSocket,
    /// `None` where the configuration switches datagrams off.
    pub(crate) udp: Option<UnattachedUdp>,
    /// The address of both, with the port that the system chose for port 0.
    pub(crate) addr: SocketAddr,
}

/// Binds TCP at `addr` and, if configured, UDP on the same port.
///
/// For port 0 the system chooses a port that is free for TCP; if that port is taken for UDP, another
/// one is tried.
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
    let tcp = ListeningSocket::bind(addr, config.backlog)?;
    let addr = tcp.addr();
    let udp = config.udp.then(|| UnattachedUdp::bind(addr, config));
    let udp = udp.transpose()?;
    Ok(Bound { tcp, udp, addr })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn any_port() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn udp_has_the_port_that_tcp_was_given() {
        let bound = bind(any_port(), &Config::default()).expect("free port");
        let udp = bound.udp.expect("on by default");
        let taken = std::net::UdpSocket::bind(bound.addr).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(udp);
        std::net::UdpSocket::bind(bound.addr).expect("free again");
        let without = bind(any_port(), &Config::default().udp(false)).expect("free port");
        assert!(without.udp.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_listening_socket_has_the_backlog_of_the_config() {
        use std::{net::TcpStream, time::Duration};

        let bound = bind(any_port(), &Config::default().backlog(1)).expect("free port");
        // Linux holds n + 1 connections for a backlog of n. The next one gets no answer.
        let connect = || TcpStream::connect_timeout(&bound.addr, Duration::from_millis(100));
        let held: Vec<_> = (0..5).filter_map(|_| connect().ok()).collect();
        assert_eq!(held.len(), 2);
    }
}
