//! The handle to send to one peer.

use std::{fmt, sync::Arc};

use crate::{
    error::{Refusal, SendError},
    ids::GroupId,
    lane::{Lane, PeerLane},
    net::clock::CoarseInstant,
    observe::stats::{LinkState, PeerStats},
    peer_addr::PeerAddr,
    send::{
        options::SendOptions,
        peer_state::{Handle, PeerState},
        queue::{Staged, WhenFull},
        send_all_error::SendAllError,
    },
    wire::payload::Payload,
};

/// A handle to one peer of a [`Transport`](crate::Transport), on one lane: looked up once, to send many times.
///
/// Cheap to clone, and usable from any thread. While a handle lives, the transport does not forget the
/// peer. A handle does not keep the transport from stopping.
#[derive(Clone)]
pub struct Peer {
    pub(crate) state: Arc<PeerState>,
    /// The table of peers holds one itself.
    handle: Handle,
}

impl Peer {
    pub(super) fn new(state: Arc<PeerState>) -> Self {
        Peer {
            state,
            handle: Handle::default(),
        }
    }

    /// Returns whether this is the only handle.
    pub(super) fn is_only_handle(&self) -> bool {
        self.handle.is_only_one()
    }

    pub(super) fn into_parts(self) -> (Arc<PeerState>, Handle) {
        (self.state, self.handle)
    }

    /// Returns what the peer is called: its name and port, or its ip and port.
    pub fn addr(&self) -> &PeerAddr {
        self.state.addr()
    }

    /// Returns a handle to send to the same peer on another lane, with the same methods.
    ///
    /// Each lane has a connection, a queue and bounds of its own ([`Config::lane`](crate::Config::lane)), made
    /// when the lane is asked for first. Order holds within a lane, not between two. Without sessions, and
    /// towards PhxPaxos, a lane is one more connection. A peer that listens nowhere
    /// ([`PeerAddr::node`](crate::PeerAddr::node)) is reached on the lanes on which it has sent something.
    ///
    /// The handle of a peer that was forgotten, or of a transport that has stopped, refuses all frames. May be
    /// called from any thread.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// use actix_transport::{GroupId, Lane};
    ///
    /// let peer = transport.peer("127.0.0.1:9")?;
    /// let urgent = peer.lane(Lane::CONTROL);
    /// peer.try_send(GroupId::new(3), vec![0; 1 << 20])?;
    /// urgent.try_send(GroupId::new(3), "does not wait behind the megabyte")?;
    /// assert_eq!(transport.peers().len(), 2, "two lanes of one peer");
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn lane(&self, lane: Lane) -> Peer {
        let of = &self.state;
        if of.to.lane == lane {
            return self.clone();
        }
        let Some(table) = of.table.upgrade() else {
            // The transport has stopped, and this handle refuses all frames as well.
            return self.clone();
        };
        let (state, handle) = table.lane(of, lane);
        // Whoever may get the frames of one lane may get those of the others.
        match (of.demanded(), of.node()) {
            (Some(node), _) => state.will_answer(node),
            (None, Some(node)) if state.node().is_none() => state.met(node),
            (None, _) => {}
        }
        Peer { state, handle }
    }

    // ---- the link ----------------------------------------------------------------------------------

