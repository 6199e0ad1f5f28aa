//! A link: one connection to a peer, from its making to its end.
//!
//! Owns the writing: batches from the queue to the kernel, an eye on the other side while there is
//! nothing to write, and the word about its coming and going. When it ends, however it ends, the
//! batch in its hands goes back to the queue, which knows what of it may be sent again.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    net::clock::{CoarseInstant, EXPIRY_SLACK},
    observe::event::{DownReason, PeerEvent},
    runtime::failpoints::Failpoint,
    runtime::shared::{Shared, count},
    send::doorbell::{Doorbell, Manner},
    send::outbox::Outbox,
    send::queue::{Batch, SendQueue},
};

/// Slices of one vectored write.
const SLICES: usize = 64;

/// Bytes written to one peer before the others on the arbiter have their turn.
const TURN: usize = 1 << 20;

/// How long a link with nothing to send keeps the memory that it had while it was busy.
const KEEP_BUFFERS: Duration = Duration::from_secs(1);

/// What a rest of the writer leaves: how frames have been coming, and what a ring began to write.
type Rested = (Manner, Option<Batch>);

/// A connection that stands. It is told of when it is made and when it goes, however it goes.
pub(crate) struct Link<'w> {
    shared: &'w Shared,
    outbox: &'w Outbox,
    stream: Arc<TcpStream>,
    bell: Arc<Doorbell>,
    epoch: u64,
    /// Why it goes.
    pub(crate) reason: DownReason,
}

impl<'w> Link<'w> {
    pub(crate) fn up(shared: &'w Arc<Shared>, outbox: &'w Outbox, stream: TcpStream) -> Self {
        let epoch = outbox.epoch.fetch_add(1, Relaxed) + 1;
        outbox.connected.store(true, Relaxed);
        count(&shared.counters.connects);
        tracing::debug!(peer = %outbox.addr, epoch, "up");
        let peer = outbox.addr;
        shared.events.tell(&PeerEvent::Up { peer, epoch });
        Link {
            shared,
            outbox,
            stream: Arc::new(stream),
            bell: Doorbell::new(shared.clone()),
            epoch,
            reason: DownReason::Ended,
        }
    }

    /// Writes what there is to write until the link goes; says why it went.
    pub(crate) async fn serve(&mut self) -> DownReason {
        let mut idle = Idle::new(self.shared.config.idle_timeout);
        let (mut written, mut rested) = (0, false);
        let (mut manner, mut left) = (Manner::new(), None);
        loop {
            self.shared.failpoints.hit(Failpoint::BeforeTake);
            let batch = match left.take() {
                Some(batch) => Some(batch),
                None => {
                    let taken = self.outbox.queue.take(CoarseInstant::now());
                    self.outbox.tell(self.shared, &taken.dropped);
                    taken.batch
                }
            };
            let Some(mut batch) = batch else {
                if self.outbox.queue.is_done() {
                    return DownReason::Ended;
                }
                idle.begin();
                (manner, left) = match self.rest(&mut idle, manner).await {
                    Ok(ended) => ended,
                    Err(reason) => return reason,
                };
                rested = true;
                continue;
            };
            if std::mem::take(&mut rested) {
                manner.woken_by(batch.count().frames);
            }
            self.shared.failpoints.hit(Failpoint::AfterTake);
            match self.write(&mut batch).await {
                Ok(bytes) => written += bytes,
                Err(reason) => return reason,
            }
            self.shared.failpoints.hit(Failpoint::AfterWrite);
            if written >= TURN {
                written = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something to write, with an eye on the other side: when it closes an idle link, as a
    /// peer that restarts does, that is seen before a frame is lost to it. Returns what a ring of the
    /// doorbell began to write.
    async fn rest(&self, idle: &mut Idle, manner: Manner) -> Result<Rested, DownReason> {
        let queue = &self.outbox.queue;
        let rest = self.bell.hang(&self.stream, queue, manner);
        let (mut gone, mut rung) = (pin!(self.gone()), pin!(rest.rung()));
        loop {
            tokio::select! {
                biased;
                reason = &mut gone => return Err(reason),
                () = &mut rung => break,
                () = &mut idle.timer => {
                    if idle.is_over(queue, rest.wrote()) {
                        return Err(DownReason::Idle);
                    }
                }
            }
        }
        Ok(rest.end())
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
                self.shared.failpoints.hit(Failpoint::MidWrite);
            }
        }
        Ok(written)
    }

    /// Waits until the socket is ready again, and drops what went stale by then. None when it is not
    /// ready yet, but the batch may have changed.
    async fn stalled(&self, batch: &mut Batch) -> Result<Option<Ready>, DownReason> {
        const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

        let ready = self.stream.ready(BOTH);
        let ready = match batch.next_expiry(CoarseInstant::now()) {
            Some(expiry) => timeout(expiry + EXPIRY_SLACK, ready).await.ok(),
            // Nothing can go stale until something is pushed.
            None => tokio::select! {
                ready = ready => Some(ready),
                () = self.outbox.ready(), if !self.outbox.queue.is_done() => None,
            },
        };
        let now = CoarseInstant::now();
        batch.expire(now);
        let dropped = self.outbox.queue.expire(now);
        self.outbox.tell(self.shared, &dropped);
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
    fn is_over(&mut self, queue: &SendQueue, wrote: Instant) -> bool {
        let now = Instant::now();
        self.since = self.since.max(wrote);
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
