//! Socket addresses: which can be sent to, and in which form they are compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) use crate::peer_addr::canonical;

/// Returns whether a frame can be sent to this address: it has a port, and its ip is not unspecified,
/// multicast or 255.255.255.255.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    addr.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Returns `to` in the form that a socket bound to `local` must use, or `None` if it cannot reach it.
/// An IPv6 socket writes IPv4 addresses in their mapped form; an IPv4 socket reaches no IPv6 address.
pub(crate) fn reachable_from(local: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    match (local, to) {
        (SocketAddr::V4(_), SocketAddr::V6(_)) => None,
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            Some((v4.ip().to_ipv6_mapped(), v4.port()).into())
        }
        _ => Some(to),
    }
}

/// Returns what counts as one address: an IPv4 address, or a network of 64 bits in IPv6, because one
/// machine can have all addresses of such a network.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_machine_has_are_not_usable() {
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
        let v4: SocketAddr = "127.0.0.1:9".parse().expect("address");
        let v6 = "[::1]:7".parse().expect("address");
        let mapped = reachable_from(v6, v4).expect("mapped");
        assert_eq!(mapped.to_string(), "[::ffff:127.0.0.1]:9");
        assert_eq!(canonical(mapped), v4);
        assert_eq!(reachable_from(v4, v6), None);
    }
}
