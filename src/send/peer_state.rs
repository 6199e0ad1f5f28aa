//! The lasting state of one lane of one peer. Writers and links come and go; this stays.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    calls::lane_calls::LaneCalls,
    error::{Refusal, SendError},
    ids::NodeId,
    lane::{Lane, PeerLane},
    net::{
        clock::CoarseInstant,
        time::{self, Instant},
        tls::Certificate,
    },
    observe::{
        link_end::LinkEnd,
        reporter::Reporter,
        stats::{Dropped, LinkState, PeerStats},
    },
    peer_addr::PeerAddr,
    send::{
        dial_request::DialRequest,
        direct_write::{Comes, DirectWrite},
        expiry::expire_while,
        link_wait::LinkWait,
        outgoing_stream::OutgoingStream,
        queue::{Doorbell, Limits, SendQueue},
    },
    session::open_link::Takes,
    wire::{count::Count, frame::HEADER, payload::Payload},
};

/// One lane of one peer: what the peer is called, what waits for it there, and whether there is a link to it.
#[derive(Debug)]
pub(crate) struct PeerState {
    pub(crate) to: PeerLane,
    /// The node that must answer there.
    pub(super) meant: Option<NodeId>,
    pub(super) table: Weak<dyn KnownIn>,
    pub(crate) queue: Arc<SendQueue>,
    pub(super) stream: OutgoingStream,
    /// The node that was found at the address.
    node: Mutex<Option<NodeId>>,
    /// The node that frames here answer: no other may get them.
    answers: Mutex<Option<NodeId>>,
    pub(super) link_wait: LinkWait,
    /// How many messages in parts there were; the next one's number. Whoever sends one holds the lock until it is sent:
    /// two at a time would take the far end's memory from each other.
    pub(super) messages: tokio::sync::Mutex<u64>,
    pub(super) calls: LaneCalls,
    /// Notified when there may be a link to the node that it dialled, or when it was heard of.
    heard: Notify,
    pub(super) direct_write: DirectWrite,
    reporter: Reporter,
    /// The number of connections made so far.
    epoch: AtomicU64,
    /// Where the last link leads or led, and to which node.
    last_end: Mutex<Option<LinkEnd>>,
    pub(super) dial_request: DialRequest,
    connected: AtomicBool,
    /// The number of dials that failed since the last link.
    failures: AtomicU32,
    /// Since when there has been no link, if there is none.
    without_link: Mutex<Instant>,
    /// Whether a dial has failed since there was a link.
    unreachable: AtomicBool,
    /// How many dials in a row have had no answer.
    unanswered: AtomicU32,
    /// Cancelled when the peer is forgotten while its writer is at work.
    pub(super) forgotten: CancellationToken,
}

/// Why no link came.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum NoLink {
    Refused(Refusal),
    InTime,
}

/// As long as one lives beside the one in the table, somebody may send on the lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handle(Arc<()>);

impl Handle {
    pub(super) fn is_only_one(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// What a peer needs of the table that has it.
pub(crate) trait KnownIn: Send + Sync {
    /// Drops what waits for the peer on all its lanes and ends its links. Does nothing if it is forgotten already.
    fn forget_now(&self, peer: &Arc<PeerState>);

    /// Forgets this lane of the peer if nobody holds a handle to it and its queue is empty. Otherwise returns false.
    fn forget_unused(&self, peer: &Arc<PeerState>) -> bool;

    /// Returns another lane of the same peer. Makes it if it is not in use. If the peer is forgotten or the transport
    /// has stopped, no frame can be sent on it.
    fn lane(&self, of: &Arc<PeerState>, lane: Lane) -> (Arc<PeerState>, Handle);

    /// Adds up the counts of forgotten peers that have come to their end.
    fn settle(&self);
}

/// How little a peer that has no link needs its place: the greatest makes room first.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct Dispensable {
    /// Nothing is lost with it.
    empty: bool,
    without_link: Duration,
}

impl PeerState {
    pub(crate) fn new(
        limits: Limits,
        to: PeerLane,
        meant: Option<NodeId>,
        table: Weak<dyn KnownIn>,
        (stream, calls): (OutgoingStream, LaneCalls),
        direct_write: DirectWrite,
        reporter: Reporter,
    ) -> Self {
        let node = to.peer.node().or(meant);
        PeerState {
            to,
            meant,
            table,
            queue: Arc::new(SendQueue::new(limits)),
            stream,
            node: Mutex::new(node),
            answers: Mutex::new(None),
            link_wait: LinkWait::default(),
            messages: tokio::sync::Mutex::new(0),
            calls,
            heard: Notify::new(),
            direct_write,
            reporter,
            epoch: AtomicU64::new(0),
            last_end: Mutex::new(None),
            dial_request: DialRequest::default(),
            connected: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            without_link: Mutex::new(time::now()),
            unreachable: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            forgotten: CancellationToken::new(),
        }
    }

