//! A `Link`: one connection to a peer, from when this node begins to write on it to when it ends.
//!
//! Takes batches from the queue and writes them, watches the far end while there is nothing to write,
//! and reports when the link is up and down. When the link ends, the frames that are not written whole
//! return to the front of the queue, or are dropped if the queue is closed.

use std::{convert::Infallible, future::poll_fn, io, mem, pin::pin, sync::Arc};

use futures::future::OptionFuture;

use crate::{
    net::{
        clock::{CoarseInstant, EXPIRY_SLACK},
        time::timeout,
    },
    observe::{event::DownReason, link_end::LinkEnd},
    runtime::failpoints::Failpoint,
    send::{
        direct_write::Idle,
        idle_timer::{Due, IdleTimer},
        numbering::Numbering,
        peer_state::PeerState,
        queue::{Batch, Taken},
        wire::Wire,
        writer_context::WriterContext,
    },
    wire::control::Control,
};

/// Slices of one vectored write.
const SLICES: usize = 64;

/// Bytes written on one link before the other links of this arbiter get their turn, also in the middle of a frame.
///
/// On loopback, the kernel takes frames of 10 MiB as fast as it can copy them. While such frames were written in one
/// turn, the round trips of heartbeats on another lane had a 99th percentile of up to 216 ms, and with this limit
/// of up to 11 ms, on two busy cores. Half of this limit was no better.
const TURN: usize = 1 << 20;

/// A link that is up.
pub(crate) struct Link<'w> {
    context: &'w WriterContext,
    peer: &'w PeerState,
    wire: Arc<Wire>,
    end: LinkEnd,
    epoch: u64,
    /// Why it ended. Stays `Ended` if `run` is cancelled or panics.
    reason: DownReason,
}

impl<'w> Link<'w> {
    pub(crate) fn open(context: &'w WriterContext, peer: &'w PeerState, wire: Wire) -> Self {
        let end = peer.far_end(wire.addr(), wire.node(), wire.certificate());
        peer.queue.link_begins(wire.written(), wire.call_peer());
        let epoch = peer.connected(&end, wire.takes());
        context.reporter.link_up(&end, epoch);
        Link {
            context,
            peer,
            wire: Arc::new(wire),
            end,
            epoch,
            reason: DownReason::Ended,
        }
    }

    /// Writes what is queued until the link ends. Returns why it ended.
    pub(crate) async fn run(mut self) -> DownReason {
        let reporter = &self.context.reporter;
        let may_be_cut = self.wire.may_be_cut();
        let work = async {
            let cut = may_be_cut.then(|| self.wire.cut());
            tokio::select! {
                biased;
                Some(reason) = OptionFuture::from(cut) => reason,
                Err(reason) = self.write_all() => reason,
            }
        };
        self.reason = reporter.on_link(&self.end, self.epoch, work).await;
        self.reason
    }

    async fn write_all(&self) -> Result<Infallible, DownReason> {
        let failpoints = &self.context.failpoints;
        let mut idle_timer = IdleTimer::new(self.context.config.idle_timeout);
        let mut idle = Idle::default();
        let (mut was_idle, mut turn) = (false, TURN);
        self.start(&mut idle.numbering).await?;
        loop {
            failpoints.hit(Failpoint::BeforeTake);
            let taken = match idle.unfinished.take() {
                Some(batch) => Ok(batch),
                None => self.take(),
            };
            let mut batch = match taken {
                Ok(batch) => batch,
                Err(behind) => {
                    // The last frames may have been dropped, and nothing may follow them.
                    self.tell_gap(&mut idle.numbering, behind).await?;
                    if self.peer.queue.is_done() {
                        return Err(self.linger().await);
                    }
                    idle = self.wait_for_work(&mut idle_timer, idle).await?;
                    was_idle = true;
                    continue;
                }
            };
            if mem::take(&mut was_idle) {
                idle.pattern.woken_by(batch.count().frames);
            }
            failpoints.hit(Failpoint::AfterTake);
            let numbering = &mut idle.numbering;
            if let Err(reason) = self.write(&mut batch, numbering, &mut turn).await {
                batch.link_ended();
                self.peer.report_dropped(&self.peer.queue.take_untold());
                return Err(reason);
            }
            failpoints.hit(Failpoint::AfterWrite);
        }
    }

    /// Nothing more will be written. Keeps the link for as long as this node receives, if the far end may
    /// send frames on it: this end may drain, and so may the other.
    async fn linger(&self) -> DownReason {
        if !self.wire.is_both_ways() {
            return DownReason::Ended;
        }
        tokio::select! {
            biased;
            () = self.context.lifecycle.receiving_ends() => DownReason::Ended,
            reason = self.wire.until_over() => reason,
        }
    }

    /// Says which frame will be the first on this link.
    async fn start(&self, numbering: &mut Numbering) -> Result<(), DownReason> {
        if !self.wire.numbers_frames() {
            return Ok(());
        }
        let next = self.peer.queue.first_queued();
        let (stream, base) = self.peer.stream.begin(self.wire.node());
        let start = Control::Start {
            stream,
            next: base + next,
        };
        self.say(&start).await?;
        *numbering = Numbering::from(base, next);
        Ok(())
    }

