//! Parts of the mechanism without sockets and actors, for this crate's own benchmarks and fuzzers.
//! Needs the feature `test-internals`. May change in any release.
//!
//! Owns only the wrappers. Leaves all work to the types that it wraps.

use std::{
    io::IoSlice,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
#[cfg(unix)]
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Weak,
};

use bytes::{Bytes, BytesMut};

use crate::{
    Config, Dropped, GroupId, Payload, SendError, SendStats,
    calls::{lane_calls::LaneCalls, pending::PendingCalls},
    lane::{Lane, PeerLane},
    net::clock::CoarseInstant,
    receive::grouping::{Grouping, Round, RoundLimits},
    send::queue::{Batch, Limits, SendQueue, Staged, Terms, WhenFull},
    wire::control::{Control, Front},
};
#[cfg(unix)]
use crate::{
    DownReason,
    net::{names::Resolver, tcp::Stream, time},
    observe::reporter::Reporter,
    runtime::{failpoints::Failpoints, lifecycle::Lifecycle},
    send::{
        back_channel::BackChannel,
        dialer::Dialer,
        direct_write::{DirectWrite, LastDirectWrite},
        link::Link,
        outgoing_stream::OutgoingStream,
        peer_state::PeerState,
        peers::Peers,
        wire::{FarEnd, Wire},
        writer_context::WriterContext,
    },
};

#[cfg(feature = "tls")]
pub mod tls;

mod assembling;
mod call_head;
mod calling;
pub use self::{
    assembling::{Assembling, Part},
    call_head::CallHead,
    calling::{Calling, Ended},
};

/// A send queue without a writer.
#[derive(Debug, Clone)]
pub struct Queue(Arc<SendQueue>);

impl Queue {
    /// Makes a queue with the bounds of a peer's queue.
    pub fn new(config: &Config) -> Self {
        Queue(Arc::new(SendQueue::new(Limits::of_lane(
            config,
            Lane::NORMAL,
        ))))
    }

    /// Pushes a frame, as [`Peer::try_send`](crate::Peer::try_send) does.
    ///
    /// # Errors
    ///
    /// As for [`Peer::try_send`](crate::Peer::try_send).
    #[inline]
    pub fn push<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        let pushed = self.0.push((), group, payload, CoarseInstant::now());
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Pushes frames together, as [`Peer::try_send_all`](crate::Peer::try_send_all) does. Returns how
    /// many were accepted.
    pub fn push_all<P: Payload>(&self, frames: impl IntoIterator<Item = (GroupId, P)>) -> usize {
        let (mut frames, mut staged) = (frames.into_iter(), Staged::new());
        while staged.refill(&mut frames) {
            let now = CoarseInstant::now();
            let (_, pushed) = self.0.push_staged((), &mut staged, now, WhenFull::Refuse);
            if pushed.is_err() {
                break;
            }
        }
        staged.accepted()
    }

    /// Takes a batch and counts all of it as written. Returns its length in bytes.
    pub fn write(&self) -> usize {
        let Some(mut batch) = self.0.take(CoarseInstant::now()).batch else {
            return 0;
        };
        let written = bytes_of(&batch);
        batch.advance(written);
        written
    }

