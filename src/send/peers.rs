//! The peers of a transport: which are known, and when one is forgotten.
//!
//! The first send to an address, or the first look-up, creates the peer and starts its writer on the
//! writing arbiter that has the fewest peers. An idle peer that nobody holds a handle to is forgotten. If
//! there are as many peers as allowed, a peer without a link is forgotten for each new one. A peer that its
//! user forgets goes at once, and whoever holds a handle to it cannot send any more. The counts of forgotten
//! peers are added up, so that the totals lose nothing.
//!
//! Each lane of a peer is a queue and a link of its own, made when it is used first. Each has a task of its own
//! ([`KeepWriting`]). The table itself is in `peer_table`.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock};

use crate::{
    error::{NoPeer, Refusal, SendError},
    ids::{GroupId, NodeId},
    lane::{Lane, PeerLane},
    net::{addr, time},
    observe::stats::{PeerStats, Rejected, SendStats},
    peer_addr::PeerAddr,
    runtime::{arbiters::Arbiters, load_counter::least_loaded, supervision::Supervisor},
    send::{
        direct_write::{DirectWrite, LastDirectWrite},
        keep_writing::KeepWriting,
        outgoing_stream::OutgoingStream,
        peer::Peer,
        peer_state::{Handle, KnownIn, PeerState},
        peer_table::PeerTable,
        queue::Limits,
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
    /// How many queues there have been.
    streams: AtomicU64,
    /// For the tasks of the peers. Weak, so that these tasks do not keep `Peers` alive.
    this: Weak<Peers>,
}

impl Peers {
    pub(crate) fn new(
        context: impl FnOnce(&Weak<Peers>) -> WriterContext,
        supervisor: Supervisor,
        arbiters: Arc<Arbiters>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Peers {
            table: RwLock::default(),
            rejected: Mutex::default(),
            context: context(this),
            streams: AtomicU64::new(0),
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
        let to = PeerLane::normal(to.clone());
        self.context.reporter.refused(Some(&to), refusal, frame);
        refusal.with(payload)
    }

    // ---- a peer's life: made, written to, forgotten ------------------------------------------------

    /// Returns the peer's normal lane. Makes it if it is not known.
    pub(crate) fn get(&self, addr: &PeerAddr) -> Result<Peer, NoPeer> {
        if let Some(peer) = self.table.read().get(addr, Lane::NORMAL) {
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
        if let Some(peer) = table.get(addr, Lane::NORMAL) {
            return Ok(peer.clone());
        }
        let max = self.context.config.max_peers;
        if !table.knows(addr) && table.len() >= max {
            _payloads = table.make_room().ok_or(NoPeer::TooMany { max })?;
        }
        table.settle();
        let peer = self.make(PeerLane::normal(addr.clone()));
        if !self.start_writing(&peer.state) {
            return Err(NoPeer::Stopped);
        }
        table.add(peer.clone());
        Ok(peer)
    }

    fn make(&self, to: PeerLane) -> Peer {
        let sessions = self.context.sessions.as_ref();
        let meant = sessions.and_then(|sessions| sessions.context.demand(&to.peer).node);
        let number = self.streams.fetch_add(1, Relaxed);
        let stream =
            OutgoingStream::new(number, to.lane, sessions.map(|parts| parts.context.clone()));
        let direct_write = DirectWrite::new(
            self.last_direct_write.clone(),
            self.context.failpoints.clone(),
        );
        Peer::new(Arc::new(PeerState::new(
            Limits::of_lane(&self.context.config, to.lane),
            to,
            meant,
            self.this.clone(),
            (stream, self.context.calls.of_lane(number)),
            direct_write,
            self.context.reporter.clone(),
        )))
    }

    /// Returns the peer that stands for a node, to answer it. `addr` is where the node says that it is.
    pub(crate) fn of_node(&self, node: NodeId, addr: &PeerAddr) -> Result<Peer, NoPeer> {
        let sessions = self.context.sessions.as_ref().map(|parts| &parts.context);
        let known = sessions.and_then(|sessions| sessions.peer(node));
        if let Some(peer) = known.and_then(|known| self.get(&known).ok())
            && peer.state.node().is_none_or(|met| met == node)
        {
            // A node may have moved. What its user said of it counts, and a name leads to where it is now.
            let is_said = peer.state.meant.is_some() || peer.addr().host().is_some();
            if is_said || peer.addr() == addr || !peer.state.is_unreachable() {
                peer.state.will_answer(node);
                return Ok(peer);
            }
        }
        let mut peer = self.get(addr)?;
        if peer.state.is_for_another_than(node) {
            // Anybody may say that it listens where another node does. It is answered on the connections that it makes.
            peer = self.get(&PeerAddr::of_node(node))?;
        } else if let Some(sessions) = sessions {
            sessions.set_peer(node, addr);
        }
        peer.state.will_answer(node);
        Ok(peer)
    }

    /// Notes that a node said Hello: its peer, or the one at the address that it names, is dialled now, or
    /// uses the new link.
    pub(crate) fn heard(&self, node: NodeId, addr: &PeerAddr) {
        let sessions = self.context.sessions.as_ref().map(|parts| &parts.context);
        let known = sessions.and_then(|sessions| sessions.peer(node));
        let table = self.table.read();
        for addr in [known.as_ref(), Some(addr)].into_iter().flatten() {
            for peer in table.lanes(addr) {
                peer.state.was_heard();
            }
        }
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
            peer: peer.clone(),
        };
        worker.spawn(move || async move {
            let _load = load;
            writing.run().await;
        })
    }

    // ---- statistics --------------------------------------------------------------------------------

    pub(crate) fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Returns the sums over all peers by lane, the forgotten ones included.
    pub(crate) fn stats(&self) -> [SendStats; Lane::COUNT] {
        // Locked throughout, so that a peer that is forgotten meanwhile is neither missed nor counted
        // twice.
        let table = self.table.read();
        let mut sums = table.stats();
        let (offered, rejected) = *self.rejected.lock();
        sums[Lane::NORMAL.index()].offered += offered;
        sums[Lane::NORMAL.index()].rejected += rejected;
        sums
    }

    pub(crate) fn peer_stats(&self, addr: &PeerAddr) -> Option<PeerStats> {
        let table = self.table.read();
        Some(table.get(addr, Lane::NORMAL)?.stats())
    }

    /// Returns the counters of all lanes of all peers: those called by an ip, ordered by address, then those
    /// called by a name.
    pub(crate) fn all_stats(&self) -> Vec<PeerStats> {
        let table = self.table.read();
        let mut all: Vec<_> = table.all().map(Peer::stats).collect();
        drop(table);
        all.sort_unstable_by(|one, other| {
            let by_peer = one.peer.cmp(&other.peer);
            by_peer.then(one.lane.cmp(&other.lane))
        });
        all
    }

    // ---- the end -----------------------------------------------------------------------------------

    /// Accepts no more frames. What is queued may still be written.
    pub(crate) fn seal(&self) {
        for peer in self.stop() {
            peer.state.queue.seal();
            peer.state.link_wait.stir();
        }
    }

    /// Ends all queues.
    pub(crate) fn close(&self) {
        for peer in self.stop() {
            peer.state.queue.close();
            peer.state.link_wait.stir();
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
        let mut undelivered: HashMap<PeerAddr, Count> = HashMap::new();
        for peer in self.stop() {
            peer.state.report_dropped(&peer.state.queue.take_untold());
            let left = peer.state.queue.stats().dropped.stopped;
            if !left.is_zero() {
                *undelivered.entry(peer.addr().clone()).or_default() += left;
            }
        }
        undelivered.into_iter().collect()
    }

    /// Makes no more peers. Returns all lanes of those that are known.
    fn stop(&self) -> Vec<Peer> {
        let mut table = self.table.write();
        table.stopped = true;
        table.all().cloned().collect()
    }
}

impl KnownIn for Peers {
    /// Under this lock nobody can get a new handle, so nobody can be about to send to the peer.
    fn forget_unused(&self, state: &Arc<PeerState>) -> bool {
        let mut table = self.table.write();
        // It may have been forgotten, and its address may have become a new peer since.
        let known = table.get(state.addr(), state.to.lane);
        let Some(peer) = known.filter(|known| Arc::ptr_eq(&known.state, state)) else {
            return true;
        };
        if !peer.is_only_handle() || !peer.state.queue.left().is_zero() {
            return false;
        }
        // Somebody asked for a link before they dropped their handle.
        if peer.state.needs_link() {
            return false;
        }
        table.remove(state);
        true
    }

    fn settle(&self) {
        self.table.write().settle();
    }

    fn forget_now(&self, peer: &Arc<PeerState>) {
        let mut table = self.table.write();
        if !table.has(peer) {
            return;
        }
        let lanes: Vec<_> = table.lanes(peer.addr()).cloned().collect();
        let payloads = table.forget(peer.addr());
        drop(table);
        // Only now, because payloads and wakers are foreign code.
        for lane in &lanes {
            lane.state.calls.forget();
        }
        drop(payloads);
        for lane in lanes {
            lane.state.link_wait.stir();
        }
    }

    fn lane(&self, of: &Arc<PeerState>, lane: Lane) -> (Arc<PeerState>, Handle) {
        let known = |table: &PeerTable| match table.has(of) {
            true => table.get(of.addr(), lane).cloned(),
            false => None,
        };
        if let Some(peer) = known(&self.table.read()) {
            return peer.into_parts();
        }
        let mut table = self.table.write();
        if let Some(peer) = known(&table) {
            return peer.into_parts();
        }
        let peer = self.make(PeerLane {
            peer: of.addr().clone(),
            lane,
        });
        if table.has(of) && !table.stopped {
            // If the arbiters are gone, this closes the queue.
            self.start_writing(&peer.state);
            table.add(peer.clone());
        } else {
            // Those before it that nobody holds any more.
            table.settle();
            // It refuses all frames, and counts them. None is queued yet, so no payload is dropped here.
            if table.stopped {
                peer.state.queue.close();
            }
            let _nothing = table.let_go(peer.clone());
        }
        peer.into_parts()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
