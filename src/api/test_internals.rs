//! Parts of the mechanism, bare, for this crate's own benchmarks and fuzzers. Feature `test-internals`;
//! no promise of any kind is made about it.

#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::{
    io::IoSlice,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};

use crate::{
    Config, Dropped, GroupId, Payload, SendError, SendStats,
    net::clock::CoarseInstant,
    receive::grouping::{Grouping, Round},
    send::queue::{Batch, Limits, SendQueue, Staged, WhenFull},
};
#[cfg(unix)]
use crate::{
    DownReason,
    net::{tcp::Stream, time},
    observe::reporter::Reporter,
    runtime::{failpoints::Failpoints, lifecycle::Lifecycle},
    send::{
        dialer::Dialer,
        direct_write::{DirectWrite, LastDirectWrite},
        link::Link,
        peer_state::PeerState,
        writer_context::WriterContext,
    },
};

/// A send queue without a writer.
#[derive(Debug, Clone)]
pub struct Queue(Arc<SendQueue>);

impl Queue {
    /// Makes one with the bounds that a peer's queue would have.
    pub fn new(config: &Config) -> Self {
        Queue(Arc::new(SendQueue::new(Limits::of_peer(config))))
    }

    /// Pushes a frame, as [`Peer::try_send`](crate::Peer::try_send) does.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// Takes a batch and "writes" all of it at once; says how many bytes that were.
    pub fn write(&self) -> usize {
        let Some(mut batch) = self.0.take(CoarseInstant::now()).batch else {
            return 0;
        };
        let written = bytes_of(&batch);
        batch.advance(written);
        written
    }

    /// Pushes a frame at this moment, in milliseconds.
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push).
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

    /// Pushes a frame as soon as there is room for it, as [`Peer::send`](crate::Peer::send) does. `now`
    /// returns the moment, in milliseconds.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// Drops what is stale at this moment and lends out what is next. Returns also the drops that
    /// nobody was told of before.
    pub fn take_at(&self, now: u64) -> (Option<Lent>, Dropped) {
        let taken = self.0.take(CoarseInstant::from_millis(now));
        (taken.batch.map(Lent), taken.dropped)
    }

    /// Drops what is stale at this moment. Returns the drops that nobody was told of before.
    pub fn expire_at(&self, now: u64) -> Dropped {
        self.0.expire(CoarseInstant::from_millis(now))
    }

    /// Returns the drops that nobody was told of before.
    pub fn take_untold(&self) -> Dropped {
        self.0.take_untold()
    }

    /// Is ready when a writer has something to do.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ready(cx)
    }

    /// Gives back memory.
    pub fn trim(&self) {
        self.0.trim();
    }

    /// Lets nothing in any more.
    pub fn seal(&self) {
        self.0.seal();
    }

    /// Lets nothing in or out any more.
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
    let filled = batch.slices(&mut slices);
    slices[..filled].iter().map(|slice| slice.len()).sum()
}

/// A batch in the hands of a writer. Dropped, what is not written goes back.
pub struct Lent(Batch);

impl Lent {
    /// The bytes that are to be written, as many as one write has slices for.
    pub fn bytes(&self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = self.0.slices(&mut slices);
        let bytes = slices[..filled].iter().map(|slice| &slice[..]);
        bytes.collect::<Vec<_>>().concat()
    }

    /// Notes that `n` bytes more are written.
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Drops what is stale at this moment.
    pub fn expire_at(&mut self, now: u64) {
        self.0.expire(CoarseInstant::from_millis(now));
    }
}

/// A peer's writer without the dialling: it is given its connections.
#[cfg(unix)]
#[derive(Debug)]
pub struct Writer {
    context: WriterContext,
    peer: PeerState,
}

#[cfg(unix)]
impl Writer {
    /// Makes a writer with a queue of its own.
    pub fn new(config: Config) -> Self {
        let (reporter, failpoints) = (Reporter::default(), Failpoints::default());
        let last_direct_write = Arc::new(LastDirectWrite::new(time::now()));
        let direct_write = DirectWrite::new(last_direct_write, failpoints.clone());
        let addr = ([127, 0, 0, 1], 1).into();
        let limits = Limits::of_peer(&config);
        let config = Arc::new(config);
        Writer {
            peer: PeerState::new(addr, limits, direct_write, reporter.clone()),
            context: WriterContext {
                dialer: Arc::new(Dialer::new(config.clone(), reporter.clone())),
                config,
                reporter,
                lifecycle: Lifecycle::default(),
                failpoints,
            },
        }
    }

    /// Returns the queue that it writes from.
    pub fn queue(&self) -> Queue {
        Queue(self.peer.queue.clone())
    }

    /// Pushes a frame, as [`Peer::try_send`](crate::Peer::try_send) does: a lone frame on an idle link
    /// is written by this call.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// Writes to this connection until it ends. Returns why it ended.
    ///
    /// # Panics
    ///
    /// If the socket cannot be attached to the runtime of this thread.
    pub async fn link(&self, socket: OwnedFd) -> DownReason {
        let stream = Stream::from_fd(socket).expect("a runtime with I/O");
        Link::open(&self.context, &self.peer, stream).run().await
    }
}

/// Groups received frames, as a connection does.
#[derive(Debug, Default)]
pub struct Decoder(Grouping);

impl Decoder {
    /// Takes all whole frames off the front of `arrived`, and calls `each` for each group with the
    /// payloads of its frames. Returns false if what follows them is no frame.
    pub fn groups(
        &mut self,
        arrived: &mut BytesMut,
        max_frame: usize,
        mut each: impl FnMut(GroupId, &mut dyn Iterator<Item = Bytes>),
    ) -> bool {
        loop {
            let round = self.0.round(arrived, max_frame, |mut frames| {
                each(frames.group(), &mut frames);
            });
            match round {
                Ok(Round::Complete) => return true,
                Ok(Round::Bounded) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Encodes a frame as it stands on a connection.
pub fn encode(group: GroupId, payload: &[u8]) -> Bytes {
    let header = crate::wire::frame::header(group, payload.len());
    [&header[..], payload].concat().into()
}
