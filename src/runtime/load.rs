//! Who carries how much: the load of the I/O workers, and the caps on connections.
//!
//! Both are numbers that go up with a guard and down with its `Drop`, so that a connection that ends
//! in whatever way gives back what it took. Nothing here knows what a connection is.
//!
//! The protocol of a `Load`: it is raised by the one who hands work over, *before* the hand-over, so
//! that a burst of connections sees each other; it falls when the `Carried` guard that travels with
//! the work is dropped, on whatever thread that happens. Nobody is woken by either. The number is a
//! hint for a fair spread and orders no other memory, hence `Relaxed`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

/// How many connections, or peers, one worker carries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Takes one more; the guard gives it back.
    pub(crate) fn carry(&self) -> Carried {
        defect!(
            LoadLate,
            crate::defect::count_late(&self.0),
            self.0.fetch_add(1, Relaxed)
        );
        Carried(self.clone())
    }
}

/// One unit of load, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Carried(Load);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Picks the worker that carries least, the first of several.
pub(crate) fn least_loaded<T>(
    workers: impl IntoIterator<Item = T>,
    load: impl Fn(&T) -> &Load,
) -> Option<T> {
    workers.into_iter().min_by_key(|worker| load(worker).get())
}

/// The cap on connections, in all and per remote ip.
#[derive(Debug, Clone)]
pub(crate) struct Gatekeeper(Arc<Gates>);

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

impl Gatekeeper {
    pub(crate) fn new(max: usize, max_per_ip: usize) -> Self {
        Gatekeeper(Arc::new(Gates {
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
            *from_ip -= defect!(CapKept, 0, 1);
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
    fn a_burst_spreads_evenly_because_load_counts_before_the_hand_over() {
        let workers = vec![Load::default(), Load::default(), Load::default()];
        let burst: Vec<_> = (0..9)
            .map(|_| least_loaded(&workers, |load| load).expect("three").carry())
            .collect();
        assert_eq!(workers.iter().map(Load::get).collect::<Vec<_>>(), [3, 3, 3]);
        drop(burst);
        assert_eq!(workers.iter().map(Load::get).collect::<Vec<_>>(), [0, 0, 0]);
    }

    #[test]
    fn caps_hold_in_all_and_per_ip_and_are_given_back() {
        let gates = Gatekeeper::new(3, 2);
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
