//! [`OpenLink`]: a connection with a node that has introduced itself, as both of its halves see it.
//!
//! One task reads it. Whoever has frames for the node claims the half that writes, no matter which end
//! dialled; then the link carries frames both ways. The two halves may live on different threads. They end
//! together: each learns here that the other has ended.

#[cfg(feature = "tls")]
use std::time::Duration;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "tls")]
use crate::net::time::{self, Instant};
use crate::{
    calls::pending::CallPeer,
    ids::{Incarnation, NodeId},
    lane::Lane,
    net::{halves::WriteHalf, tls::Secured},
    observe::event::DownReason,
    session::admitted::Session,
    wire::control::node_info::{Features, NodeInfo},
};

/// Which of several links with the same node is written to: the greatest. Both ends see the same order.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct Rank {
    /// When two nodes dial each other at the same time, the link that the node with the lower number dialled
    /// remains.
    pub(super) dialled_by_lower: bool,
    /// Which of the links of the same node came last.
    pub(super) number: u64,
}

/// What a node takes that is longer than a frame.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Takes {
    /// The longest message, in bytes of its payload.
    pub(crate) message: u64,
    /// The longest frame of a part, with its header.
    pub(crate) frame: u32,
}

impl Takes {
    /// `None` if it takes nothing longer than a frame.
    fn of(far: &NodeInfo) -> Option<Self> {
        Some(Takes {
            message: far.max_message?,
            frame: far.max_frame?,
        })
    }
}

/// A link whose ends know each other.
#[derive(Debug)]
pub(crate) struct OpenLink {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// What kind of frames it carries, in both directions.
    pub(crate) lane: Lane,
    /// How long a message in parts the far end takes.
    pub(crate) takes: Option<Takes>,
    /// Whether the far end takes calls.
    takes_calls: bool,
    /// Where the far end is.
    pub(crate) addr: SocketAddr,
    pub(super) rank: Rank,
    /// Whether this end dialled.
    pub(crate) dialled: bool,
    _session: Session,
    /// Cancelled when the link must end at once: a later incarnation of the node has come, or its certificate
    /// is not accepted any more.
    cut: CancellationToken,
    /// Why this end has ended the link, if that is because of a certificate.
    ended_for: Mutex<Option<DownReason>>,
    #[cfg(feature = "tls")]
    expired_at: Mutex<Option<Instant>>,
    /// What encrypts it. `None` if nothing does.
    pub(crate) tls: Option<Arc<Secured>>,
    /// The half that writes, until somebody claims it. `None` from the start if the far end takes no frames
    /// on this link.
    unclaimed: Mutex<Option<WriteHalf>>,
    /// The half that writes, if nobody may ever claim it. Kept until nothing more will be read.
    unused: Mutex<Option<WriteHalf>>,
    /// Cancelled when the half that writes must end: nothing more will be read, or there is a better link.
    writing_ends: CancellationToken,
    /// Whether that has happened, and nothing more will be read. To look at the token takes a lock.
    must_end: AtomicBool,
    read_to_end: AtomicBool,
    reason: Mutex<Option<DownReason>>,
    /// Cancelled when the half that reads has something to look into: nothing more will be written, or a
    /// later link waits for its turn.
    pub(crate) stirs_reading: CancellationToken,
    written_to_end: AtomicBool,
    /// Whether the far end has said which of its frames come first.
    has_begun: AtomicBool,
    /// Whether something was read since the writing half asked last.
    active: AtomicBool,
}

impl OpenLink {
    pub(super) fn new(
        (far, lane): (&NodeInfo, Lane),
        addr: SocketAddr,
        rank: Rank,
        dialled: bool,
        session: Session,
        writing: Option<WriteHalf>,
        tls: Option<Arc<Secured>>,
    ) -> Self {
        OpenLink {
            node: far.node,
            incarnation: far.incarnation,
            lane,
            takes: Takes::of(far),
            takes_calls: far.features.has(Features::CALLS),
            addr,
            rank,
            dialled,
            cut: session.superseded.child_token(),
            _session: session,
            ended_for: Mutex::new(None),
            #[cfg(feature = "tls")]
            expired_at: Mutex::new(None),
            tls,
            unclaimed: Mutex::new(writing),
            unused: Mutex::new(None),
            writing_ends: CancellationToken::new(),
            must_end: AtomicBool::new(false),
            read_to_end: AtomicBool::new(false),
            reason: Mutex::new(None),
            stirs_reading: CancellationToken::new(),
            written_to_end: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            active: AtomicBool::new(false),
        }
    }

    /// Returns who is at the far end.
    pub(crate) fn peer(&self) -> CallPeer {
        CallPeer {
            node: self.node,
            incarnation: self.incarnation,
        }
    }

    /// Returns who is at the far end, if it takes calls.
    pub(crate) fn call_peer(&self) -> Option<CallPeer> {
        self.takes_calls.then(|| self.peer())
    }

