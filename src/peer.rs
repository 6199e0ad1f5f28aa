//! The way out to one peer: `PeerWriter`, who connects, drains its send queue into the socket, and
//! connects again.
//!
//! Owns the link. What outlives it lies in the [`Outbox`]: the queue, with its bounds and counters,
//! and the number of links there have been. A batch is in the writer's hands only while a link
//! stands; whatever happens to either, what the kernel has not taken whole goes back to the queue.
//!
//! ```text
//! asleep ─ something is queued ─► dialling ─ connected ─► linked ─ idle, lost ─► asleep
//!                                    └ failed: wait, stale frames expire ┘
//! ```

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use actix::{Actor, Context};
use futures::FutureExt;
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use crate::{
    backoff::Backoff,
    clock::Tick,
    event::{DownReason, PeerEvent},
    fault::Point,
    net,
    queue::{Batch, Limits, SendQueue},
    shared::{Shared, count},
    stats::PeerStats,
    supervise::{Lifeline, Supervised, live},
};

/// Slices of one vectored write.
const SLICES: usize = 64;

/// Bytes written to one peer before the others on the arbiter have their turn.
const TURN: usize = 1 << 20;

/// How long a link with nothing to send keeps the memory that it had while it was busy.
const KEEP_BUFFERS: Duration = Duration::from_secs(1);

/// What stale frames are looked for later than they go stale: the clock's step, so that one look
/// finds them.
const EXPIRY_SLACK: Duration = Duration::from_millis(10);

/// Everything about one peer that outlives its writer.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) addr: SocketAddr,
    pub(crate) queue: Arc<SendQueue>,
    /// Links made so far.
    epoch: AtomicU64,
    connected: AtomicBool,
}

impl Outbox {
    pub(crate) fn new(addr: SocketAddr, limits: Limits) -> Self {
        Outbox {
            addr,
            queue: Arc::new(SendQueue::new(limits)),
            epoch: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        }
    }

    pub(crate) fn stats(&self) -> PeerStats {
        PeerStats {
            addr: self.addr,
            frames: self.queue.stats(),
            connected: self.connected.load(Relaxed),
            epoch: self.epoch.load(Relaxed),
        }
    }

    /// Waits for something to write, or for the end.
    async fn ready(&self) {
        poll_fn(|cx| self.queue.poll_ready(cx)).await;
    }

    /// Runs `until` to its end and drops what goes stale meanwhile, with a word to the subscribers.
    pub(crate) async fn expiring<F: Future>(&self, shared: &Shared, until: F) -> F::Output {
        let expire = async {
            loop {
                match self.queue.next_expiry(Tick::now()) {
                    Some(expiry) => sleep(expiry + EXPIRY_SLACK).await,
                    None => self.ready().await,
                }
                self.queue.expire(Tick::now());
                self.tell_dropped(shared);
                // A queue that is done with is always ready, and nothing in it expires.
                if self.queue.is_done() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            output = until => output,
            never = expire => never,
        }
    }

    /// Tells the subscribers what was dropped since the last time.
    pub(crate) fn tell_dropped(&self, shared: &Shared) {
        let dropped = self.queue.take_untold();
        shared.events.tell_dropped(Some(self.addr), &dropped);
    }
}

/// Asks whether nobody needs this peer any more. Once it says yes, the peer is forgotten.
pub(crate) type Retire = Box<dyn Fn() -> bool + Send>;

/// The actor; one for each peer.
pub(crate) struct PeerWriter {
    lifeline: Lifeline,
    /// Taken when the actor starts.
    writing: Option<Writing>,
}

impl PeerWriter {
    pub(crate) fn start(
        shared: Arc<Shared>,
        outbox: Arc<Outbox>,
        retire: Retire,
        lifeline: Lifeline,
    ) {
        let redial = Redial::new(&shared);
        let writing = Some(Writing {
            shared,
            outbox,
            retire,
            redial,
        });
        Actor::start(PeerWriter { lifeline, writing });
    }
}

impl Actor for PeerWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let writing = self.writing.take();
        live(self, ctx, async move {
            if let Some(writing) = writing {
                let kill = writing.shared.kill.clone();
                kill.run_until_cancelled(writing.run()).await;
            }
        });
    }
}

