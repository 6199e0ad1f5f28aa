//! [`PeerTable`]: which peers are known, and which one is forgotten when there is no room for another.

use std::collections::HashMap;

use crate::{net::time, observe::stats::SendStats, peer_addr::PeerAddr, send::peer::Peer};

/// The peers, under the lock of [`Peers`](super::peers::Peers).
#[derive(Default)]
pub(super) struct PeerTable {
    pub(super) peers: HashMap<PeerAddr, Peer>,
    /// The peers that were forgotten while somebody held a handle or a frame was being written. Their counts
    /// may still change.
    pub(super) leaving: Vec<Peer>,
    /// The sums over all others that were forgotten.
    pub(super) forgotten: SendStats,
    pub(super) stopped: bool,
}

impl PeerTable {
    /// Forgets the most dispensable peer, and drops the frames that wait for it. Its writer ends and
    /// reports them. Returns the payloads of these frames, or `None` if every peer is needed.
    pub(super) fn make_room(&mut self) -> Option<impl Sized + use<>> {
        let now = time::now();
        // As in `forget`, nobody is about to send to a peer whose only handle is in the table.
        let only_here = self.peers.values().filter(|peer| peer.is_only_handle());
        let dispensable = only_here.filter_map(|peer| Some((peer.state.dispensable(now)?, peer)));
        let (_, peer) = dispensable.max_by_key(|(dispensable, _)| *dispensable)?;
        let payloads = peer.state.queue.abandon();
        peer.state.forgotten.cancel();
        let addr = peer.addr().clone();
        self.remove(&addr);
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

    /// Removes a peer whose frames have all found their end, and keeps its counts.
    pub(super) fn remove(&mut self, addr: &PeerAddr) {
        if let Some(peer) = self.peers.remove(addr) {
            self.forgotten += peer.state.queue.stats();
        }
    }
}