    /// Returns what is cancelled when the link must end at once: a later incarnation of the node has come, or
    /// the link [is not trusted](OpenLink::is_untrusted) any more.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Returns whether the certificate of the far end is not accepted any more.
    pub(crate) fn is_untrusted(&self) -> bool {
        *self.ended_for.lock() == Some(DownReason::Untrusted)
    }

    /// Ends the link at once, because the certificate of the far end is not accepted any more.
    pub(super) fn distrust(&self) {
        *self.ended_for.lock() = Some(DownReason::Untrusted);
        self.ends_because(DownReason::Untrusted);
        self.end_the_writing_half();
        self.cut.cancel();
    }

    /// Ends the link, because a certificate has expired: what was written is read to its end, if that comes
    /// within this time.
    #[cfg(feature = "tls")]
    pub(super) fn expire(&self, grace: Duration) {
        let since = *self.expired_at.lock().get_or_insert_with(time::now);
        match since.elapsed() < grace {
            true => self.end_in_order(DownReason::Expired),
            false => self.distrust(),
        }
    }

    /// Ends the link in order, because this node has another certificate by now: the next link shows that one.
    #[cfg(feature = "tls")]
    pub(super) fn renew(&self) {
        self.end_in_order(DownReason::Renewed);
    }

    /// Ends the half that writes, unless a certificate has ended it already. What was written is read to its end,
    /// at both ends.
    #[cfg(feature = "tls")]
    fn end_in_order(&self, reason: DownReason) {
        let mut ended_for = self.ended_for.lock();
        if ended_for.is_none() {
            *ended_for = Some(reason);
            drop(ended_for);
            self.end_the_writing_half();
            drop(self.claim());
        }
    }

    /// Keeps a half that nobody writes to, so that the connection stays open.
    pub(super) fn keep(&self, unused: Option<WriteHalf>) {
        *self.unused.lock() = unused;
    }

    // ---- for the half that reads -------------------------------------------------------------------

    /// Notes that something was read.
    pub(crate) fn note_read(&self) {
        self.active.store(true, Relaxed);
    }

    /// Notes that the far end has said which of its frames come first. Called when the link already
    /// [waits](crate::session::inbound_stream::InboundStream::waiting) for its turn: whoever sees that it has begun
    /// must see that it waits.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Release);
    }

    /// Returns whether that may still come.
    pub(super) fn may_begin(&self) -> bool {
        !self.has_begun.load(Acquire) && !self.read_to_end.load(Relaxed)
    }

    /// Notes why the link is about to end. The first reason counts: who said goodbye closes the link then.
    /// Returns whether this is the first.
    pub(crate) fn ends_because(&self, reason: DownReason) -> bool {
        let mut first = self.reason.lock();
        let is_first = first.is_none();
        first.get_or_insert(reason);
        is_first
    }

    /// Notes that nothing more will be read. Returns the half that writes if nobody has claimed it.
    pub(crate) fn end_reading(&self) -> Option<WriteHalf> {
        self.read_to_end.store(true, Relaxed);
        self.end_the_writing_half();
        let unused = self.unused.lock().take();
        drop(unused);
        self.unclaimed.lock().take()
    }

    /// Returns whether nothing more will be written.
    pub(crate) fn is_written(&self) -> bool {
        self.written_to_end.load(Relaxed)
    }

    // ---- for the half that writes ------------------------------------------------------------------

    pub(super) fn is_free(&self) -> bool {
        self.unclaimed.lock().is_some() && !self.read_to_end.load(Relaxed)
    }

    /// Takes the half that writes, unless somebody has it.
    pub(super) fn claim(&self) -> Option<WriteHalf> {
        self.unclaimed.lock().take()
    }

    /// Notes that there is a better link to write to.
    pub(super) fn replace(&self) {
        self.end_the_writing_half();
    }

    fn end_the_writing_half(&self) {
        self.must_end.store(true, Relaxed);
        self.writing_ends.cancel();
    }

    /// Returns why the half that writes must end. `None` if the link goes on. Costs next to nothing.
    pub(crate) fn ends(&self) -> Option<DownReason> {
        self.must_end.load(Relaxed).then(|| self.reason())
    }

    /// Waits until the half that writes must end. Returns why.
    pub(crate) async fn until_end(&self) -> DownReason {
        self.writing_ends.cancelled().await;
        self.reason()
    }

    fn reason(&self) -> DownReason {
        match self.read_to_end.load(Relaxed) {
            true => self.reason.lock().unwrap_or(DownReason::Closed),
            false => self.ended_for.lock().unwrap_or(DownReason::Replaced),
        }
    }

    /// Notes that nothing more will be written.
    pub(crate) fn end_writing(&self) {
        self.written_to_end.store(true, Relaxed);
        // The end that accepted waits for the one that dialled to end the link.
        if self.dialled {
            self.stirs_reading.cancel();
        }
    }

    /// Returns whether something was read since this was asked last.
    pub(crate) fn was_active(&self) -> bool {
        self.active.swap(false, Relaxed)
    }
}