    pub(crate) fn addr(&self) -> &PeerAddr {
        &self.to.peer
    }

    pub(crate) fn stats(&self) -> PeerStats {
        let frames = self.queue.stats();
        let state = self.link_state(frames.queued + frames.in_flight);
        let last_end = self.last_end.lock();
        let last_end = last_end.as_ref();
        PeerStats {
            peer: self.addr().clone(),
            lane: self.to.lane,
            addr: self.addr().ip_addr().or(last_end.map(|end| end.addr)),
            node: self.meant.or(last_end.and_then(|end| end.node)),
            frames,
            state,
            connected: state == LinkState::Up,
            epoch: self.epoch.load(Relaxed),
            #[cfg(feature = "tls")]
            certificate: last_end.and_then(|end| end.certificate.as_deref().cloned()),
        }
    }

    /// Returns whether there is a link, and if not, why. `left` is what is queued or in flight.
    pub(super) fn link_state(&self, left: Count) -> LinkState {
        match self.failures.load(Relaxed) {
            _ if self.connected.load(Relaxed) => LinkState::Up,
            0 if left.is_zero() && !self.dial_request.is_asked() => LinkState::Idle,
            0 => LinkState::Connecting,
            failures => LinkState::Unreachable { failures },
        }
    }

    /// Says who is at the other end of a link that leads to `addr`, where `node` has answered.
    pub(super) fn far_end(
        &self,
        addr: SocketAddr,
        node: Option<NodeId>,
        certificate: Option<Arc<Certificate>>,
    ) -> LinkEnd {
        LinkEnd {
            to: self.to.clone(),
            addr,
            node,
            certificate,
        }
    }

    /// Asks for a link although nothing is queued. Does nothing if there is one, or if there will be none.
    pub(super) fn ask_for_link(&self) {
        if !self.connected.load(Relaxed) && !self.queue.is_done() {
            self.dial_request.ask();
        }
    }

    /// Returns whether the peer must be dialled, if it has no link.
    pub(super) fn needs_link(&self) -> bool {
        let is_asked = self.dial_request.is_asked() || self.link_wait.is_waited_for();
        self.queue.has_frames() || is_asked && !self.queue.is_done()
    }

    /// Notes that a link is up. Returns its number.
    pub(super) fn connected(&self, end: &LinkEnd, takes: Option<Takes>) -> u64 {
        self.link_wait.set_last(self.queue.link(), takes);
        *self.last_end.lock() = Some(end.clone());
        self.dial_request.done();
        self.unanswered.store(0, Relaxed);
        self.unreachable.store(false, Relaxed);
        self.connected.store(true, Relaxed);
        self.failures.store(0, Relaxed);
        let epoch = self.next_epoch();
        self.link_wait.stir();
        epoch
    }

    /// Returns the number of a new connection.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Relaxed) + 1
    }

    /// Notes how many dials have failed since the last link.
    pub(super) fn failing(&self, failures: u32) {
        self.failures.store(failures, Relaxed);
    }

