//! The peers: who is known.
//!
//! Owns the table ip:port → [`Outbox`] and its cap. A peer is made by the first send to it, its
//! writer started on the writing arbiter that has fewest, and it is forgotten when it has been idle
//! and nobody holds a handle; its counts are then added to those of its predecessors, so that the
//! sums lose nothing.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};
use tokio::time::sleep;

use crate::{
    config::Config,
    error::{PeerError, Refusal, SendError},
    ids::GroupId,
    net,
    observe::event::Component,
    observe::stats::{PeerStats, Rejected, SendStats},
    runtime::arbiters::Pool,
    runtime::load_counter::least_loaded,
    runtime::shared::Shared,
    send::outbox::Outbox,
    send::peer::Peer,
    send::queue::{CHAIN_FROM, CloseOnDrop, Limits},
    send::writer::{PeerWriter, Retire},
    wire::count::Count,
    wire::frame::HEADER,
    wire::payload::Payload,
};

/// All peers of one transport.
pub(crate) struct Peers {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    table: RwLock<Table>,
    /// Sends that no peer was made for.
    refused: Mutex<(Count, Rejected)>,
    this: Weak<Peers>,
}

#[derive(Default)]
struct Table {
    peers: HashMap<SocketAddr, Peer>,
    /// What the forgotten ones counted.
    forgotten: SendStats,
    stopped: bool,
}

impl Peers {
    pub(crate) fn new(shared: Arc<Shared>, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new_cyclic(|this| Peers {
            shared,
            pool,
            table: RwLock::default(),
            refused: Mutex::default(),
            this: this.clone(),
        })
    }

    pub(crate) fn try_send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        match self.get(to) {
            Ok(peer) => peer.try_send(group, payload),
            Err(err) => Err(self.refuse(err.into(), payload)),
        }
    }

    pub(crate) async fn send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        match self.get(to) {
            Ok(peer) => peer.send(group, payload).await,
            Err(err) => Err(self.refuse(err.into(), payload)),
        }
    }

    /// Counts a send that came to no queue.
    fn refuse<P: Payload>(&self, refusal: Refusal, payload: P) -> SendError<P> {
        let frame = Count::one(HEADER + payload.as_ref().len());
        let mut refused = self.refused.lock();
        refused.0 += frame;
        refused.1.count(refusal, frame);
        drop(refused);
        refusal.with(payload)
    }

    /// Returns the peer, made now if it is not known.
    pub(crate) fn get(&self, addr: SocketAddr) -> Result<Peer, PeerError> {
        let addr = net::canonical(addr);
        if let Some(peer) = self.table.read().peers.get(&addr) {
            return Ok(peer.clone());
        }
        if !net::is_usable(addr) {
            return Err(PeerError::Address(addr));
        }
        let mut table = self.table.write();
        if table.stopped {
            return Err(PeerError::Stopped);
        }
        if let Some(peer) = table.peers.get(&addr) {
            return Ok(peer.clone());
        }
        let max = self.shared.config.max_peers;
        if table.peers.len() >= max {
            return Err(PeerError::TooMany { max });
        }
        let outbox = Arc::new(Outbox::new(addr, limits(&self.shared.config)));
        if !self.start_writer(&outbox) {
            return Err(PeerError::Stopped);
        }
        let peer = Peer::new(outbox);
        table.peers.insert(addr, peer.clone());
        Ok(peer)
    }

    /// Starts the peer's writer, and keeps it alive, where the fewest are.
    fn start_writer(&self, outbox: &Arc<Outbox>) -> bool {
        let Some(place) = least_loaded(&self.pool.writers, |place| &place.load) else {
            return false;
        };
        let carried = place.load.carry();
        let (shared, outbox) = (self.shared.clone(), outbox.clone());
        let peers = self.this.clone();
        // However this ends, with its arbiter perhaps and before it began, nobody writes any more.
        let end = CloseOnDrop::new(outbox.queue.clone());
        place.spawn(move || async move {
            let _carried = carried;
            let _end = end;
            let component = Component::PeerWriter(outbox.addr);
            let start = |lifeline| {
                let (peers, addr) = (peers.clone(), outbox.addr);
                let retire: Retire =
                    Box::new(move || peers.upgrade().is_none_or(|peers| peers.forget(addr)));
                PeerWriter::start(shared.clone(), outbox.clone(), retire, lifeline);
            };
            // Between two writers the frames go on ageing.
            let rest = |time| outbox.expiring(&shared, sleep(time));
            shared.keep_alive(component, start, rest).await;
        })
    }

    /// Forgets a peer that nobody can be about to send to; says whether it did.
    ///
    /// Under the lock nobody gets a new handle, so the one in the table being the only one means
    /// that nobody has one, and the queue being empty that nobody left anything.
    fn forget(&self, addr: SocketAddr) -> bool {
        let mut table = self.table.write();
        let Some(peer) = table.peers.get(&addr) else {
            return true;
        };
        if !peer.is_last() || !peer.outbox.queue.left().is_zero() {
            return false;
        }
        let counted = peer.outbox.queue.stats();
        table.forgotten += counted;
        table.peers.remove(&addr);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.table.read().peers.len()
    }

    /// Returns the sums over all peers there are and have been.
    pub(crate) fn stats(&self) -> SendStats {
        // Held throughout, so that no peer is forgotten between being summed and being a sum.
        let table = self.table.read();
        let mut sum = table.forgotten;
        for peer in table.peers.values() {
            sum += peer.outbox.queue.stats();
        }
        let (offered, rejected) = *self.refused.lock();
        sum.offered += offered;
        sum.rejected += rejected;
        sum
    }

    pub(crate) fn peer_stats(&self, addr: SocketAddr) -> Option<PeerStats> {
        let table = self.table.read();
        Some(table.peers.get(&net::canonical(addr))?.stats())
    }

    /// Lets nothing new in; what is queued may still go.
    pub(crate) fn seal(&self) {
        for peer in self.stop() {
            peer.outbox.queue.seal();
        }
    }

    /// Ends all queues.
    pub(crate) fn close(&self) {
        for peer in self.stop() {
            peer.outbox.queue.close();
        }
    }

    /// Says what was left when the queues ended, and tells the subscribers.
    pub(crate) fn undelivered(&self) -> Vec<(SocketAddr, Count)> {
        let peers = self.stop().into_iter();
        let left = peers.map(|peer| {
            peer.outbox.tell_dropped(&self.shared);
            (peer.addr(), peer.outbox.queue.stats().dropped.stopped)
        });
        left.filter(|(_, left)| !left.is_zero()).collect()
    }

    /// Waits until nothing is queued or in flight.
    pub(crate) async fn drained(&self) {
        for peer in self.stop() {
            peer.outbox.queue.drained().await;
        }
    }

    /// Makes no more peers and returns those there are.
    fn stop(&self) -> Vec<Peer> {
        let mut table = self.table.write();
        table.stopped = true;
        table.peers.values().cloned().collect()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        frames: config.queue_frames,
        bytes: config.queue_bytes,
        frame: config.max_frame,
        stale_after: config.stale_after,
        overflow: config.overflow,
        chain_from: CHAIN_FROM,
    }
}