    /// Makes the writer dial now, although nothing is queued. If it waits before the next dial, the wait ends.
    ///
    /// Returns at once; [`PeerEvent::Up`](crate::PeerEvent::Up) or
    /// [`PeerEvent::Unreachable`](crate::PeerEvent::Unreachable) tells the outcome, and
    /// [`state`](Peer::state) shows it. This asks for one dial: if it fails and no frame waits, the peer is not
    /// dialled again until the next call or the next frame. A link on which nothing is sent ends after
    /// [`Config::idle_timeout`](crate::Config::idle_timeout). Does nothing if there is a link, if the peer is
    /// being dialled, or if it was forgotten or the transport is stopping. May be called from any thread, and
    /// never blocks.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// # let other = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// use actix_transport::LinkState;
    ///
    /// let peer = transport.peer(other.local_addr())?;
    /// assert_eq!(peer.state(), LinkState::Idle);
    /// peer.connect();
    /// while peer.state() != LinkState::Up {
    ///     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    /// }
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # other.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn connect(&self) {
        self.state.ask_for_link();
    }

    /// Returns whether there is a link now, and if not, why.
    pub fn state(&self) -> LinkState {
        self.state.link_state(self.state.queue.left())
    }

    /// Makes the transport forget the peer with all its lanes, such as a node that has left the cluster.
    ///
    /// Drops the frames that wait for it, counted as
    /// [`DropReason::PeerForgotten`](crate::DropReason::PeerForgotten), and ends its link
    /// ([`DownReason::Ended`](crate::DownReason::Ended)). Frames that are just being written may still be
    /// written; otherwise they are dropped, too. When this returns, [`Transport::peers`](crate::Transport::peers)
    /// does not list the peer any more; its counts stay in [`Stats::tcp`](crate::Stats::tcp). The link ends soon
    /// after.
    ///
    /// This handle and all others from before cannot send any more: they return
    /// [`SendError::Forgotten`], and so does a [`send`](Peer::send) that waits for room. Whoever asks the
    /// transport for the peer again, or sends by address, gets a new peer that knows nothing of this one. Does
    /// nothing if the peer is forgotten already. May be called from any thread. Drops payloads on this thread.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// use actix_transport::{GroupId, SendError};
    ///
    /// let peer = transport.peer("node-4.invalid:7000")?;
    /// peer.try_send(GroupId::new(3), "never written")?;
    /// peer.forget();
    /// assert_eq!(transport.stats().tcp.dropped.peer_forgotten.frames, 1);
    /// let refused = peer.try_send(GroupId::new(3), "too late");
    /// assert!(matches!(refused, Err(SendError::Forgotten { payload: "too late" })));
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn forget(&self) {
        if let Some(table) = self.state.table.upgrade() {
            table.forget_now(&self.state);
        }
    }

    // ---- sending -----------------------------------------------------------------------------------

    /// Queues a frame if there is room for it now.
    ///
    /// `Ok` means accepted, not received. The queued frames are written in order. A frame is dropped, and
    /// counted, if it goes stale ([`Config::stale_after`](crate::Config::stale_after)), if newer frames
    /// push it out ([`Overflow::DropOldest`](crate::Overflow::DropOldest)), or if the transport stops.
    ///
    /// May be called from any thread and never blocks. If frames have been coming one at a time, and the
    /// connection is idle, this call also writes the frame: one system call that does not block, instead
    /// of the one that would wake the writer.
    ///
    /// # Errors
    ///
    /// Gives the payload back if the queue is full, the group has used up its share of the queue
    /// ([`Config::group_share`](crate::Config::group_share)), the payload is too large, the group is reserved, the peer
    /// was [forgotten](Peer::forget), or the transport is stopping or has stopped. Frames that others wait to send
    /// with [`send`](Peer::send) count as if they were in the queue.
    #[inline]
    pub fn try_send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let now = CoarseInstant::now();
        match self.state.queue.push((), group, payload, now) {
            Ok(doorbell) => {
                self.state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(self.state.refused(refusal, payload)),
        }
    }

    /// Queues a frame, waiting for room if the queue is full.
    ///
    /// Waiting senders get room in the order in which they began to wait, and each queues its frame when it
    /// is polled next. A sender whose future is not polled holds back nothing but the room for its own
    /// frame. One that waits for its group's share of the queue holds back only those of the same group.
    /// Cancelling (dropping the future) sends nothing, drops the payload, and gives the sender's
    /// place to the next one. May be awaited on any thread and any runtime.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Peer::try_send), except that a full queue is waited for.
    pub async fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let queue = &self.state.queue;
        let pushed = queue
            .push_wait((), group, payload, CoarseInstant::now)
            .await;
        match pushed {
            Ok(doorbell) => {
                self.state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(self.state.refused(refusal, payload)),
        }
    }

    /// Queues a frame in the place of the one with the same group and key that still waits there, if there is one: of
    /// heartbeats and of leases, only the last one matters.
    ///
    /// The older frame is dropped, and counted as [`DropReason::Replaced`](crate::DropReason::Replaced); the newer
    /// one has its place among the others, with an age of its own. A frame that is being written is not replaced; if
    /// its connection ends before it is written whole, and a newer one waits, the newer one goes out alone. Keys are
    /// only compared with those of the same lane, peer and group, and take no memory when their frame has left.
    ///
    /// Takes the time of a look-up in a hash table and of a binary search in the queue. Otherwise as
    /// [`try_send`](Peer::try_send).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// use actix_transport::{GroupId, Lane};
    ///
    /// let beats = transport.peer("node-4.invalid:7000")?.lane(Lane::CONTROL);
    /// for term in 1..=1000_u64 {
    ///     beats.try_send_latest(GroupId::new(3), 0, term.to_be_bytes().to_vec())?;
    /// }
    /// let frames = beats.stats().frames;
    /// assert_eq!((frames.queued.frames, frames.dropped.replaced.frames), (1, 999));
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Peer::try_send). One that is no longer than the older always has room. If the newer one is
    /// longer, and older frames of the queue must make way for it ([`Overflow::DropOldest`](crate::Overflow)), it
    /// goes to the end.
    pub fn try_send_latest<P: Payload>(
        &self,
        group: GroupId,
        key: u64,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.try_send_with(group, payload, SendOptions::new().latest(key))
    }

    /// Queues a frame with these options, if there is room for it now.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Peer::try_send).
    pub fn try_send_with<P: Payload>(
        &self,
        group: GroupId,
        payload: P,
        options: SendOptions,
    ) -> Result<(), SendError<P>> {
        let other = self.other_lane(&options);
        let lane = other.as_ref().unwrap_or(self);
        let terms = options.terms(group);
        if !terms.are_own() {
            return lane.try_send(group, payload);
        }
        let (state, now) = (&lane.state, CoarseInstant::now());
        match state.queue.push_apart((), (group, payload), terms, now) {
            Ok(doorbell) => {
                state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(state.refused(refusal, payload)),
        }
    }

    /// Returns the handle that these options ask for, if this is not the one.
    fn other_lane(&self, options: &SendOptions) -> Option<Peer> {
        let lane = options.on_lane().filter(|&lane| lane != self.state.to.lane);
        lane.map(|lane| self.lane(lane))
    }

    /// Queues a frame with these options, waiting for room if the queue is full; see [`send`](Peer::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](Peer::send).
    pub async fn send_with<P: Payload>(
        &self,
        group: GroupId,
        payload: P,
        options: SendOptions,
    ) -> Result<(), SendError<P>> {
        let other = self.other_lane(&options);
        let lane = other.as_ref().unwrap_or(self);
        let terms = options.terms(group);
        if !terms.are_own() {
            return lane.send(group, payload).await;
        }
        let (state, frame) = (&lane.state, (group, payload));
        let queue = &state.queue;
        let pushed = queue.push_apart_wait((), frame, terms, CoarseInstant::now);
        match pushed.await {
            Ok(doorbell) => {
                state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(state.refused(refusal, payload)),
        }
    }

    /// Queues many frames, for one group or several, and stops at the first that is refused.
    ///
    /// Costs less than sending them one by one, and means the same: they are accepted in order, each
    /// within the bounds of the queue, and each is counted. But the queue is locked once, and the writer
    /// is woken once. A long burst is taken in parts of some 64 KiB or 1,024 frames, and then that holds
    /// for each part. The iterator runs on this thread with nothing locked. What it has returned before
    /// it panics is sent up to the last whole part, and the rest is dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// use actix_transport::GroupId;
    ///
    /// let peer = transport.peer("127.0.0.1:9")?;
    /// let votes = (0..100).map(|group| (GroupId::new(group), "vote"));
    /// if let Err(rest) = peer.try_send_all(votes) {
    ///     println!("{rest}");
    ///     println!("{} frames are left", rest.count());
    /// }
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Stops at the first frame that is refused, for the reasons of [`try_send`](Peer::try_send). The
    /// frames before it are accepted. It and those behind it come back, in order. It counts as rejected.
    /// Those behind it do not count, even if there would have been room for them: they were not tried,
    /// because one of them must not overtake it.
    pub fn try_send_all<P: Payload, I>(&self, frames: I) -> Result<(), SendAllError<I::IntoIter>>
    where
        I: IntoIterator<Item = (GroupId, P)>,
    {
        let (mut frames, mut staged) = (frames.into_iter(), Staged::new());
        while staged.refill(&mut frames) {
            if let Err(refusal) = self.push_staged(&mut staged, WhenFull::Refuse) {
                return Err(SendAllError::new(refusal, staged, frames));
            }
        }
        Ok(())
    }

    /// Queues many frames, for one group or several, waiting for room if the queue is full.
    ///
    /// As [`try_send_all`](Peer::try_send_all), except for a full queue: there the next frame waits in
    /// line, as with [`send`](Peer::send), and when it has got its room the rest is tried again. Frames
    /// of others may come between. Cancelling (dropping the future) drops the frames that have not been
    /// accepted; those that have been are sent.
    ///
    /// # Errors
    ///
    /// As for [`try_send_all`](Peer::try_send_all), except that a full queue is waited for.
    pub async fn send_all<P: Payload, I>(&self, frames: I) -> Result<(), SendAllError<I::IntoIter>>
    where
        I: IntoIterator<Item = (GroupId, P)>,
    {
        let (mut frames, mut staged) = (frames.into_iter(), Staged::new());
        while staged.refill(&mut frames) {
            let refusal = match self.push_staged(&mut staged, WhenFull::Wait) {
                Ok(()) => continue,
                Err(Refusal::Full(_)) => self.send_first(&mut staged).await.err(),
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refusal {
                return Err(SendAllError::new(refusal, staged, frames));
            }
        }
        Ok(())
    }

    /// Queues the staged frames up to the first that is refused.
    fn push_staged<P: Payload>(
        &self,
        staged: &mut Staged<P>,
        when_full: WhenFull,
    ) -> Result<(), Refusal> {
        let now = CoarseInstant::now();
        let (doorbell, pushed) = self.state.queue.push_staged((), staged, now, when_full);
        // Now and not when all are sent: whoever holds a doorbell keeps the frames of others waiting, and
        // the iterator may be slow.
        self.state.ring(doorbell);
        pushed
    }

    /// Queues the first of the staged frames as soon as there is room for it.
    async fn send_first<P: Payload>(&self, staged: &mut Staged<P>) -> Result<(), Refusal> {
        let Some((group, payload)) = staged.take_first() else {
            return Ok(());
        };
        let queue = &self.state.queue;
        let pushed = queue.push_wait((), group, payload, CoarseInstant::now);
        match pushed.await {
            Ok(doorbell) => {
                self.state.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => {
                staged.put_back_first(group, payload);
                Err(refusal)
            }
        }
    }

    /// Returns a snapshot of the counters of this peer.
    pub fn stats(&self) -> PeerStats {
        self.state.stats()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerLane { peer, lane } = &self.state.to;
        let mut tuple = f.debug_tuple("Peer");
        tuple.field(peer).field(lane).finish()
    }
}
