//! How many connections may be open, in all and from one ip.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// The cap on connections, in all and per remote ip.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits(Arc<Gates>);

#[derive(Debug)]
struct Gates {
    max: usize,
    max_per_ip: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    per_ip: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    pub(crate) fn new(max: usize, max_per_ip: usize) -> Self {
        ConnectionLimits(Arc::new(Gates {
            max,
            max_per_ip,
            inside: Mutex::default(),
        }))
    }

    /// Lets one connection from `ip` in, unless a cap is reached.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Admission> {
        let mut inside = self.0.inside.lock();
        let from_ip = inside.per_ip.get(&ip).copied().unwrap_or(0);
        if inside.all >= self.0.max || from_ip >= self.0.max_per_ip {
            return None;
        }
        inside.all += 1;
        inside.per_ip.insert(ip, from_ip + 1);
        Some(Admission {
            gates: self.0.clone(),
            ip,
        })
    }

    /// Connections inside now.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.lock().all
    }
}

/// The right of one connection to be here, given back on drop.
#[derive(Debug)]
pub(crate) struct Admission {
    gates: Arc<Gates>,
    ip: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.gates.inside.lock();
        inside.all -= 1;
        if let Some(from_ip) = inside.per_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                inside.per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_in_all_and_per_ip_and_are_given_back() {
        let gates = ConnectionLimits::new(3, 2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = gates.admit(a).expect("empty");
        let _second = gates.admit(a).expect("one of two");
        assert!(gates.admit(a).is_none(), "two from one ip");
        let _third = gates.admit(b).expect("another ip");
        assert!(gates.admit(b).is_none(), "three in all");
        drop(first);
        assert_eq!(gates.inside(), 2);
        assert!(gates.admit(a).is_some(), "one of two again");
        assert!(gates.admit(b).is_some());
    }
}
