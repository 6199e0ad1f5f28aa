//! What happens to links, connections and actors: counted, logged and told to the subscribers, in one
//! place. Other files log only what is neither counted nor told, below the level `info`.
//!
//! Losses are warnings. The first of each kind gets a line at once; those that follow are added up, and
//! the sum gets a line ten seconds later at the earliest (see `quiet_log`).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tracing::{Instrument, Level, field::display};

#[cfg(feature = "tls")]
use crate::tls_error::TlsError;
use crate::{
    error::Refusal,
    ids::{GroupId, Incarnation, NodeId},
    lane::{Lane, PeerLane},
    net::{clock::CoarseInstant, names::NameError, time::SystemTime, tls::Certificate},
    observe::{
        event::{Component, DownReason, PeerEvent},
        link_counters::LinkCounters,
        link_end::{LinkEnd, Shown, shown},
        quiet_log::{Cause, Kind, Place, QuietLog},
        stats::{DropReason, Dropped, LinkStats, Receipt},
        subscribers::Subscribers,
    },
    peer_addr::PeerAddr,
    wire::{control::refused::RefusedReason, count::Count},
};

/// A handle to report to. Cheap to clone; one set of counters and subscribers for each transport.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter {
    counters: Arc<LinkCounters>,
    quiet_log: Arc<QuietLog>,
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

    pub(crate) fn link_up(&self, end: &LinkEnd, epoch: u64) {
        self.counters.connects.add_one();
        let (peer, lane, addr, node) = end.fields();
        tracing::info!(%peer, lane, addr, node, epoch, "up");
        self.subscribers.tell(&PeerEvent::Up {
            peer: peer.clone(),
            lane: end.to.lane,
            addr: end.addr,
            node: end.node,
            epoch,
        });
        self.certified(peer, end.addr, end.node, end.certificate.clone());
    }

    /// Reports the certificate that a node has shown, if there is one.
    pub(crate) fn certified(
        &self,
        peer: &PeerAddr,
        addr: SocketAddr,
        node: Option<NodeId>,
        certificate: Option<Arc<Certificate>>,
    ) {
        #[cfg(feature = "tls")]
        if let Some(certificate) = certificate {
            self.subscribers.tell(&PeerEvent::Certified {
                peer: peer.clone(),
                addr,
                node,
                certificate,
            });
        }
        #[cfg(not(feature = "tls"))]
        let _ = (peer, addr, node, certificate);
    }

    /// Runs the work of a link. What is logged meanwhile carries the link's fields.
    pub(crate) fn on_link<F: Future>(
        &self,
        end: &LinkEnd,
        epoch: u64,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let (peer, lane, addr, node) = end.fields();
        work.instrument(tracing::info_span!("link", %peer, lane, addr, node, epoch))
    }

    /// Reports the end of a link, and what is known of the frames that were written on it.
    pub(crate) fn link_down(
        &self,
        end: &LinkEnd,
        epoch: u64,
        reason: DownReason,
        receipt: Option<Receipt>,
    ) {
        self.counters.disconnects.add_one();
        let (peer, lane, addr, node) = end.fields();
        let confirmed = receipt.map(|receipt| receipt.confirmed.frames);
        let in_doubt = receipt.map(|receipt| receipt.in_doubt.frames);
        tracing::info!(%peer, lane, addr, node, epoch, %reason, confirmed, in_doubt, "down");
        self.link_ended(end, epoch, reason, receipt);
    }

    /// Reports a connection on which no frame may be sent.
    pub(crate) fn link_refused(&self, end: &LinkEnd, epoch: u64, reason: RefusedReason) {
        self.link_ended(end, epoch, DownReason::Refused(reason), None);
    }

    fn link_ended(&self, end: &LinkEnd, epoch: u64, reason: DownReason, receipt: Option<Receipt>) {
        let (peer, lane, addr, node) = end.fields();
        if let DownReason::Refused(reason) = reason {
            self.counters.links_refused.add_one();
            let place = Place::To(Some(end.to.clone()));
            match self.is_news(place, Cause::Refused, Count::ZERO) {
                Some(_) => tracing::warn!(%peer, lane, addr, node, epoch, %reason, "refused"),
                None => tracing::debug!(%peer, lane, addr, node, epoch, %reason, "refused"),
            }
        }
        self.subscribers.tell(&PeerEvent::Down {
            peer: peer.clone(),
            lane: end.to.lane,
            addr: end.addr,
            node: end.node,
            epoch,
            reason,
            receipt,
        });
    }

    pub(crate) fn unreachable(
        &self,
        to: &PeerLane,
        since: SystemTime,
        failures: u32,
        err: &io::Error,
        name: Option<NameError>,
    ) {
        let (peer, lane) = (&to.peer, shown(to.lane));
        let place = Place::To(Some(to.clone()));
        match self.is_news(place, Cause::Unreachable, Count::ZERO) {
            Some(_) => tracing::warn!(%peer, lane, failures, %err, "unreachable"),
            None => tracing::debug!(%peer, lane, failures, %err, "unreachable"),
        }
        self.subscribers.tell(&PeerEvent::Unreachable {
            peer: peer.clone(),
            lane: to.lane,
            since,
            failures,
            error: err.kind(),
            name,
        });
    }

    // ---- frames ----------------------------------------------------------------------------------

    /// Reports a send that was refused: to `peer`, or as a datagram if `None`. Only the log hears of it,
    /// as the sender has the payload back.
    #[cold]
    pub(crate) fn refused(&self, to: Option<&PeerLane>, refusal: Refusal, count: Count) {
        let cause = match refusal {
            Refusal::Full(limit) => Cause::Full(limit),
            Refusal::TooManyPeers { .. } => Cause::TooManyPeers,
            // Not logged: the caller made a mistake, or the transport is stopping. Neither means that
            // there is too much to send.
            Refusal::TooLarge { .. }
            | Refusal::Stopped
            | Refusal::Forgotten
            | Refusal::ReservedGroup
            | Refusal::Address(_)
            | Refusal::NoDatagrams => return,
        };
        if let Some(Count { frames, bytes }) = self.is_news(Place::To(to.cloned()), cause, count) {
            let (peer, lane) = names(to);
            let reason = refusal.with(());
            tracing::warn!(peer, lane, %reason, frames, bytes, "refused frames");
        }
    }

    /// Reports accepted frames that were dropped: those `to` a peer, or datagrams if `None`.
    pub(crate) fn dropped(&self, to: Option<&PeerLane>, dropped: &Dropped) {
        for (reason, count) in dropped.by_reason() {
            // Who sends the newest value wants the older one to go, and a message that is not whole is sent again.
            let is_loss = !matches!(
                reason,
                DropReason::Replaced | DropReason::Incomplete | DropReason::Withdrawn
            );
            if count.is_zero() || !is_loss {
                continue;
            }
            let news = self.is_news(Place::To(to.cloned()), Cause::Dropped(reason), count);
            if let Some(Count { frames, bytes }) = news {
                let (peer, lane) = names(to);
                tracing::warn!(peer, lane, %reason, frames, bytes, "dropped frames");
            }
        }
        self.subscribers.tell_dropped(to, dropped);
    }

    /// Reports received frames that reached no handler. `group` is `None` if they are of several.
    pub(crate) fn undelivered(
        &self,
        from: SocketAddr,
        group: Option<GroupId>,
        reason: DropReason,
        count: Count,
    ) {
        let place = Place::From(from.ip(), group);
        if let Some(Count { frames, bytes }) = self.is_news(place, Cause::Dropped(reason), count) {
            let group = group.map(display);
            tracing::warn!(peer = %from, group, %reason, frames, bytes, "dropped received frames");
        }
        let subscribers = &self.subscribers;
        subscribers.tell_undelivered(from, group, reason, count);
    }

    pub(crate) fn datagram_failed(&self, err: &io::Error) {
        self.counters.datagram_error(err).add_one();
    }

    /// Reports how many datagrams the kernel has dropped lately because nobody read them in time.
    pub(crate) fn datagrams_lost(&self, lost: u32) {
        if lost > 0 {
            self.counters.datagrams_lost.add(lost.into());
            tracing::warn!(lost, "the system had no room for datagrams");
        }
    }

    /// Reports that the system cannot give us the socket of datagrams now.
    pub(crate) fn no_datagrams(&self, err: &io::Error, wait: Duration) {
        self.counters.datagram_stalls.add_one();
        tracing::warn!(%err, ?wait, "cannot send or receive datagrams");
    }

    // ---- incoming connections --------------------------------------------------------------------

    /// Reports that the process may not have enough descriptors for the connections of the
    /// configuration.
    pub(crate) fn few_descriptors(&self, configured: usize, limit: usize) {
        tracing::info!(
            configured,
            limit,
            "max_connections lowered to what the descriptor limit of the process leaves"
        );
    }

    pub(crate) fn accepted(&self) {
        self.counters.accepted.add_one();
    }

    /// Runs the work of a connection. What is logged meanwhile carries the connection's fields.
    pub(crate) fn on_connection<F: Future>(
        &self,
        from: SocketAddr,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(tracing::info_span!("connection", %from))
    }

    pub(crate) fn turned_away(&self, from: SocketAddr) {
        self.counters.turned_away.add_one();
        if self.is_news_of(from.ip(), Cause::TurnedAway) {
            tracing::warn!(%from, "turned away, too many connections");
        }
    }

    pub(crate) fn cannot_accept(&self, addr: SocketAddr, err: &io::Error, wait: Duration) {
        self.counters.accept_stalls.add_one();
        tracing::warn!(%addr, %err, ?wait, "cannot accept");
        self.subscribers.tell(&PeerEvent::NotAccepting {
            addr,
            error: err.kind(),
        });
    }

    pub(crate) fn bound_again(&self, addr: SocketAddr) {
        self.counters.rebinds.add_one();
        tracing::warn!(%addr, "listening socket was broken, bound again");
        self.subscribers.tell(&PeerEvent::Rebound { addr });
    }

    /// Reports a connection that was lost before anything was read from it; `from` if that is known.
    pub(crate) fn lost_early(&self, from: Option<SocketAddr>, err: &io::Error) {
        let from = from.map(display);
        tracing::debug!(from, %err, "connection was lost before it was read");
    }

    /// Reports a connection that is closed because its bytes are not a frame.
    pub(crate) fn malformed(&self, from: SocketAddr, length: u32) {
        /// The first byte of TLS.
        const TLS: u32 = 0x16;

        if self.is_news_of(from.ip(), Cause::Malformed) {
            let hint = (length >> 24 == TLS).then_some("it begins as TLS does");
            tracing::warn!(%from, length, hint, "not a frame, connection closed");
        }
    }

    /// Reports a connection that is closed because a frame was not complete in time.
    pub(crate) fn timed_out(&self, from: SocketAddr) {
        if self.is_news_of(from.ip(), Cause::TimedOut) {
            tracing::warn!(%from, "a frame did not complete in time, connection closed");
        }
    }

    /// Reports a connection whose node was refused, or is out of date by now.
    pub(crate) fn refusal(&self, from: SocketAddr, reason: RefusedReason) {
        self.counters.refusals.add_one();
        if self.is_news_of(from.ip(), Cause::Refused) {
            tracing::warn!(%from, %reason, "node refused, connection closed");
        }
    }

    /// Reports that other keys are in use.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_reloaded(&self, certificate: &Arc<Certificate>) {
        tracing::info!(%certificate, "tls keys changed");
        let certificate = certificate.clone();
        self.subscribers
            .tell(&PeerEvent::TlsReloaded { certificate });
    }

    /// Reports that the files with the keys cannot be used.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_not_reloaded(&self, error: TlsError) {
        tracing::warn!(%error, "tls keys not changed");
        self.subscribers.tell(&PeerEvent::TlsNotReloaded { error });
    }

    /// Reports that the certificate of this node expires soon.
    #[cfg(feature = "tls")]
    pub(crate) fn expires_soon(&self, certificate: &Arc<Certificate>) {
        tracing::warn!(%certificate, "the certificate has expired, or will soon");
        let certificate = certificate.clone();
        self.subscribers
            .tell(&PeerEvent::CertificateExpires { certificate });
    }

    /// Reports that the certificate of a node is not accepted any more.
    pub(crate) fn untrusted(&self, from: SocketAddr) {
        if self.is_news_of(from.ip(), Cause::Refused) {
            tracing::warn!(%from, "not accepted any more by the TLS keys in use, connection closed");
        }
    }

    /// Reports that a node has introduced itself.
    pub(crate) fn heard(&self, node: NodeId, incarnation: Incarnation, addr: PeerAddr) {
        self.counters.heard.add_one();
        tracing::debug!(%node, %incarnation, %addr, "heard");
        self.subscribers.tell(&PeerEvent::Heard {
            node,
            incarnation,
            addr,
        });
    }

    /// Reports that a node has said that it stops.
    pub(crate) fn goodbye(&self, node: NodeId, incarnation: Incarnation) {
        self.counters.goodbyes.add_one();
        tracing::info!(%node, %incarnation, "goodbye");
        self.subscribers
            .tell(&PeerEvent::Goodbye { node, incarnation });
    }

    /// Reports frames of a node that will not come.
    pub(crate) fn gap(
        &self,
        (node, incarnation): (NodeId, Incarnation),
        lane: Lane,
        from: SocketAddr,
        lost: u64,
    ) {
        self.counters.gaps.add_one();
        let frames = Count {
            // Bounded for the sums of the log, because a node can make up any number.
            frames: lost.min(1 << 40),
            bytes: 0,
        };
        let place = Place::From(from.ip(), None);
        if let Some(Count { frames, .. }) = self.is_news(place, Cause::Gap, frames) {
            tracing::warn!(%node, %incarnation, %lane, %from, frames, "frames are missing");
        }
        self.subscribers.tell(&PeerEvent::Gap {
            node,
            incarnation,
            lane,
            from,
            lost,
        });
    }

    /// Reports a connection that is closed because the other end does not introduce itself as it should.
    pub(crate) fn bad_handshake(&self, from: SocketAddr, problem: &dyn std::fmt::Display) {
        self.counters.bad_handshakes.add_one();
        if self.is_news_of(from.ip(), Cause::BadHandshake) {
            tracing::warn!(%from, %problem, "bad handshake, connection closed");
        }
    }

    /// Reports a connection that the peer closed, or that failed.
    pub(crate) fn connection_ended(&self, from: SocketAddr, err: Option<&io::Error>) {
        let err = err.map(display);
        tracing::debug!(%from, err, "connection ended");
    }

    // ---- the transport's own actors --------------------------------------------------------------

    pub(crate) fn restarted(&self, component: &Component) {
        self.counters.restarts.add_one();
        tracing::warn!(%component, "ended unexpectedly, started again");
        self.subscribers.tell(&PeerEvent::Restarted {
            component: component.clone(),
        });
    }

    pub(crate) fn failed(&self, component: &Component) {
        tracing::error!(%component, "ended unexpectedly too often, paused");
        self.subscribers.tell(&PeerEvent::Failed {
            component: component.clone(),
        });
    }

    // ---- the log ---------------------------------------------------------------------------------

    /// Returns what to log of a loss now, if anything. Costs next to nothing while nobody listens.
    fn is_news(&self, place: Place, cause: Cause, count: Count) -> Option<Count> {
        if !tracing::enabled!(Level::WARN) {
            return None;
        }
        let kind = Kind { place, cause };
        self.quiet_log.note(kind, count, CoarseInstant::now())
    }

    /// Returns whether to log the loss of a connection from this machine now.
    fn is_news_of(&self, from: IpAddr, cause: Cause) -> bool {
        let place = Place::From(from, None);
        self.is_news(place, cause, Count::ZERO).is_some()
    }
}

/// Returns what a line of the log says of where frames go.
fn names(to: Option<&PeerLane>) -> (Shown<&PeerAddr>, Shown<Lane>) {
    let lane = to.and_then(|to| shown(to.lane));
    (to.map(|to| display(&to.peer)), lane)
}
