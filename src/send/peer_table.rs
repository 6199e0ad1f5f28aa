//! [`PeerTable`]: the peers that are known, those that are leaving, and the counts of those that are gone.
//!
//! `peers` locks it, and decides when a peer is made or forgotten. A peer is known as long as one of its lanes
//! is. Each lane comes and goes by itself, but all of them go when their peer is forgotten.

use std::{collections::HashMap, sync::Arc};

use crate::{
    lane::Lane,
    net::time::{self, Instant},
    observe::stats::SendStats,
    peer_addr::PeerAddr,
    send::{
        peer::Peer,
        peer_state::{Dispensable, PeerState},
    },
};

#[derive(Default)]
pub(super) struct PeerTable {
    peers: HashMap<PeerAddr, Lanes>,
    /// The lanes that were forgotten while somebody held a handle or a frame was being written. Their counts
    /// may still change. There are as many as handles that users keep, and for a moment those whose link
    /// is ending.
    leaving: Vec<Peer>,
    /// The sums over all others that were forgotten, by lane.
    forgotten: [SendStats; Lane::COUNT],
    pub(super) stopped: bool,
}

/// The lanes of one peer that are in use: at least one.
struct Lanes(Vec<Peer>);

impl Lanes {
    fn get(&self, lane: Lane) -> Option<&Peer> {
        self.0.iter().find(|peer| peer.state.to.lane == lane)
    }

    /// Returns how dispensable the peer is: as little as the least dispensable of its lanes.
    fn dispensable(&self, now: Instant) -> Option<Dispensable> {
        let of_lane = |peer: &Peer| match peer.is_only_handle() {
            // Nobody is about to send where the only handle is in the table.
            true => peer.state.dispensable(now),
            false => None,
        };
        let each: Option<Vec<_>> = self.0.iter().map(of_lane).collect();
        each?.into_iter().min()
    }
}

impl PeerTable {
    /// Returns how many peers are known.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn knows(&self, addr: &PeerAddr) -> bool {
        self.peers.contains_key(addr)
    }

    pub(super) fn get(&self, addr: &PeerAddr, lane: Lane) -> Option<&Peer> {
        self.peers.get(addr)?.get(lane)
    }

    /// Returns whether this lane is in use, and not one of a peer that had the same address before.
    pub(super) fn has(&self, lane: &Arc<PeerState>) -> bool {
        let known = self.get(lane.addr(), lane.to.lane);
        known.is_some_and(|known| Arc::ptr_eq(&known.state, lane))
    }

    /// Returns the lanes of a peer.
    pub(super) fn lanes(&self, addr: &PeerAddr) -> impl Iterator<Item = &Peer> {
        self.peers.get(addr).into_iter().flat_map(|lanes| &lanes.0)
    }

    /// Returns all lanes of all peers.
    pub(super) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().flat_map(|lanes| &lanes.0)
    }

    /// Adds a lane that is not in use.
    pub(super) fn add(&mut self, peer: Peer) {
        let lanes = self.peers.entry(peer.addr().clone());
        lanes.or_insert(Lanes(Vec::new())).0.push(peer);
    }

    /// Returns the sums over all peers by lane, those that are leaving or gone included.
    pub(super) fn stats(&self) -> [SendStats; Lane::COUNT] {
        let mut sums = self.forgotten;
        for peer in self.all().chain(&self.leaving) {
            sums[peer.state.to.lane.index()] += peer.state.queue.stats();
        }
        sums
    }

    /// Forgets the most dispensable peer, and drops the frames that wait for it. Its writers end and
    /// report them. Returns the payloads of these frames, or `None` if every peer is needed.
    pub(super) fn make_room(&mut self) -> Option<impl Sized + use<>> {
        let now = time::now();
        let peers = self.peers.iter();
        let dispensable = peers.filter_map(|(addr, lanes)| Some((lanes.dispensable(now)?, addr)));
        let (_, addr) = dispensable.max_by_key(|(dispensable, _)| *dispensable)?;
        let addr = addr.clone();
        Some(self.forget(&addr))
    }

    /// Forgets a peer, and drops the frames that wait for it. Its writers end and report them. Returns their
    /// payloads: the caller must drop them without holding a lock, because that runs foreign code.
    pub(super) fn forget(&mut self, addr: &PeerAddr) -> impl Sized + use<> {
        let lanes = self.peers.remove(addr).map(|lanes| lanes.0);
        let forget = |peer| self.let_go(peer);
        let payloads: Vec<_> = lanes.into_iter().flatten().map(forget).collect();
        self.settle();
        payloads
    }

    /// Drops the frames of a lane that is not in the table, or not any more, and lets none in. Its counts stay.
    /// Returns the payloads, to be dropped without holding a lock.
    pub(super) fn let_go(&mut self, peer: Peer) -> impl Sized + use<> {
        let payloads = peer.state.queue.abandon();
        peer.state.retire();
        peer.state.forgotten.cancel();
        self.leaving.push(peer);
        payloads
    }

    /// Adds up the counts of the lanes that are leaving and have come to their end: nobody can send on them,
    /// and all their frames have found their end.
    pub(super) fn settle(&mut self) {
        let forgotten = &mut self.forgotten;
        self.leaving.retain(|peer| {
            let has_ended = peer.is_only_handle() && peer.state.queue.left().is_zero();
            if has_ended {
                forgotten[peer.state.to.lane.index()] += peer.state.queue.stats();
            }
            !has_ended
        });
    }

    /// Removes a lane that nobody holds and whose frames have all found their end, and keeps its counts.
    pub(super) fn remove(&mut self, lane: &PeerState) {
        if let Some(lanes) = self.peers.get_mut(lane.addr()) {
            let is_it = |peer: &mut Peer| peer.state.to.lane == lane.to.lane;
            for peer in lanes.0.extract_if(.., is_it) {
                peer.state.retire();
                self.leaving.push(peer);
            }
            if lanes.0.is_empty() {
                self.peers.remove(lane.addr());
            }
        }
        self.settle();
    }
}
