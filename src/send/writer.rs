//! The `PeerWriter`: connects to one peer, writes what is queued for it, and connects again.
//!
//! Decides when there is a link. What happens on a link is in `link`; what outlives both, above all the
//! queue, is in [`PeerState`].
//!
//! ```text
//! without a link ─ something is queued ─► dialling ─ connected ─► link ─ idle, or lost ─► without a link
//!                                            └ failed: waits, stale frames are dropped ┘
//! ```

use std::sync::Arc;

use actix::{Actor, Context};

use crate::{
    net::{
        random,
        tcp::Stream,
        time::{self, sleep_until, timeout},
    },
    runtime::supervision::{Lifeline, Supervised, live},
    send::{link::Link, peer_state::PeerState, redial::Redial, writer_context::WriterContext},
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
        while timeout(idle_timeout, self.peer.until_ready()).await.is_ok()
            && !self.peer.queue.is_done()
        {
            // Boxed, because it is larger than all else here, and a peer seldom dials.
            let Some(stream) = Box::pin(self.dial()).await else {
                continue;
            };
            let begun = time::now();
            let reason = Link::open(&self.context, &self.peer, stream).run().await;
            let draw = random::fraction();
            self.redial
                .link_ended(time::now(), begun.elapsed(), reason, draw);
        }
    }

    /// Dials until there is a connection. Returns `None` if no frame is left: they went stale, or the
    /// queue was closed.
    async fn dial(&mut self) -> Option<Stream> {
        let (peer, dialer) = (&self.peer, &self.context.dialer);
        loop {
            let waiting = async {
                sleep_until(self.redial.not_before).await;
                dialer.turn(peer.unanswered()).await
            };
            let place = peer.expire_while(waiting).await;
            if !peer.queue.has_frames() {
                return None;
            }
            let dialled = peer.expire_while(dialer.dial(peer.addr, place)).await;
            let failure = match dialled {
                Ok(stream) => {
                    self.redial.succeeded();
                    return Some(stream);
                }
                Err(failure) => failure,
            };
            peer.dial_failed(failure.answered);
            let (now, draw) = (time::now(), random::fraction());
            let failing = self.redial.failed(now, time::wall_clock(), draw);
            peer.failing(failing.failures);
            let reporter = &self.context.reporter;
            reporter.unreachable(peer.addr, failing.since, failing.failures, &failure.err);
        }
    }
}