    /// Pushes a frame at the time `now`, in milliseconds.
    ///
    /// # Errors
    ///
    /// As for [`push`](Queue::push).
    pub fn push_at<P: Payload>(
        &self,
        group: GroupId,
        payload: P,
        now: u64,
    ) -> Result<(), SendError<P>> {
        let pushed = self
            .0
            .push((), group, payload, CoarseInstant::from_millis(now));
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Pushes a frame that replaces the queued one with the same key, or with an age limit of its own in
    /// milliseconds, at the time `now`.
    ///
    /// # Errors
    ///
    /// As for [`push`](Queue::push).
    pub fn push_apart_at<P: Payload>(
        &self,
        (group, payload): (GroupId, P),
        key: Option<u64>,
        ttl: Option<u64>,
        now: u64,
    ) -> Result<(), SendError<P>> {
        let terms = Terms {
            ttl: ttl.map(Duration::from_millis),
            key: key.map(|key| (group, key)),
            ..Terms::default()
        };
        let now = CoarseInstant::from_millis(now);
        let pushed = self.0.push_apart((), (group, payload), terms, now);
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }

    /// Pushes a frame as soon as there is room for it, as [`Peer::send`](crate::Peer::send) does. `now`
    /// returns the time in milliseconds.
    ///
    /// # Errors
    ///
    /// As for [`Peer::send`](crate::Peer::send).
    pub fn push_wait_at<P: Payload, Now: Fn() -> u64>(
        &self,
        group: GroupId,
        payload: P,
        now: Now,
    ) -> impl Future<Output = Result<(), SendError<P>>> + use<P, Now> {
        let queue = self.0.clone();
        async move {
            let now = || CoarseInstant::from_millis(now());
            let pushed = queue.push_wait((), group, payload, now).await;
            pushed
                .map(drop)
                .map_err(|(refusal, payload)| refusal.with(payload))
        }
    }

    /// Drops the frames that are stale at the time `now` and takes the next batch. Also returns the drops
    /// that were not returned before.
    pub fn take_at(&self, now: u64) -> (Option<Lent>, Dropped) {
        let taken = self.0.take(CoarseInstant::from_millis(now));
        (taken.batch.map(Lent), taken.dropped)
    }

    /// Drops the frames that are stale at the time `now`. Returns the drops that were not returned before.
    pub fn expire_at(&self, now: u64) -> Dropped {
        self.0.expire(CoarseInstant::from_millis(now))
    }

    /// Returns the drops that were not returned before.
    pub fn take_untold(&self) -> Dropped {
        self.0.take_untold()
    }

    /// Returns `Ready` if frames are queued or the queue was sealed or closed. Otherwise the waker of
    /// `cx` is woken when that happens.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ready(cx)
    }

    /// Frees the memory that the queue keeps for speed.
    pub fn trim(&self) {
        self.0.trim();
    }

    /// Refuses all further frames. Queued frames can still be taken.
    pub fn seal(&self) {
        self.0.seal();
    }

    /// Refuses all further frames and drops the queued ones.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns the counters.
    pub fn stats(&self) -> SendStats {
        self.0.stats()
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = batch.slices(&mut slices, usize::MAX);
    slices[..filled].iter().map(|slice| slice.len()).sum()
}

/// A batch that was taken from a queue. Dropping it puts the frames that are not written back into the
/// queue.
pub struct Lent(Batch);

impl Lent {
    /// Returns the bytes to write next, as many as one vectored write takes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = self.0.slices(&mut slices, usize::MAX);
        let bytes = slices[..filled].iter().map(|slice| &slice[..]);
        bytes.collect::<Vec<_>>().concat()
    }

    /// Notes that `n` more bytes are written.
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Drops the frames that are stale at the time `now`.
    pub fn expire_at(&mut self, now: u64) {
        self.0.expire(CoarseInstant::from_millis(now));
    }
}

/// The address of the peer of a [`Writer`]. Nobody dials it.
#[cfg(unix)]
const WRITER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A peer's writer that does not dial. The caller gives it connections.
#[cfg(unix)]
#[derive(Debug)]
pub struct Writer {
    context: WriterContext,
    peer: PeerState,
}

#[cfg(unix)]
impl Writer {
    /// Makes a writer and its queue.
    pub fn new(config: Config) -> Self {
        let (reporter, failpoints) = (Reporter::default(), Failpoints::default());
        let last_direct_write = Arc::new(LastDirectWrite::new(time::now()));
        let direct_write = DirectWrite::new(last_direct_write, failpoints.clone());
        let limits = Limits::of_lane(&config, Lane::NORMAL);
        let calls = LaneCalls::new(&config, PendingCalls::new(config.max_call_bytes, 0));
        let config = Arc::new(config);
        Writer {
            peer: PeerState::new(
                limits,
                PeerLane::normal(WRITER.into()),
                None,
                Weak::<Peers>::new(),
                (OutgoingStream::new(0, Lane::NORMAL, None), calls.of_lane(0)),
                direct_write,
                reporter.clone(),
            ),
            context: WriterContext {
                dialer: Arc::new(Dialer::new(
                    config.clone(),
                    reporter.clone(),
                    Resolver::default(),
                    WRITER,
                )),
                config,
                calls,
                reporter,
                sessions: None,
                tls: None,
                lifecycle: Lifecycle::default(),
                failpoints,
            },
        }
    }

