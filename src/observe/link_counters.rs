//! The counters of connections and actors, of which [`LinkStats`] is a snapshot.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::observe::stats::{DatagramErrors, LinkStats};

/// Independent counters: each is raised where something happens. They order no other memory, hence
/// `Relaxed`.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    pub(super) dials: Counter,
    pub(super) connects: Counter,
    pub(super) disconnects: Counter,
    pub(super) accepted: Counter,
    pub(super) turned_away: Counter,
    pub(super) accept_stalls: Counter,
    pub(super) rebinds: Counter,
    pub(super) datagram_stalls: Counter,
    pub(super) datagrams_lost: Counter,
    pub(super) restarts: Counter,
    pub(super) links_refused: Counter,
    pub(super) refusals: Counter,
    pub(super) bad_handshakes: Counter,
    pub(super) heard: Counter,
    pub(super) goodbyes: Counter,
    pub(super) gaps: Counter,
    too_long: Counter,
    unreachable: Counter,
    refused: Counter,
    other: Counter,
}

impl LinkCounters {
    /// Returns a snapshot, given what is counted elsewhere: the peers known, the connections open and
    /// how many may be.
    pub(crate) fn snapshot(&self, peers: usize, [connections, limit]: [usize; 2]) -> LinkStats {
        LinkStats {
            dials: self.dials.get(),
            connects: self.connects.get(),
            disconnects: self.disconnects.get(),
            peers: peers as u64,
            accepted: self.accepted.get(),
            turned_away: self.turned_away.get(),
            accept_stalls: self.accept_stalls.get(),
            rebinds: self.rebinds.get(),
            connections: connections as u64,
            connection_limit: limit as u64,
            datagram_stalls: self.datagram_stalls.get(),
            datagrams_lost: self.datagrams_lost.get(),
            restarts: self.restarts.get(),
            refused: self.links_refused.get(),
            refusals: self.refusals.get(),
            bad_handshakes: self.bad_handshakes.get(),
            heard: self.heard.get(),
            goodbyes: self.goodbyes.get(),
            gaps: self.gaps.get(),
            datagram_errors: DatagramErrors {
                too_long: self.too_long.get(),
                unreachable: self.unreachable.get(),
                refused: self.refused.get(),
                other: self.other.get(),
            },
        }
    }

    /// Returns the counter of datagrams that failed with an error of this kind.
    pub(super) fn datagram_error(&self, err: &io::Error) -> &Counter {
        // Linux, then BSD and macOS.
        const EMSGSIZE: [i32; 2] = [90, 40];

        match err.kind() {
            io::ErrorKind::ConnectionRefused => &self.refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied => &self.unreachable,
            _ if err
                .raw_os_error()
                .is_some_and(|code| EMSGSIZE.contains(&code)) =>
            {
                &self.too_long
            }
            _ => &self.other,
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
