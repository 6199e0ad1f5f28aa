//! The peers of a transport: which are known, and when one is forgotten.
//!
//! The first send to an address, or the first look-up, creates the peer and starts its writer on the
//! writing arbiter that has the fewest peers. An idle peer that nobody holds a handle to is forgotten. If
//! there are as many peers as allowed, a peer without a link is forgotten for each new one. A peer that its
//! user forgets goes at once, and whoever holds a handle to it cannot send any more. The counts of forgotten
//! peers are added up, so that the totals lose nothing.
//!
//! The task of a peer ([`KeepWriting`]) waits for frames while no writer lives, and its `PeerWriter` waits
//! for frames otherwise. Each leaves its waker in the queue as the doorbell; they never wait at the same
//! time.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::{NoPeer, Refusal, SendError},
    ids::GroupId,
    net::{
        addr,
        time::{self, sleep, timeout},
    },
    observe::{
        event::Component,
        stats::{PeerStats, Rejected, SendStats},
    },
    peer_addr::PeerAddr,
    runtime::{arbiters::Arbiters, load_counter::least_loaded, supervision::Supervisor},
    send::{
        direct_write::{DirectWrite, LastDirectWrite},
        peer::Peer,
        peer_state::{ForgetPeer, PeerState},
        peer_table::PeerTable,
        queue::{CloseOnDrop, Limits},
        writer::PeerWriter,
        writer_context::WriterContext,
    },
    wire::{count::Count, frame::HEADER, payload::Payload},
};

/// All peers of one transport.
pub(crate) struct Peers {
    table: RwLock<PeerTable>,
    /// Sends for which no peer could be made: offered, and rejected by reason.
    rejected: Mutex<(Count, Rejected)>,
    context: WriterContext,
    supervisor: Supervisor,
    arbiters: Arc<Arbiters>,
    last_direct_write: Arc<LastDirectWrite>,
    /// For the tasks of the peers. Weak, so that these tasks do not keep `Peers` alive.
    this: Weak<Peers>,
}

