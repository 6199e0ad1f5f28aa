//! The `PeerWriter`: connects to one peer, writes what is queued for it, and connects again.
//!
//! Decides when there is a link. What happens on a link is in `link`; what outlives both, above all the
//! queue, is in [`PeerState`].
//!
//! ```text
//! without a link ─ something is queued ─► dialling ─ connected ─► link ─ idle, or lost ─► without a link
//!                                            └ failed: waits, stale frames are dropped ┘
//! ```

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, Context};

use crate::{
    net::{
        random,
        tcp::Stream,
        time::{self, sleep_until, timeout},
    },
    runtime::supervision::{Lifeline, Supervised, live},
    send::{
        back_channel::BackChannel,
        dialer::{DialFailure, Target},
        greeting::{NotWelcome, greet},
        link::Link,
        peer_state::PeerState,
        redial::Redial,
        writer_context::WriterContext,
    },
    wire::control::refused::RefusedReason,
};

/// The actor; at most one for each peer. It ends when it has had neither a link nor anything to write
/// for `idle_timeout`, when its queue has ended, and when the peer is forgotten.
pub(crate) struct PeerWriter {
    lifeline: Lifeline,
    /// Taken when the actor starts.
    writing: Option<Writing>,
}

impl PeerWriter {
    pub(super) fn start(context: WriterContext, peer: Arc<PeerState>, lifeline: Lifeline) {
        let redial = Redial::new(&context.config, time::now());
        let writing = Some(Writing {
            context,
            peer,
            redial,
        });
        Actor::start(PeerWriter { lifeline, writing });
    }
}

impl Actor for PeerWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        let lifecycle = writing.context.lifecycle.clone();
        let forgotten = writing.peer.forgotten.clone();
        let work = async move {
            // Boxed, because each future around it would hold it twice: as an argument and while it runs.
            let writing = Box::pin(writing.run());
            lifecycle.run(forgotten.run_until_cancelled(writing)).await;
        };
        // The report of a stop waits for this, because a batch that is being written is counted only once
        // it is dropped.
        live(self, ctx, work);
    }
}

impl Supervised for PeerWriter {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// The work of a PeerWriter.
struct Writing {
    context: WriterContext,
    peer: Arc<PeerState>,
    redial: Redial,
}

impl Writing {
    /// Writes until the peer has been idle for long, or its queue has ended.
    async fn run(mut self) {
        let idle_timeout = self.context.config.idle_timeout;
        while timeout(idle_timeout, self.peer.until_work()).await.is_ok()
            && !self.peer.queue.is_done()
        {
            // Boxed, because it is larger than all else here, and a peer seldom dials.
            let Some((stream, addr, back_channel)) = Box::pin(self.dial()).await else {
                continue;
            };
            let begun = time::now();
            let link = Link::open(&self.context, &self.peer, addr, stream, back_channel);
            let reason = link.run().await;
            let draw = random::fraction();
            self.redial
                .link_ended(time::now(), begun.elapsed(), reason, draw);
        }
    }

    /// Dials until there is a connection on which frames may leave. Returns `None` if no frame is left: they
    /// went stale, or the queue was closed. A dial that was asked for without a frame is tried once.
    async fn dial(&mut self) -> Option<(Stream, SocketAddr, BackChannel)> {
        let (peer, dialer) = (self.peer.clone(), self.context.dialer.clone());
        loop {
            let waiting = async {
                tokio::select! {
                    () = sleep_until(self.redial.not_before) => {}
                    () = peer.dial_request.asked() => {}
                }
                dialer.turn(peer.unanswered()).await
            };
            let place = peer.expire_while(waiting).await;
            if !peer.needs_link() {
                return None;
            }
            let dialled = peer.expire_while(dialer.dial(self.target(), place)).await;
            let failure = match dialled {
                Ok((stream, addr)) => match self.greet(&stream).await {
                    Ok(back_channel) => {
                        self.redial.succeeded();
                        return Some((stream, addr, back_channel));
                    }
                    Err(NotWelcome::Refused(reason)) => {
                        self.refused(addr, reason);
                        continue;
                    }
                    Err(NotWelcome::Failed(err)) => {
                        DialFailure::after_connecting(&peer.addr, addr, err)
                    }
                },
                Err(failure) => failure,
            };
            self.failed(&failure);
        }
    }

    /// Introduces this node on a new connection, and waits for the answer if frames need it.
    async fn greet(&self, stream: &Stream) -> Result<BackChannel, NotWelcome> {
        let sessions = self.context.sessions.as_ref();
        let greeting = greet(sessions, &self.peer.addr, stream);
        self.peer.expire_while(greeting).await
    }

    /// Whom to dial. A name that leads to this node itself is a mistake, unless it was said to.
    fn target(&self) -> Target<'_> {
        let me = self
            .context
            .sessions
            .as_ref()
            .map(|sessions| sessions.me().node);
        Target {
            addr: &self.peer.addr,
            is_this_node: me.is_some() && self.peer.meant == me,
            unanswered: self.peer.unanswered(),
        }
    }

    fn failed(&mut self, failure: &DialFailure) {
        let (peer, reporter) = (&self.peer, &self.context.reporter);
        peer.dial_failed(failure.answered);
        let (now, draw) = (time::now(), random::fraction());
        let failing = self.redial.failed(now, time::wall_clock(), draw);
        peer.failing(failing.failures);
        let DialFailure { err, name, .. } = failure;
        reporter.unreachable(&peer.addr, failing.since, failing.failures, err, *name);
    }

    fn refused(&mut self, addr: SocketAddr, reason: RefusedReason) {
        let (peer, reporter) = (&self.peer, &self.context.reporter);
        peer.dial_failed(true);
        let (now, draw) = (time::now(), random::fraction());
        let failing = self.redial.refused(now, time::wall_clock(), draw);
        peer.failing(failing.failures);
        let end = peer.far_end(addr, None);
        reporter.link_refused(&end, peer.next_epoch(), reason);
    }
}