    /// Returns the queue of frames to write.
    pub fn queue(&self) -> Queue {
        Queue(self.peer.queue.clone())
    }

    /// Pushes a frame, as [`Peer::try_send`](crate::Peer::try_send) does. If the link is idle, this call
    /// writes the frame itself.
    ///
    /// # Errors
    ///
    /// As for [`Peer::try_send`](crate::Peer::try_send).
    pub fn send<P: Payload>(&self, group: GroupId, payload: P) -> Result<(), SendError<P>> {
        match self
            .peer
            .queue
            .push((), group, payload, CoarseInstant::now())
        {
            Ok(doorbell) => {
                self.peer.ring(doorbell);
                Ok(())
            }
            Err((refusal, payload)) => Err(refusal.with(payload)),
        }
    }

    /// Writes the queued frames to `socket` until the connection ends. Returns why it ended.
    ///
    /// # Panics
    ///
    /// If the socket cannot be attached to the runtime of this thread.
    pub async fn link(&self, socket: OwnedFd) -> DownReason {
        let stream = Stream::from_fd(socket).expect("a runtime with I/O");
        let (reading, writing) = stream.split();
        let far_end = FarEnd::Watched(BackChannel::silent(reading));
        let wire = Wire::new(writing, far_end, WRITER, false);
        let link = Link::open(&self.context, &self.peer, wire);
        link.run().await
    }
}

/// Groups received frames, as a connection does.
#[derive(Debug, Default)]
pub struct Decoder(Grouping);

impl Decoder {
    /// Takes all complete frames off the front of `arrived`, and calls `each` for each group with the
    /// payloads of its frames. Returns false if the bytes after them are not a frame.
    pub fn groups(
        &mut self,
        arrived: &mut BytesMut,
        max_frame: usize,
        mut each: impl FnMut(GroupId, &mut dyn Iterator<Item = Bytes>),
    ) -> bool {
        loop {
            let limits = RoundLimits::frames_of(max_frame);
            let (groups, round) = self.0.round(arrived, limits, |_| false);
            for mut frames in groups {
                each(frames.group(), &mut frames);
            }
            match round {
                Ok(Round::Complete) => return true,
                Ok(Round::Bounded | Round::Control) => {}
                Err(_) => return false,
            }
        }
    }
}

/// What received bytes begin with, as the handshake sees it.
#[derive(Debug, Clone, Eq, PartialEq)]
pub enum ControlFront {
    /// Too few bytes to tell.
    Incomplete,
    /// No control frame.
    Other,
    /// A control frame that cannot be read, and why.
    Bad(String),
    /// A control frame of so many bytes, and the same encoded again, unless it is one that is only
    /// received.
    Frame(usize, Option<Vec<u8>>),
}

impl ControlFront {
    /// Looks at the front of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        match Control::front(bytes) {
            Err(err) => ControlFront::Bad(err.to_string()),
            Ok(Front::Incomplete) => ControlFront::Incomplete,
            Ok(Front::Other) => ControlFront::Other,
            Ok(Front::Control(Control::OtherVersion | Control::Unknown, len)) => {
                ControlFront::Frame(len, None)
            }
            Ok(Front::Control(control, len)) => ControlFront::Frame(len, Some(control.encode())),
        }
    }
}

/// Encodes a frame as a connection carries it.
pub fn encode(group: GroupId, payload: &[u8]) -> Bytes {
    let header = crate::wire::frame::header(group, payload.len());
    [&header[..], payload].concat().into()
}