impl Peers {
    pub(crate) fn new(
        context: WriterContext,
        supervisor: Supervisor,
        arbiters: Arc<Arbiters>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Peers {
            table: RwLock::default(),
            rejected: Mutex::default(),
            context,
            supervisor,
            arbiters,
            last_direct_write: Arc::new(LastDirectWrite::new(time::now())),
            this: this.clone(),
        })
    }

    // ---- sending -----------------------------------------------------------------------------------

    pub(crate) fn try_send<P: Payload>(
        &self,
        to: &PeerAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        match self.get(to) {
            Ok(peer) => peer.try_send(group, payload),
            Err(why) => Err(self.reject(to, why.into(), payload)),
        }
    }

    pub(crate) async fn send<P: Payload>(
        &self,
        to: &PeerAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        match self.get(to) {
            Ok(peer) => peer.send(group, payload).await,
            Err(why) => Err(self.reject(to, why.into(), payload)),
        }
    }

    /// Counts a send for which there is no queue.
    fn reject<P: Payload>(&self, to: &PeerAddr, refusal: Refusal, payload: P) -> SendError<P> {
        let frame = Count::one(HEADER + payload.byte_len());
        let mut rejected = self.rejected.lock();
        rejected.0 += frame;
        rejected.1.count(refusal, frame);
        drop(rejected);
        self.context.reporter.refused(Some(to), refusal, frame);
        refusal.with(payload)
    }

    // ---- a peer's life: made, written to, forgotten ------------------------------------------------

    /// Returns the peer. Makes it if it is not known.
    pub(crate) fn get(&self, addr: &PeerAddr) -> Result<Peer, NoPeer> {
        if let Some(peer) = self.table.read().peers.get(addr) {
            return Ok(peer.clone());
        }
        if let Some(addr) = addr.ip_addr().filter(|addr| !addr::is_usable(*addr)) {
            return Err(NoPeer::Address(addr));
        }
        // Dropped when the lock is released, because it holds payloads, whose drop is foreign code.
        let _payloads;
        let mut table = self.table.write();
        if table.stopped {
            return Err(NoPeer::Stopped);
        }
        if let Some(peer) = table.peers.get(addr) {
            return Ok(peer.clone());
        }
        let max = self.context.config.max_peers;
        if table.peers.len() >= max {
            _payloads = table.make_room().ok_or(NoPeer::TooMany { max })?;
        }
        table.settle();
        let sessions = self.context.sessions.as_ref();
        let peer = Peer::new(Arc::new(PeerState::new(
            addr.clone(),
            sessions.and_then(|sessions| sessions.demand(addr).node),
            self.this.clone(),
            Limits::of_peer(&self.context.config),
            DirectWrite::new(
                self.last_direct_write.clone(),
                self.context.failpoints.clone(),
            ),
            self.context.reporter.clone(),
        )));
        if !self.start_writing(&peer.state) {
            return Err(NoPeer::Stopped);
        }
        table.peers.insert(addr.clone(), peer.clone());
        Ok(peer)
    }

    /// Starts the task that keeps the peer's writer alive. Returns false if the arbiters are gone.
    fn start_writing(&self, peer: &Arc<PeerState>) -> bool {
        let writers = &self.arbiters.writers;
        let Some(worker) = least_loaded(writers, |worker| &worker.load) else {
            return false;
        };
        let load = worker.load.add();
        let writing = KeepWriting {
            peers: self.this.clone(),
            context: self.context.clone(),
            supervisor: self.supervisor.clone(),
            // Closes the queue when the arbiter ends, even if the task has not started by then.
            _close_queue: CloseOnDrop::new(peer.queue.clone()),
            peer: peer.clone(),
        };
        worker.spawn(move || async move {
            let _load = load;
            writing.run().await;
        })
    }

    /// Forgets the peer if nobody holds a handle to it and its queue is empty. Otherwise returns false.
    ///
    /// Under this lock nobody can get a new handle, so nobody can be about to send to the peer.
    fn forget(&self, state: &Arc<PeerState>) -> bool {
        let mut table = self.table.write();
        let known = table.peers.get(&state.addr);
        // It may have been forgotten, and its address may have become a new peer since.
        let Some(peer) = known.filter(|peer| Arc::ptr_eq(&peer.state, state)) else {
            return true;
        };
        if !peer.is_only_handle() || !peer.state.queue.left().is_zero() {
            return false;
        }
        // Somebody asked for a link before they dropped their handle.
        if peer.state.needs_link() {
            return false;
        }
        table.remove(&state.addr);
        true
    }

    // ---- statistics --------------------------------------------------------------------------------

    pub(crate) fn len(&self) -> usize {
        self.table.read().peers.len()
    }

    /// Returns the sums over all peers, the forgotten ones included.
    pub(crate) fn stats(&self) -> SendStats {
        // Locked throughout, so that a peer that is forgotten meanwhile is neither missed nor counted
        // twice.
        let table = self.table.read();
        let mut sum = table.stats();
        let (offered, rejected) = *self.rejected.lock();
        sum.offered += offered;
        sum.rejected += rejected;
        sum
    }

    pub(crate) fn peer_stats(&self, addr: &PeerAddr) -> Option<PeerStats> {
        let table = self.table.read();
        Some(table.peers.get(addr)?.stats())
    }

    /// Returns the counters of all peers: those called by an ip, ordered by address, then those called by a
    /// name.
    pub(crate) fn all_stats(&self) -> Vec<PeerStats> {
        let table = self.table.read();
        let mut all: Vec<_> = table.peers.values().map(Peer::stats).collect();
        drop(table);
        all.sort_unstable_by(|one, other| one.peer.cmp(&other.peer));
        all
    }

    // ---- the end -----------------------------------------------------------------------------------

    /// Accepts no more frames. What is queued may still be written.
    pub(crate) fn seal(&self) {
        for peer in self.stop() {
            peer.state.queue.seal();
        }
    }

    /// Ends all queues.
    pub(crate) fn close(&self) {
        for peer in self.stop() {
            peer.state.queue.close();
        }
    }

    /// Waits until nothing is queued or in flight.
    pub(crate) async fn drained(&self) {
        for peer in self.stop() {
            peer.state.queue.drained().await;
        }
    }

    /// Reports what was dropped when the queues ended. Returns it by peer.
    pub(crate) fn undelivered(&self) -> Vec<(PeerAddr, Count)> {
        let peers = self.stop().into_iter();
        let left = peers.map(|peer| {
            peer.state.report_dropped(&peer.state.queue.take_untold());
            (
                peer.addr().clone(),
                peer.state.queue.stats().dropped.stopped,
            )
        });
        left.filter(|(_, left)| !left.is_zero()).collect()
    }

    /// Makes no more peers. Returns those that are known.
    fn stop(&self) -> Vec<Peer> {
        let mut table = self.table.write();
        table.stopped = true;
        table.peers.values().cloned().collect()
    }
}

