//! Limits how many connections may be open, in total and from one IP address.
//!
//! Owns the numbers of open connections. Closing a connection that is not admitted is left to the
//! `Listener`.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// The limits of one transport, and the numbers of open connections.
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
    per_ip: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    pub(crate) fn new(max: usize, max_per_ip: usize) -> Self {
        ConnectionLimits(Arc::new(Inner {
            max,
            max_per_ip,
            open: Mutex::default(),
        }))
    }

    /// Admits one connection from `ip`, unless a limit is reached.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Admission> {
        let mut open = self.0.open.lock();
        let from_ip = open.per_ip.get(&ip).copied().unwrap_or(0);
        if open.total >= self.0.max || from_ip >= self.0.max_per_ip {
            return None;
        }
        open.total += 1;
        open.per_ip.insert(ip, from_ip + 1);
        Some(Admission {
            limits: self.0.clone(),
            ip,
        })
    }

    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.0.open.lock().total
    }
}

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Arc<Inner>,
    ip: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock();
        open.total -= 1;
        if let Some(from_ip) = open.per_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.per_ip.remove(&self.ip);
            }
        }
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
}
