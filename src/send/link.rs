//! A `Link`: one connection to a peer, from when it is made to when it ends.
//!
//! Takes batches from the queue and writes them, watches the far end while there is nothing to write,
//! and reports when the link is up and down. When the link ends, the frames that are not written whole
//! return to the front of the queue, or are dropped if the queue is closed.

use std::{
    io::{self, IoSlice},
    mem,
    pin::pin,
    sync::Arc,
};

use futures::future::OptionFuture;

use crate::{
    net::{
        clock::{CoarseInstant, EXPIRY_SLACK},
        tcp::{Readiness, Stream},
        time::timeout,
    },
    observe::event::DownReason,
    runtime::failpoints::Failpoint,
    send::{
        back_channel::{BackChannel, lost},
        direct_write::SendPattern,
        idle_timer::{Due, IdleTimer},
        peer_state::PeerState,
        queue::Batch,
        writer_context::WriterContext,
    },
};

/// Slices of one vectored write.
const SLICES: usize = 64;

/// Bytes written to one peer before the other peers of this arbiter get their turn.
const YIELD_AFTER: usize = 1 << 20;

/// A link that is up.
pub(crate) struct Link<'w> {
    context: &'w WriterContext,
    peer: &'w PeerState,
    stream: Arc<Stream>,
    back_channel: BackChannel,
    epoch: u64,
    /// Why it ended. Stays `Ended` if `run` is cancelled or panics.
    reason: DownReason,
}

impl<'w> Link<'w> {
    pub(crate) fn open(
        context: &'w WriterContext,
        peer: &'w PeerState,
        stream: Stream,
        back_channel: BackChannel,
    ) -> Self {
        let epoch = peer.connected();
        context.reporter.link_up(peer.addr, epoch);
        peer.queue.link_begins(stream.written());
        Link {
            context,
            peer,
            stream: Arc::new(stream),
            back_channel,
            epoch,
            reason: DownReason::Ended,
        }
    }

    /// Writes what is queued until the link ends. Returns why it ended.
    pub(crate) async fn run(mut self) -> DownReason {
        let (peer, reporter) = (self.peer.addr, &self.context.reporter);
        let fenced = self.back_channel.may_be_superseded();
        let work = async {
            let superseded = fenced.then(|| self.back_channel.superseded());
            tokio::select! {
                biased;
                Some(()) = OptionFuture::from(superseded) => {
                    DownReason::Superseded
                }
                reason = self.write_all() => reason,
            }
        };
        self.reason = reporter.on_link(peer, self.epoch, work).await;
        self.reason
    }