impl ForgetPeer for Peers {
    fn forget_now(&self, peer: &Arc<PeerState>) {
        // Dropped when the lock is released, because it holds payloads, whose drop is foreign code.
        let _payloads;
        let mut table = self.table.write();
        let known = table.peers.get(&peer.addr);
        if !known.is_some_and(|known| Arc::ptr_eq(&known.state, peer)) {
            return;
        }
        _payloads = table.forget(&peer.addr);
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The task of one peer, from when it is made to when it is forgotten.
struct KeepWriting {
    peers: Weak<Peers>,
    context: WriterContext,
    supervisor: Supervisor,
    peer: Arc<PeerState>,
    _close_queue: CloseOnDrop,
}

impl KeepWriting {
    /// Keeps a writer alive whenever there is something to write, until the peer is forgotten or the
    /// transport ends.
    async fn run(self) {
        let KeepWriting { context, peer, .. } = &self;
        let component = || Component::PeerWriter(peer.addr.clone());
        let start = |lifeline| PeerWriter::start(context.clone(), peer.clone(), lifeline);
        // Frames also go stale between two lives of the writer. Dropping them runs foreign code, hence
        // the task of its own.
        let pause = |wait| {
            let peer = peer.clone();
            let expiring = async move { peer.expire_while(sleep(wait)).await };
            let expiring = AbortOnDropHandle::new(actix_rt::spawn(expiring));
            async move { expiring.await.unwrap_or_default() }
        };
        let writing = async {
            loop {
                self.supervisor.keep_alive(component(), start, pause).await;
                // A peer whose queue has ended stays known, for the report of the stop.
                if peer.queue.is_done() || self.forgotten().await {
                    return;
                }
            }
        };
        let writing = peer.forgotten.run_until_cancelled(writing);
        context.lifecycle.run(writing).await;
        if peer.queue.is_done() {
            // If the peer was forgotten, its writer may still hold a batch, and gives it back.
            context.lifecycle.run(peer.queue.drained()).await;
        }
        peer.report_dropped(&peer.queue.take_untold());
        if let Some(peers) = self.peers.upgrade() {
            peers.table.write().settle();
        }
    }

    /// The writer has been idle and ended. Waits until there is something to write again. Returns true
    /// if the peer was forgotten instead, because nobody holds a handle to it.
    async fn forgotten(&self) -> bool {
        let idle_timeout = self.context.config.idle_timeout;
        loop {
            let Some(peers) = self.peers.upgrade() else {
                return true;
            };
            if peers.forget(&self.peer) {
                return true;
            }
            drop(peers);
            self.peer.queue.trim();
            if timeout(idle_timeout, self.peer.until_work()).await.is_ok() {
                return false;
            }
        }
    }
}
