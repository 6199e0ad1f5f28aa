//! The bytes that a group's actor has not handled yet, against the bound of its group.
//!
//! Owns the bound of [`GroupOverflow::Drop`](crate::GroupOverflow::Drop) and of datagrams, and each sender's share of
//! it: a [`Charge`] adds a batch's bytes to the sums of its group and its sender, and takes them off
//! again when the batch goes away. What a batch costs, and what happens to frames that do not fit, is
//! decided by `deliver`.
//!
//! A connection may hold at most four times as many bytes as are free, and all connections of one ip
//! together sixteen times as many. One connection can therefore fill four fifths of the bound; the more
//! senders there are, the less each of them gets, and something always stays free for those that hold
//! little. Nobody needs to know how many senders there are, and a flooder is refused before anybody
//! else is.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::receive::secret_hasher::SecretHasher;

/// How many times the free bytes one connection may hold.
const CONNECTION_SHARE: usize = 4;

/// How many times the free bytes all connections of one ip may hold together. Low enough to leave room
/// beside somebody who opens many connections, and so high that several honest connections of one
/// machine do not notice.
const IP_SHARE: usize = 16;

/// The sums of a group's charges.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBytes(Arc<Mutex<Held>>);

impl HeldBytes {
    /// Charges `from` as many bytes as `cost` returns, which is called with the bytes that the sender
    /// may still hold if all senders together may hold `max`, and must return no more than those.
    pub(crate) fn charge(
        &self,
        from: SocketAddr,
        max: usize,
        cost: impl FnOnce(usize) -> usize,
    ) -> Charge {
        let mut held = self.0.lock();
        let bytes = cost(held.room(from, max));
        held.add(from, bytes);
        Charge {
            held: self.clone(),
            from,
            bytes,
        }
    }
}

/// What a group holds. Senders that hold nothing are not in the maps, so these take less memory than
/// the batches that are charged.
#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_connection: HashMap<SocketAddr, usize, SecretHasher>,
    by_ip: HashMap<IpAddr, usize, SecretHasher>,
}

impl Held {
    /// Returns how many more bytes `from` may hold.
    fn room(&self, from: SocketAddr, max: usize) -> usize {
        let free = max.saturating_sub(self.total);
        let connection = self.by_connection.get(&from).copied().unwrap_or(0);
        let ip = self.by_ip.get(&from.ip()).copied().unwrap_or(0);
        room(free, connection, CONNECTION_SHARE).min(room(free, ip, IP_SHARE))
    }

    fn add(&mut self, from: SocketAddr, bytes: usize) {
        if bytes > 0 {
            self.total += bytes;
            *self.by_connection.entry(from).or_default() += bytes;
            *self.by_ip.entry(from.ip()).or_default() += bytes;
        }
    }

    fn remove(&mut self, from: SocketAddr, bytes: usize) {
        if bytes > 0 {
            self.total -= bytes;
            subtract(&mut self.by_connection, &from, bytes);
            subtract(&mut self.by_ip, &from.ip(), bytes);
        }
    }
}

/// Returns the most bytes that somebody who holds `held` bytes may add, so that they then hold at most
/// `share` times as many as are still free.
fn room(free: usize, held: usize, share: usize) -> usize {
    free.saturating_mul(share).saturating_sub(held) / (share + 1)
}

/// Subtracts from a sender's bytes, and forgets the sender if none are left.
fn subtract<K: Hash + Eq>(sums: &mut HashMap<K, usize, SecretHasher>, key: &K, bytes: usize) {
    if let Some(sum) = sums.get_mut(key) {
        *sum -= bytes;
        if *sum == 0 {
            sums.remove(key);
        }
    }
}

/// Bytes that a group holds, until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: HeldBytes,
    from: SocketAddr,
    bytes: usize,
}

impl Charge {
    /// Charges so many bytes more, if the sender may hold them where all may hold `max`.
    pub(crate) fn with_more(mut self, bytes: usize, max: usize) -> Option<Self> {
        let mut held = self.held.0.lock();
        if held.room(self.from, max) < bytes {
            drop(held);
            return None;
        }
        held.add(self.from, bytes);
        drop(held);
        self.bytes += bytes;
        Some(self)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.0.lock().remove(self.from, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_000_000;

    fn sender(ip: u8, port: u16) -> SocketAddr {
        ([10, 0, 0, ip], port).into()
    }

    /// Charges a sender as much as it may hold.
    fn fill(held: &HeldBytes, from: SocketAddr) -> Charge {
        held.charge(from, MAX, |room| room)
    }

    #[test]
    fn a_charge_leaves_less_room_until_it_is_dropped() {
        let held = HeldBytes::default();
        let first = held.charge(sender(1, 1), MAX, |room| room - 40);
        let second = fill(&held, sender(1, 1));
        assert_eq!((first.bytes, second.bytes), (MAX * 4 / 5 - 40, 40));
        assert_eq!(fill(&held, sender(1, 1)).bytes, 0);
        drop(first);
        assert_eq!(held.0.lock().total, 40);
        assert_eq!(fill(&held, sender(1, 1)).bytes, MAX * 4 / 5 - 40);
    }

    #[test]
    fn a_sender_that_holds_all_it_may_leaves_room_for_others() {
        let held = HeldBytes::default();
        let mut flood = vec![fill(&held, sender(1, 1))];
        // Whatever is handled, the flooder takes again.
        for _ in 0..10 {
            flood.pop();
            flood.push(fill(&held, sender(1, 1)));
            let honest = held.charge(sender(1, 2), MAX, |room| room.min(1000));
            assert_eq!(honest.bytes, 1000);
        }
    }

    #[test]
    fn an_ip_that_floods_over_many_connections_leaves_room_for_other_ips() {
        let held = HeldBytes::default();
        let flood: Vec<_> = (0..1000).map(|port| fill(&held, sender(1, port))).collect();
        let taken: usize = flood.iter().map(|charge| charge.bytes).sum();
        assert!(taken <= MAX * 16 / 17, "{taken}");
        let honest = fill(&held, sender(2, 1));
        assert!(honest.bytes > MAX / 17 / 2, "{}", honest.bytes);
    }

    #[test]
    fn all_senders_together_never_hold_more_than_the_bound() {
        let held = HeldBytes::default();
        let all: Vec<_> = (0..200).map(|ip| fill(&held, sender(ip, 1))).collect();
        let taken: usize = all.iter().map(|charge| charge.bytes).sum();
        assert!(taken <= MAX, "{taken}");
        assert_eq!(held.charge(sender(201, 1), 0, |room| room).bytes, 0);
    }

    #[test]
    fn senders_that_hold_nothing_are_forgotten() {
        let held = HeldBytes::default();
        for port in 0..1000 {
            drop(fill(&held, sender(1, port)));
            drop(held.charge(sender(2, port), MAX, |_| 0));
        }
        let held = held.0.lock();
        assert_eq!((held.by_connection.len(), held.by_ip.len()), (0, 0));
    }
}
