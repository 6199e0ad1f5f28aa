//! Limits how many connections may be open, in total and from one address, and what connections that
//! have ended may leave behind.
//!
//! Owns the numbers of open and of ended connections. An ended connection is one whose frames have not
//! all been handled. Its place is free, so that a handler that takes for ever costs no places; but an
//! address with too many of them is not admitted until handlers have caught up. Closing a connection
//! that is not admitted is left to the `Listener`.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::{config::Config, net::addr::network};

/// The most ended connections of one address. Each holds what one read brought, and a task.
const MAX_ENDED: usize = 1_024;

/// The most bytes that the ended connections of one address may have left unread. What a connection
/// leaves is at most what its receive buffer in the kernel holds, by default 6 MiB on Linux.
const MAX_ENDED_BYTES: usize = 64 << 20;

/// The limits of one transport, and the numbers of connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_ip: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Addresses without connections are not in here.
    by_network: HashMap<IpAddr, Network>,
}

/// The connections of one [`network`].
#[derive(Debug, Default)]
struct Network {
    open: usize,
    ended: usize,
    ended_bytes: usize,
}

impl ConnectionLimits {
    /// Returns the limits of the configuration, or lower ones if the process may have only so many
    /// `descriptors`. The rest of the process keeps a quarter of them. One address gets at most half
    /// of the places then.
    pub(crate) fn within(config: &Config, descriptors: Option<usize>) -> Self {
        /// What the rest of the process keeps at least, if there are twice as many descriptors.
        const MIN_RESERVE: usize = 64;

        let (max, max_per_ip) = (config.max_connections, config.max_connections_per_ip);
        let places = descriptors.map_or(max, |descriptors| {
            let reserve = (descriptors / 4).max(MIN_RESERVE.min(descriptors / 2));
            (descriptors - reserve).max(1)
        });
        match places < max {
            true => ConnectionLimits::new(places, max_per_ip.min(places.div_ceil(2))),
            false => ConnectionLimits::new(max, max_per_ip),
        }
    }

    fn new(max: usize, max_per_ip: usize) -> Self {
        ConnectionLimits(Arc::new(Inner {
            max,
            max_per_ip,
            open: Mutex::default(),
        }))
    }

    /// Admits one connection from `ip`, unless a limit is reached.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Admission> {
        let ip = network(ip);
        let mut open = self.0.open.lock();
        if open.total >= self.0.max {
            return None;
        }
        let from = open.by_network.entry(ip).or_default();
        if from.open >= self.0.max_per_ip || from.ended >= MAX_ENDED {
            return None;
        }
        from.open += 1;
        open.total += 1;
        Some(Admission {
            limits: self.0.clone(),
            ip,
        })
    }

    /// Returns how many connections may be open at the same time.
    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.0.open.lock().total
    }
}

impl Inner {
    /// Changes the numbers of one network.
    fn change<R>(&self, ip: IpAddr, change: impl FnOnce(&mut Open, &mut Network) -> R) -> R {
        let mut open = self.open.lock();
        let mut from = open.by_network.remove(&ip).unwrap_or_default();
        let result = change(&mut open, &mut from);
        if from.open + from.ended > 0 {
            open.by_network.insert(ip, from);
        }
        result
    }
}

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Arc<Inner>,
    ip: IpAddr,
}

impl Admission {
    /// Counts the connection as ended from here on, and no longer as open.
    pub(crate) fn end(self) -> Ended {
        self.limits.change(self.ip, |_, from| from.ended += 1);
        Ended {
            limits: self.limits.clone(),
            ip: self.ip,
            bytes: 0,
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limits.change(self.ip, |open, from| {
            open.total -= 1;
            from.open -= 1;
        });
    }
}

/// Counts one connection as ended until it is dropped.
#[derive(Debug)]
pub(crate) struct Ended {
    limits: Arc<Inner>,
    ip: IpAddr,
    bytes: usize,
}

impl Ended {
    /// Returns how many unread bytes it may keep.
    pub(crate) fn room(&self) -> usize {
        let held = self.limits.change(self.ip, |_, from| from.ended_bytes);
        MAX_ENDED_BYTES.saturating_sub(held)
    }

    /// Notes that it keeps `bytes` unread bytes.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.limits
            .change(self.ip, |_, from| from.ended_bytes += bytes);
        self.bytes += bytes;
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.limits.change(self.ip, |_, from| {
            from.ended -= 1;
            from.ended_bytes -= self.bytes;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_total_and_per_ip_and_a_dropped_admission_makes_room() {
        let limits = ConnectionLimits::new(3, 2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = limits.admit(a).expect("empty");
        let _second = limits.admit(a).expect("one of two");
        assert!(limits.admit(a).is_none(), "two are open from this ip");
        let _third = limits.admit(b).expect("another ip");
        assert!(limits.admit(b).is_none(), "three are open in total");
        drop(first);
        assert_eq!(limits.open(), 2);
        assert!(limits.admit(a).is_some(), "one of two again");
        assert!(limits.admit(b).is_some());
    }

    #[test]
    fn an_ended_connection_takes_no_place_and_too_many_of_them_close_an_address() {
        let limits = ConnectionLimits::new(2, 2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut ended: Vec<_> = (0..MAX_ENDED)
            .map(|_| limits.admit(a).expect("places are free").end())
            .collect();
        assert_eq!(limits.open(), 0);
        assert!(limits.admit(a).is_none());
        assert!(limits.admit(b).is_some());
        ended.pop();
        assert!(limits.admit(a).is_some());
    }

    #[test]
    fn the_unread_bytes_of_an_address_are_bounded_until_its_connections_are_done() {
        let limits = ConnectionLimits::new(9, 9);
        let end = |last| limits.admit([10, 0, 0, last].into()).expect("free").end();
        let (mut first, second, other) = (end(1), end(1), end(2));
        first.hold(MAX_ENDED_BYTES - 10);
        assert_eq!((second.room(), other.room()), (10, MAX_ENDED_BYTES));
        drop(first);
        assert_eq!(second.room(), MAX_ENDED_BYTES);
        drop((second, other));
        assert!(limits.0.open.lock().by_network.is_empty());
    }

    #[test]
    fn descriptors_limit_the_places_and_one_address_gets_half_of_them() {
        let config = Config::default()
            .max_connections(100)
            .max_connections_per_ip(90);
        let within = |descriptors| {
            let limits = ConnectionLimits::within(&config, descriptors);
            (limits.0.max, limits.0.max_per_ip)
        };
        assert_eq!(within(None), (100, 90));
        assert_eq!(within(Some(1_000)), (100, 90));
        assert_eq!(within(Some(100)), (50, 25));
        assert_eq!(within(Some(1)), (1, 1));
        let many = ConnectionLimits::within(&Config::default(), Some(1_024));
        assert_eq!(many.max(), 768);
    }

    #[test]
    fn ipv6_addresses_of_one_network_count_together() {
        let limits = ConnectionLimits::new(9, 1);
        let admit = |ip: &str| limits.admit(ip.parse().expect("an ip"));
        let _first = admit("2001:db8:0:1::1").expect("empty");
        assert!(admit("2001:db8:0:1:ffff::2").is_none());
        assert!(admit("2001:db8:0:2::1").is_some());
        let _v4 = admit("::ffff:10.0.0.1").expect("an IPv4 address");
        assert!(admit("10.0.0.1").is_none() && admit("10.0.0.2").is_some());
    }
}