    /// Waits until there is a link, for as long as a frame may wait for one. Returns its number, and what its far end
    /// takes that is longer than a frame.
    pub(super) async fn until_takes(&self) -> Result<(u64, Option<Takes>), NoLink> {
        let begun = CoarseInstant::now();
        let _waiting = self.link_wait.waits();
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let stirred = self.link_wait.stirred();
            if self.connected.load(Relaxed) {
                return Ok(self.link_wait.last());
            }
            if let Some(refusal) = self.queue.refusal() {
                return Err(NoLink::Refused(refusal));
            }
            // Looked at when a dial fails. No timer, because the caller may be on any runtime.
            if CoarseInstant::now().since(begun) >= self.queue.stale_after() {
                return Err(NoLink::InTime);
            }
            // A writer that dials goes on as long as somebody waits, and does not wait less for being asked.
            if !self.link_wait.is_dialling() {
                self.dial_request.ask();
            }
            stirred.await;
        }
    }

    /// Notes that the link is down.
    pub(super) fn disconnected(&self) {
        *self.without_link.lock() = time::now();
        self.connected.store(false, Relaxed);
        self.link_wait.stir();
    }

    /// Notes that a dial failed, and whether the peer's system answered it.
    pub(super) fn dial_failed(&self, answered: bool) {
        // Only the peer's writer changes this, so nobody else does meanwhile.
        let unanswered = match answered {
            true => 0,
            false => self.unanswered().saturating_add(1),
        };
        self.unanswered.store(unanswered, Relaxed);
        self.unreachable.store(true, Relaxed);
        self.calls.unreachable(self.without_link_for(time::now()));
        self.dial_request.done();
        self.link_wait.stir();
    }

    /// Returns how many dials in a row have had no answer.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered.load(Relaxed)
    }

    /// Returns how dispensable the peer is. `None` if it has a link, or if it has frames waiting and has
    /// not been dialled in vain. The caller must make sure that nobody is about to send to it, with
    /// [`Peer::is_only_handle`](super::peer::Peer::is_only_handle) while the table of peers is locked.
    pub(super) fn dispensable(&self, now: Instant) -> Option<Dispensable> {
        let left = self.queue.left();
        if self.connected.load(Relaxed) || !(left.is_zero() || self.unreachable.load(Relaxed)) {
            return None;
        }
        Some(Dispensable {
            empty: left.is_zero(),
            without_link: self.without_link_for(now),
        })
    }

    pub(super) fn without_link_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.without_link.lock())
    }

    /// Lets another peer for the same node go on with the numbers of the frames. Called when the queue accepts
    /// no more; does nothing the second time.
    pub(super) fn retire(&self) {
        self.stream.retire(self.queue.next_number());
    }

    // ---- the node at the address -------------------------------------------------------------------

    /// Notes which node is at the address.
    pub(super) fn met(&self, node: NodeId) {
        *self.node.lock() = Some(node);
    }

    /// Returns whether another node than this is meant here, or is at the other end of the link.
    pub(super) fn is_for_another_than(&self, node: NodeId) -> bool {
        let found = self.node().filter(|_| self.connected.load(Relaxed));
        let there = self.meant.or(found);
        there.is_some_and(|there| there != node)
    }

    /// Notes that frames for this node will be sent here, as answers.
    pub(super) fn will_answer(&self, node: NodeId) {
        self.met(node);
        *self.answers.lock() = Some(node);
    }

    /// Returns the node that must answer a dial, because frames wait for it.
    pub(super) fn demanded(&self) -> Option<NodeId> {
        *self.answers.lock()
    }

    /// Notes that no frame waits: whoever is sent to next may be another node at the same address.
    pub(super) fn demand_nobody(&self) {
        *self.answers.lock() = None;
    }

    /// Returns whether a dial has failed since there was a link.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Relaxed)
    }

    /// Returns the node that was found at the address.
    pub(super) fn node(&self) -> Option<NodeId> {
        *self.node.lock()
    }

    /// Notes that the node at the address was heard of: it may be dialled now, or there is a link with it.
    pub(super) fn was_heard(&self) {
        self.heard.notify_one();
    }

    /// Waits until the node at the address is heard of.
    pub(super) async fn until_heard(&self) {
        self.heard.notified().await;
    }

    /// Returns the longest frame that both ends take, as far as it is known.
    pub(crate) fn longest_frame(&self) -> usize {
        let own = self.queue.longest_frame();
        let far = self.link_wait.far_frame();
        far.map_or(own, |far| own.min(far))
    }

    // ---- frames ------------------------------------------------------------------------------------

    /// Waits until there is something to write, or the queue has ended.
    pub(super) async fn until_ready(&self) {
        poll_fn(|cx| self.queue.poll_ready(cx)).await;
    }

    /// Waits until there is something to write, a link is asked for, or the queue has ended.
    pub(super) async fn until_work(&self) {
        tokio::select! {
            () = self.until_ready() => {}
            () = self.dial_request.asked() => {}
        }
    }

    /// Makes sure that what was pushed will be written, given the doorbell of that push: does nothing if
    /// the writer is awake.
    #[inline]
    pub(crate) fn ring(&self, doorbell: Doorbell) {
        if !doorbell.is_silent() {
            self.write_or_ring(doorbell, Comes::OneByOne);
        }
    }

    /// The same for a sender that has collected frames, of which no more follow soon.
    pub(crate) fn ring_for_burst(&self, doorbell: Doorbell) {
        if !doorbell.is_silent() {
            self.write_or_ring(doorbell, Comes::Together);
        }
    }

    fn write_or_ring(&self, doorbell: Doorbell, comes: Comes) {
        let dropped = self
            .direct_write
            .write_or_ring(&self.queue, doorbell, comes);
        self.report_dropped(&dropped);
    }

    /// Runs `work` to its end. Meanwhile drops and reports the frames that go stale.
    pub(super) async fn expire_while<F: Future>(&self, work: F) -> F::Output {
        expire_while(&self.queue, |dropped| self.report_dropped(&dropped), work).await
    }

    /// Reports a refused send. Gives the payload back, in the error.
    #[cold]
    pub(super) fn refused<P: Payload>(&self, refusal: Refusal, payload: P) -> SendError<P> {
        let frame = Count::one(HEADER + payload.byte_len());
        self.reporter.refused(Some(&self.to), refusal, frame);
        refusal.with(payload)
    }

    /// Reports frames that the queue has dropped.
    pub(super) fn report_dropped(&self, dropped: &Dropped) {
        self.reporter.dropped(Some(&self.to), dropped);
    }
}

impl Drop for PeerState {
    fn drop(&mut self) {
        self.retire();
    }
}