    /// Says that the next frame is this one, if frames before it are missing.
    async fn tell_gap(&self, numbering: &mut Numbering, next: u64) -> Result<(), DownReason> {
        if numbering.goes_on_with(next) {
            return Ok(());
        }
        let gap = Control::Gap {
            next: numbering.on_the_wire(next),
        };
        self.say(&gap).await?;
        numbering.reached(next);
        Ok(())
    }

    async fn say(&self, control: &Control) -> Result<(), DownReason> {
        let said = self.peer.expire_while(self.wire.say(control));
        tokio::select! {
            biased;
            said = said => {
                let len = said.map_err(|err| DownReason::lost(&err))?;
                self.peer.queue.said(len);
                Ok(())
            }
            reason = self.wire.until_over() => Err(reason),
        }
    }

    /// Takes the next batch from the queue, and reports what went stale there. If there is none, returns
    /// the number of the next frame.
    fn take(&self) -> Result<Batch, u64> {
        let Taken {
            batch,
            dropped,
            behind,
            ask,
        } = self.peer.queue.take(CoarseInstant::now());
        self.peer.report_dropped(&dropped);
        if ask {
            self.peer.queue.acknowledged(self.wire.acknowledged());
        }
        batch.ok_or(behind)
    }

    /// Waits for something to write. Meanwhile senders may write lone frames themselves, and the far end
    /// is watched: if it closes an idle link, as a peer that restarts does, that is noticed before a
    /// frame is lost to it. Returns what senders did meanwhile, or why the link must end.
    async fn wait_for_work(
        &self,
        idle_timer: &mut IdleTimer,
        idle: Idle,
    ) -> Result<Idle, DownReason> {
        let queue = &self.peer.queue;
        idle_timer.begin();
        let idle = self.peer.direct_write.begin_idle(&self.wire, &idle);
        let mut closed = pin!(self.wire.until_over());
        let mut work = pin!(idle.until_work(queue));
        loop {
            tokio::select! {
                biased;
                reason = &mut closed => return Err(reason),
                () = &mut work => break,
                () = &mut idle_timer.fired => match idle_timer.due(idle.last_direct_write()) {
                    Due::Nothing => {}
                    Due::ReleaseMemory => {
                        queue.acknowledged(self.wire.acknowledged());
                        queue.trim();
                    }
                    Due::EndLink if self.wire.stays() => idle_timer.restart(),
                    Due::EndLink => return Err(DownReason::Idle),
                },
            }
        }
        Ok(idle.end())
    }

    /// Writes the whole batch, except frames that go stale meanwhile, and says where frames are missing. Other
    /// links get their turn when `turn` bytes more are written, and after each [`TURN`] from then on.
    async fn write(
        &self,
        batch: &mut Batch,
        numbering: &mut Numbering,
        turn: &mut usize,
    ) -> Result<(), DownReason> {
        while !batch.is_empty() {
            match self.wire.ready_now() {
                Some(ready) if ready?.is_writable() => {}
                Some(_) => continue,
                None => {
                    self.wait_until_ready(batch).await?;
                    continue;
                }
            }
            if let Some(next) = batch.begins_with() {
                // Between two frames, so that none goes out twice.
                if let Some(reason) = self.wire.ends() {
                    return Err(reason);
                }
                self.tell_gap(numbering, next).await?;
            }
            match self.wire.try_write::<SLICES>(batch, *turn) {
                Ok(n) => {
                    numbering.reached(batch.reached());
                    *turn = turn.saturating_sub(n);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(DownReason::lost(&err)),
            }
            if !batch.is_empty() {
                self.context.failpoints.hit(Failpoint::MidWrite);
            }
            if *turn == 0 {
                *turn = TURN;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits until the socket is ready again, and drops what goes stale meanwhile. Called when the kernel
    /// takes no more, because the peer is slow, stopped or cut off. May return before the socket is ready:
    /// frames may have gone stale, the first frame that can go stale was pushed, or the queue has ended.
    async fn wait_until_ready(&self, batch: &mut Batch) -> Result<(), DownReason> {
        let queue = &self.peer.queue;
        let ready = self.wire.until_ready();
        let ready = match batch.next_expiry(CoarseInstant::now()) {
            Some(expiry) => tokio::select! {
                ready = timeout(expiry.saturating_add(EXPIRY_SLACK), ready) => ready.ok(),
                () = poll_fn(|cx| queue.poll_sooner(cx)) => None,
            },
            // Nothing can go stale until something is pushed.
            None => tokio::select! {
                ready = ready => Some(ready),
                () = self.peer.until_ready(), if !queue.is_done() => None,
            },
        };
        let now = CoarseInstant::now();
        batch.expire(now);
        self.peer.report_dropped(&queue.expire(now));
        ready.unwrap_or(Ok(()))
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // Counted while the peer has its link, because then it is not forgotten.
        let receipt = self.peer.queue.link_ended(self.wire.acknowledged());
        self.peer.disconnected();
        let link = self.peer.queue.link();
        self.peer.calls.link_ended(link, self.reason);
        if self.context.lifecycle.stops() {
            self.wire.say_goodbye();
        }
        let reporter = &self.context.reporter;
        reporter.link_down(&self.end, self.epoch, self.reason, receipt);
    }
}
