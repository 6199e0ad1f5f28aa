//! What happens to links and actors: counted, logged and told to the subscribers, in one place.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    net::time::SystemTime,
    observe::{
        event::{Component, DownReason, PeerEvent},
        link_counters::LinkCounters,
        stats::{Dropped, LinkStats},
        subscribers::Subscribers,
    },
};

/// A handle to report to. Cheap to clone; one set of counters and subscribers for each transport.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter {
    counters: Arc<LinkCounters>,
    pub(crate) subscribers: Subscribers,
}

impl Reporter {
    /// Takes the numbers that are counted elsewhere: the peers known, the connections open and how many
    /// may be.
    pub(crate) fn link_stats(&self, peers: usize, connections: [usize; 2]) -> LinkStats {
        self.counters.snapshot(peers, connections)
    }

    // ---- links to peers --------------------------------------------------------------------------

    pub(crate) fn dialling(&self) {
        self.counters.dials.add_one();
    }

    pub(crate) fn link_up(&self, peer: SocketAddr, epoch: u64) {
        self.counters.connects.add_one();
        tracing::debug!(%peer, epoch, "up");
        self.subscribers.tell(&PeerEvent::Up { peer, epoch });
    }

    pub(crate) fn link_down(&self, peer: SocketAddr, epoch: u64, reason: DownReason) {
        self.counters.disconnects.add_one();
        tracing::debug!(%peer, epoch, ?reason, "down");
        self.subscribers.tell(&PeerEvent::Down {
            peer,
            epoch,
            reason,
        });
    }

    pub(crate) fn unreachable(
        &self,
        peer: SocketAddr,
        since: SystemTime,
        failures: u32,
        err: &io::Error,
    ) {
        tracing::debug!(%peer, failures, %err, "unreachable");
        self.subscribers.tell(&PeerEvent::Unreachable {
            peer,
            since,
            failures,
            error: err.kind(),
        });
    }

    /// Reports accepted frames that were dropped: those for `peer`, or datagrams if `None`.
    pub(crate) fn dropped(&self, peer: Option<SocketAddr>, dropped: &Dropped) {
        self.subscribers.tell_dropped(peer, dropped);
    }

    pub(crate) fn datagram_failed(&self, err: &io::Error) {
        self.counters.datagram_error(err).add_one();
    }

    // ---- incoming connections --------------------------------------------------------------------

    /// Reports that the process may not have enough descriptors for the connections of the
    /// configuration.
    pub(crate) fn few_descriptors(&self, configured: usize, limit: usize) {
        tracing::warn!(
            configured,
            limit,
            "max_connections lowered to what the descriptor limit of the process leaves"
        );
    }

    pub(crate) fn accepted(&self) {
        self.counters.accepted.add_one();
    }

    pub(crate) fn turned_away(&self, from: SocketAddr) {
        self.counters.turned_away.add_one();
        tracing::debug!(%from, "turned away, too many connections");
    }

    pub(crate) fn cannot_accept(&self, err: &io::Error, wait: Duration) {
        self.counters.accept_stalls.add_one();
        tracing::warn!(%err, ?wait, "cannot accept");
    }

    // ---- the transport's own actors --------------------------------------------------------------

    pub(crate) fn restarted(&self, component: Component) {
        self.counters.restarts.add_one();
        tracing::warn!(%component, "ended unexpectedly, started again");
        self.subscribers.tell(&PeerEvent::Restarted { component });
    }

    pub(crate) fn failed(&self, component: Component) {
        tracing::error!(%component, "ended unexpectedly too often, paused");
        self.subscribers.tell(&PeerEvent::Failed { component });
    }
}