impl Supervised for PeerWriter {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// What a PeerWriter does all its life.
struct Writing {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    retire: Retire,
    redial: Redial,
}

impl Writing {
    async fn run(mut self) {
        let idle = self.shared.config.idle_timeout;
        loop {
            // Asleep, without a link.
            if timeout(idle, self.outbox.ready()).await.is_err() {
                if (self.retire)() {
                    return;
                }
                self.outbox.queue.trim();
                continue;
            }
            if self.outbox.queue.is_done() {
                return self.outbox.tell_dropped(&self.shared);
            }
            // Dialling.
            let Some(stream) = self.dial().await else {
                continue;
            };
            // Linked.
            let born = Instant::now();
            let mut link = Link::up(&self.shared, &self.outbox, stream);
            link.reason = link.serve().await;
            self.redial.after_link(born.elapsed(), link.reason);
        }
    }

    /// Tries until there is a connection, or nothing left to make one for.
    async fn dial(&mut self) -> Option<TcpStream> {
        let (shared, outbox) = (&self.shared, &self.outbox);
        loop {
            outbox
                .expiring(shared, sleep_until(self.redial.not_before))
                .await;
            if !outbox.queue.has_frames() {
                return None;
            }
            let dialling = async {
                let _permit = shared.dials.acquire().await;
                count(&shared.counters.dials);
                net::dial(outbox.addr, &shared.config).await
            };
            match outbox.expiring(shared, dialling).await {
                Ok(stream) => {
                    self.redial.failing_since = None;
                    return Some(stream);
                }
                Err(err) => {
                    let event = self.redial.after_failure(outbox.addr, &err);
                    tracing::debug!(peer = %outbox.addr, %err, "unreachable");
                    shared.events.tell(&event);
                }
            }
        }
    }
}

/// When to try to connect again.
struct Redial {
    backoff: Backoff,
    stable_after: Duration,
    not_before: Instant,
    failing_since: Option<(SystemTime, u32)>,
}

impl Redial {
    fn new(shared: &Shared) -> Self {
        Redial {
            backoff: Backoff::new(shared.config.redial_first, shared.config.redial_max),
            stable_after: shared.config.stable_after,
            not_before: Instant::now(),
            failing_since: None,
        }
    }

    fn after_failure(&mut self, peer: SocketAddr, err: &io::Error) -> PeerEvent {
        self.wait();
        let (since, failures) = self.failing_since.unwrap_or_else(|| (SystemTime::now(), 0));
        let failures = failures.saturating_add(1);
        self.failing_since = Some((since, failures));
        PeerEvent::Unreachable {
            peer,
            since,
            failures,
            error: err.kind(),
        }
    }

    fn after_link(&mut self, lived: Duration, reason: DownReason) {
        // A link that was not worth its making is a failure like any other: a peer that accepts and
        // hangs up would otherwise be dialled without pause.
        if lived >= self.stable_after {
            self.backoff.reset();
        }
        if reason != DownReason::Idle {
            self.wait();
        }
    }

    fn wait(&mut self) {
        self.not_before = Instant::now() + self.backoff.next(fastrand::f64());
    }
}

/// A connection that stands. It is told of when it is made and when it goes, however it goes.
struct Link<'w> {
    shared: &'w Shared,
    outbox: &'w Outbox,
    stream: TcpStream,
    epoch: u64,
    /// Why it goes.
    reason: DownReason,
}

impl<'w> Link<'w> {
    fn up(shared: &'w Shared, outbox: &'w Outbox, stream: TcpStream) -> Self {
        let epoch = outbox.epoch.fetch_add(1, Relaxed) + 1;
        outbox.connected.store(true, Relaxed);
        count(&shared.counters.connects);
        tracing::debug!(peer = %outbox.addr, epoch, "up");
        let peer = outbox.addr;
        shared.events.tell(&PeerEvent::Up { peer, epoch });
        Link {
            shared,
            outbox,
            stream,
            epoch,
            reason: DownReason::Ended,
        }
    }

