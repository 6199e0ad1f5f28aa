//! [`PeerTable`]: the peers that are known, those that are leaving, and the counts of those that are gone.
//!
//! `peers` locks it, and decides when a peer is made or forgotten.

use std::collections::HashMap;

use crate::{net::time, observe::stats::SendStats, peer_addr::PeerAddr, send::peer::Peer};

#[derive(Default)]
pub(super) struct PeerTable {
    pub(super) peers: HashMap<PeerAddr, Peer>,
    /// The peers that were forgotten while somebody held a handle or a frame was being written. Their counts
    /// may still change. There are as many as handles that users keep, and for a moment those whose link
    /// is ending.
    leaving: Vec<Peer>,
    /// The sums over all others that were forgotten.
    forgotten: SendStats,
    pub(super) stopped: bool,
}

impl PeerTable {
    /// Returns the sums over all peers, those that are leaving or gone included.
    pub(super) fn stats(&self) -> SendStats {
        let mut sum = self.forgotten;
        for peer in self.peers.values().chain(&self.leaving) {
            sum += peer.state.queue.stats();
        }
        sum
    }

    /// Forgets the most dispensable peer, and drops the frames that wait for it. Its writer ends and
    /// reports them. Returns the payloads of these frames, or `None` if every peer is needed.
    pub(super) fn make_room(&mut self) -> Option<impl Sized + use<>> {
        let now = time::now();
        // Nobody is about to send to a peer whose only handle is in the table.
        let only_here = self.peers.values().filter(|peer| peer.is_only_handle());
        let dispensable = only_here.filter_map(|peer| Some((peer.state.dispensable(now)?, peer)));
        let (_, peer) = dispensable.max_by_key(|(dispensable, _)| *dispensable)?;
        let addr = peer.addr().clone();
        self.forget(&addr)
    }

    /// Forgets a peer, and drops the frames that wait for it. Its writer ends and reports them. Returns their
    /// payloads: the caller must drop them without holding a lock, because that runs foreign code.
    pub(super) fn forget(&mut self, addr: &PeerAddr) -> Option<impl Sized + use<>> {
        let peer = self.peers.remove(addr)?;
        let payloads = peer.state.queue.abandon();
        peer.state.retire();
        peer.state.forgotten.cancel();
        self.leaving.push(peer);
        self.settle();
        Some(payloads)
    }

    /// Adds up the counts of the peers that are leaving and have come to their end: nobody can send to them,
    /// and all their frames have found their end.
    pub(super) fn settle(&mut self) {
        let forgotten = &mut self.forgotten;
        self.leaving.retain(|peer| {
            let has_ended = peer.is_only_handle() && peer.state.queue.left().is_zero();
            if has_ended {
                *forgotten += peer.state.queue.stats();
            }
            !has_ended
        });
    }

    /// Removes a peer that nobody holds and whose frames have all found their end, and keeps its counts.
    pub(super) fn remove(&mut self, addr: &PeerAddr) {
        if let Some(peer) = self.peers.remove(addr) {
            peer.state.retire();
            self.leaving.push(peer);
        }
        self.settle();
    }
}