    async fn write_all(&self) -> DownReason {
        let failpoints = &self.context.failpoints;
        let mut idle_timer = IdleTimer::new(self.context.config.idle_timeout);
        let mut pattern = SendPattern::default();
        let mut unfinished = None;
        let (mut was_idle, mut written) = (false, 0);
        loop {
            failpoints.hit(Failpoint::BeforeTake);
            let Some(mut batch) = unfinished.take().or_else(|| self.take()) else {
                if self.peer.queue.is_done() {
                    return DownReason::Ended;
                }
                (pattern, unfinished) = match self.wait_for_work(&mut idle_timer, pattern).await {
                    Ok(woken) => woken,
                    Err(reason) => return reason,
                };
                was_idle = true;
                continue;
            };
            if mem::take(&mut was_idle) {
                pattern.woken_by(batch.count().frames);
            }
            failpoints.hit(Failpoint::AfterTake);
            match self.write(&mut batch).await {
                Ok(bytes) => written += bytes,
                Err(reason) => {
                    batch.link_ended();
                    self.peer.report_dropped(&self.peer.queue.take_untold());
                    return reason;
                }
            }
            failpoints.hit(Failpoint::AfterWrite);
            if written >= YIELD_AFTER {
                written = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes the next batch from the queue, and reports what went stale there.
    fn take(&self) -> Option<Batch> {
        let taken = self.peer.queue.take(CoarseInstant::now());
        self.peer.report_dropped(&taken.dropped);
        if taken.ask {
            self.peer.queue.acknowledged(self.stream.acknowledged());
        }
        taken.batch
    }

    /// Waits for something to write. Meanwhile senders may write lone frames themselves, and the far end
    /// is watched: if it closes an idle link, as a peer that restarts does, that is noticed before a
    /// frame is lost to it. Returns how frames have been coming and the batch that a sender left
    /// unfinished, or why the link must end.
    async fn wait_for_work(
        &self,
        idle_timer: &mut IdleTimer,
        pattern: SendPattern,
    ) -> Result<(SendPattern, Option<Batch>), DownReason> {
        let queue = &self.peer.queue;
        idle_timer.begin();
        let idle = self.peer.direct_write.begin_idle(&self.stream, pattern);
        let mut closed = pin!(self.back_channel.until_far_end_closes(&self.stream));
        let mut work = pin!(idle.until_work(queue));
        loop {
            tokio::select! {
                biased;
                reason = &mut closed => return Err(reason),
                () = &mut work => break,
                () = &mut idle_timer.fired => match idle_timer.due(idle.last_direct_write()) {
                    Due::Nothing => {}
                    Due::ReleaseMemory => {
                        queue.acknowledged(self.stream.acknowledged());
                        queue.trim();
                    }
                    Due::EndLink => return Err(DownReason::Idle),
                },
            }
        }
        Ok(idle.end())
    }

    /// Writes the whole batch, except frames that go stale meanwhile. Returns how many bytes it wrote.
    async fn write(&self, batch: &mut Batch) -> Result<usize, DownReason> {
        let mut written = 0;
        while !batch.is_empty() {
            let ready = match self.stream.ready_now() {
                Some(ready) => ready.map_err(|err| lost(&err))?,
                None => match self.wait_until_ready(batch).await? {
                    Some(ready) => ready,
                    None => continue,
                },
            };
            if ready.is_readable()
                && let Some(reason) = self.back_channel.read(&self.stream)
            {
                return Err(reason);
            }
            if !ready.is_writable() {
                continue;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = batch.slices(&mut slices);
            match self.stream.try_write(&slices[..filled]) {
                Ok(n) => {
                    written += n;
                    batch.advance(n);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(lost(&err)),
            }
            if !batch.is_empty() {
                self.context.failpoints.hit(Failpoint::MidWrite);
            }
        }
        Ok(written)
    }

    /// Waits until the socket is ready again, and drops what goes stale meanwhile. Called when the kernel
    /// takes no more, because the peer is slow, stopped or cut off. Returns `None` if the socket is not
    /// ready yet, but the caller must wait anew: frames may have gone stale, the first frame that can go
    /// stale was pushed, or the queue has ended.
    async fn wait_until_ready(&self, batch: &mut Batch) -> Result<Option<Readiness>, DownReason> {
        let queue = &self.peer.queue;
        let ready = self.stream.ready();
        let ready = match batch.next_expiry(CoarseInstant::now()) {
            Some(expiry) => timeout(expiry + EXPIRY_SLACK, ready).await.ok(),
            // Nothing can go stale until something is pushed.
            None => tokio::select! {
                ready = ready => Some(ready),
                () = self.peer.until_ready(), if !queue.is_done() => None,
            },
        };
        let now = CoarseInstant::now();
        batch.expire(now);
        self.peer.report_dropped(&queue.expire(now));
        ready.transpose().map_err(|err| lost(&err))
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // Counted while the peer has its link, because then it is not forgotten.
        let receipt = self.peer.queue.link_ended(self.stream.acknowledged());
        self.peer.disconnected();
        let (peer, reporter) = (self.peer.addr, &self.context.reporter);
        reporter.link_down(peer, self.epoch, self.reason, receipt);
    }
}