    /// Writes what there is to write until the link goes; says why it went.
    async fn serve(&mut self) -> DownReason {
        let mut idle = Idle::new(self.shared.config.idle_timeout);
        let mut written = 0;
        loop {
            self.shared.faults.hit(Point::BeforeTake);
            let batch = self.outbox.queue.take(Tick::now());
            self.outbox.tell_dropped(self.shared);
            let Some(mut batch) = batch else {
                if self.outbox.queue.is_done() {
                    return DownReason::Ended;
                }
                idle.begin();
                match self.rest(&mut idle).await {
                    Some(reason) => return reason,
                    None => continue,
                }
            };
            self.shared.faults.hit(Point::AfterTake);
            match self.write(&mut batch).await {
                Ok(bytes) => written += bytes,
                Err(reason) => return reason,
            }
            self.shared.faults.hit(Point::AfterWrite);
            if written >= TURN {
                written = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something to write, with an eye on the other side: when it closes an idle link, as a
    /// peer that restarts does, that is seen before a frame is lost to it.
    async fn rest(&self, idle: &mut Idle) -> Option<DownReason> {
        loop {
            tokio::select! {
                biased;
                reason = self.gone() => return Some(reason),
                () = self.outbox.ready() => return None,
                () = &mut idle.timer => {
                    if idle.is_over(&self.outbox.queue) {
                        return Some(DownReason::Idle);
                    }
                }
            }
        }
    }

    /// Hands the batch to the kernel; says how many bytes that were.
    async fn write(&self, batch: &mut Batch) -> Result<usize, DownReason> {
        const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

        let mut written = 0;
        while !batch.is_empty() {
            let ready = match self.stream.ready(BOTH).now_or_never() {
                Some(ready) => ready.map_err(lost)?,
                // The kernel holds as much as it will: the peer is slow, stopped or cut off.
                None => match self.stalled(batch).await? {
                    Some(ready) => ready,
                    None => continue,
                },
            };
            if let Some(reason) = self.spoke_or_closed(ready) {
                return Err(reason);
            }
            if !ready.is_writable() {
                continue;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = batch.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..filled]) {
                Ok(n) => {
                    written += n;
                    batch.advance(n);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(lost(err)),
            }
            if !batch.is_empty() {
                self.shared.faults.hit(Point::MidWrite);
            }
        }
        Ok(written)
    }

    /// Waits until the socket is ready again, and drops what went stale by then. None when it is not
    /// ready yet, but the batch may have changed.
    async fn stalled(&self, batch: &mut Batch) -> Result<Option<Ready>, DownReason> {
        const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

        let ready = match batch.next_expiry(Tick::now()) {
            Some(expiry) => timeout(expiry + EXPIRY_SLACK, self.stream.ready(BOTH))
                .await
                .ok(),
            None => Some(self.stream.ready(BOTH).await),
        };
        let now = Tick::now();
        batch.expire(now);
        self.outbox.queue.expire(now);
        self.outbox.tell_dropped(self.shared);
        ready.transpose().map_err(lost)
    }

    /// Waits until the other side ends the link.
    async fn gone(&self) -> DownReason {
        loop {
            let ready = match self.stream.ready(Interest::READABLE).await {
                Ok(ready) => ready,
                Err(err) => return lost(err),
            };
            if let Some(reason) = self.spoke_or_closed(ready) {
                return reason;
            }
        }
    }

    fn spoke_or_closed(&self, ready: Ready) -> Option<DownReason> {
        if !ready.is_readable() {
            return None;
        }
        match self.stream.try_read(&mut [0]) {
            Ok(0) => Some(DownReason::Closed),
            Ok(_) => Some(DownReason::Spoke),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => None,
            Err(err) => Some(lost(err)),
        }
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        let (peer, epoch, reason) = (self.outbox.addr, self.epoch, self.reason);
        self.outbox.connected.store(false, Relaxed);
        count(&self.shared.counters.disconnects);
        tracing::debug!(%peer, epoch, ?reason, "down");
        self.shared.events.tell(&PeerEvent::Down {
            peer,
            epoch,
            reason,
        });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn lost(err: io::Error) -> DownReason {
    DownReason::Lost(err.kind())
}

/// How long a link has had nothing to send. One timer serves all its rests: it is set when it has
/// gone off, not whenever there is something to send.
struct Idle {
    limit: Duration,
    since: Instant,
    /// Whether the queue holds no memory for nothing.
    trimmed: bool,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Idle {
            limit,
            since: Instant::now(),
            trimmed: false,
            timer: Box::pin(sleep(KEEP_BUFFERS.min(limit))),
        }
    }

    /// The queue has run dry.
    fn begin(&mut self) {
        self.since = Instant::now();
        if self.trimmed {
            self.trimmed = false;
            self.timer
                .as_mut()
                .reset(self.since + KEEP_BUFFERS.min(self.limit));
        }
    }

    /// The timer has gone off: says whether the link has been idle for as long as it may.
    fn is_over(&mut self, queue: &SendQueue) -> bool {
        let now = Instant::now();
        if now >= self.since + KEEP_BUFFERS {
            self.trimmed = true;
            queue.trim();
        }
        let next = match self.trimmed {
            true => self.limit,
            false => KEEP_BUFFERS.min(self.limit),
        };
        self.timer.as_mut().reset(self.since + next);
        now >= self.since + self.limit
    }
}
