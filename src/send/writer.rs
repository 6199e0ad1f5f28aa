//! The `PeerWriter`: connects to one peer, writes what is queued for it, and connects again.
//!
//! Decides when there is a link. What happens on a link is in `link`; what outlives both, above all the
//! queue, is in [`PeerState`].
//!
//! ```text
//! without a link ─ something is queued ─► dialling ─ connected ─► link ─ idle, or lost ─► without a link
//!                                            ├ failed: waits, stale frames are dropped ┘
//!                                            └ the peer's node has dialled: its link is used
//! ```

use std::{mem, net::SocketAddr, pin::pin, sync::Arc};

use actix::{Actor, Context};

use crate::{
    net::{
        random,
        tcp::Stream,
        time::{self, sleep_until, timeout},
        tls::{Endpoint, Expected, HandshakeError},
    },
    runtime::supervision::{Lifeline, Supervised, live},
    send::{
        dialer::{DialFailure, Target},
        greeting::{NotWelcome, greet},
        link::Link,
        peer_state::PeerState,
        redial::Redial,
        wire::{FarEnd, Wire},
        writer_context::WriterContext,
    },
    wire::control::refused::RefusedReason,
};

/// The actor; at most one for each lane of each peer. It ends when it has had neither a link nor anything to write
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
            without_tls: false,
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
    /// Whether the next connection is made without TLS, because the peer did not answer it.
    without_tls: bool,
}

impl Writing {
    /// Writes until the peer has been idle for long, or its queue has ended.
    async fn run(mut self) {
        let idle_timeout = self.context.config.idle_timeout;
        while timeout(idle_timeout, self.peer.until_work()).await.is_ok()
            && !self.peer.queue.is_done()
        {
            let wire = match self.claim() {
                Some(wire) => Some(wire),
                // Boxed, because it is larger than all else here, and a peer seldom dials.
                None => Box::pin(self.dial()).await,
            };
            let Some(wire) = wire else {
                self.peer.demand_nobody();
                continue;
            };
            let begun = time::now();
            let link = Link::open(&self.context, &self.peer, wire);
            let reason = link.run().await;
            let draw = random::fraction();
            self.redial
                .link_ended(time::now(), begun.elapsed(), reason, draw);
        }
    }

    /// Takes a link with the peer's node that nobody writes to: one that the node dialled, usually.
    fn claim(&self) -> Option<Wire> {
        let node = self.peer.node()?;
        let sessions = &self.context.sessions.as_ref()?.context;
        let (link, writing) = sessions.claim_link(node, self.peer.to.lane)?;
        let addr = link.addr;
        Some(Wire::new(writing, FarEnd::Read(link), addr, true))
    }

    /// Dials until there is a connection on which frames may leave. Returns `None` if no frame is left: they
    /// went stale, or the queue was closed. A dial that was asked for without a frame is tried once.
    async fn dial(&mut self) -> Option<Wire> {
        let state = self.peer.clone();
        let _dialling = state.link_wait.dials();
        if self.peer.addr().node().is_some() {
            return self.until_claimed().await;
        }
        let (peer, dialer) = (self.peer.clone(), self.context.dialer.clone());
        loop {
            if let Some(wire) = self.until_turn().await {
                return Some(wire);
            }
            let dialling = async {
                let place = dialer.turn(peer.unanswered()).await;
                match peer.needs_link() {
                    true => Some(dialer.dial(self.target(), place).await),
                    false => None,
                }
            };
            let dialled = match self.unless_claimed(dialling).await {
                Ok(dialled) => dialled?,
                Err(wire) => return Some(wire),
            };
            let failure = match dialled {
                // Not interrupted from here on: the far end may have begun to use the connection.
                Ok((stream, addr)) => match self.greet(stream, addr).await {
                    Ok(wire) => {
                        self.redial.succeeded();
                        return Some(wire);
                    }
                    Err(NotWelcome::Refused(reason)) => {
                        self.refused(addr, reason);
                        continue;
                    }
                    Err(NotWelcome::Untrusted(err)) if self.may_do_without(&err) => {
                        self.without_tls = true;
                        continue;
                    }
                    Err(NotWelcome::Untrusted(err)) => {
                        let lasts = err.lasts();
                        let failure =
                            DialFailure::after_connecting(peer.addr(), addr, err.into_io());
                        self.failed(&failure, lasts);
                        continue;
                    }
                    Err(NotWelcome::Failed(err)) => {
                        DialFailure::after_connecting(peer.addr(), addr, err)
                    }
                },
                Err(failure) => failure,
            };
            self.failed(&failure, false);
        }
    }

    /// Waits for a link with the peer's node, which listens nowhere. Returns `None` if none comes for long.
    async fn until_claimed(&self) -> Option<Wire> {
        loop {
            if let Some(wire) = self.claim() {
                return Some(wire);
            }
            // Whoever waits with nothing queued waits no longer than a frame would.
            let limit = match self.peer.queue.has_frames() {
                true => self.context.config.idle_timeout,
                false => self.peer.queue.stale_after(),
            };
            let limit = limit.min(self.context.config.idle_timeout);
            let heard = timeout(limit, self.peer.until_heard());
            if self.peer.expire_while(heard).await.is_err() {
                self.peer.dial_request.done();
                return None;
            }
        }
    }

    /// Waits until the peer may be dialled, or a link with its node can be used instead. Being heard of ends
    /// the wait.
    async fn until_turn(&mut self) -> Option<Wire> {
        loop {
            let not_before = self.redial.not_before;
            tokio::select! {
                biased;
                () = self.peer.expire_while(sleep_until(not_before)) => return None,
                () = self.peer.dial_request.asked() => return None,
                () = self.peer.until_heard() => if let Some(wire) = self.claim() {
                    return Some(wire);
                }
            }
            self.redial.heard(time::now());
        }
    }

    /// Runs `work`, unless a link with the peer's node can be used before it is done.
    async fn unless_claimed<T>(&self, work: impl Future<Output = T>) -> Result<T, Wire> {
        let mut work = pin!(self.peer.expire_while(work));
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = self.peer.until_heard() => if let Some(wire) = self.claim() {
                    return Err(wire);
                }
            }
        }
    }

    /// Introduces this node on a new connection, and waits for the answer if frames need it.
    async fn greet(&mut self, stream: Stream, addr: SocketAddr) -> Result<Wire, NotWelcome> {
        let without_tls = mem::take(&mut self.without_tls);
        let greeting = async {
            let stream = match &self.context.tls {
                Some(tls) if !(without_tls && tls.is_optional()) => {
                    self.secure(tls, stream, addr).await?
                }
                _ => stream,
            };
            greet(&self.context, &self.peer, (stream, addr)).await
        };
        self.peer.expire_while(greeting).await
    }

    /// Makes the TLS handshake.
    async fn secure(
        &self,
        tls: &Arc<Endpoint>,
        stream: Stream,
        addr: SocketAddr,
    ) -> Result<Stream, NotWelcome> {
        let peer = &self.peer;
        let meant = self.context.sessions.as_ref().and_then(|sessions| {
            let demand = sessions.context.demand(peer.addr());
            demand.or_node(peer.demanded()).node
        });
        let expected = Expected {
            host: peer.addr().host(),
            node: meant,
        };
        let secured = tls.connect(stream, addr, expected).await;
        secured.map_err(NotWelcome::Untrusted)
    }

    /// Returns whether the peer may be dialled without TLS, and seems to have none.
    fn may_do_without(&self, err: &HandshakeError) -> bool {
        let tls = self.context.tls.as_ref();
        tls.is_some_and(|tls| tls.is_optional()) && err.may_be_plain()
    }

    /// Whom to dial. A name that leads to this node itself is a mistake, unless it was said to.
    fn target(&self) -> Target<'_> {
        let me = self
            .context
            .sessions
            .as_ref()
            .map(|sessions| sessions.context.me().node);
        Target {
            addr: self.peer.addr(),
            is_this_node: me.is_some() && self.peer.meant == me,
            unanswered: self.peer.unanswered(),
        }
    }

    /// Reports a failed dial. If the failure `lasts`, the peer is dialled again after the longest wait.
    fn failed(&mut self, failure: &DialFailure, lasts: bool) {
        let (peer, reporter) = (&self.peer, &self.context.reporter);
        peer.dial_failed(failure.answered);
        let (now, draw) = (time::now(), random::fraction());
        let failing = match lasts {
            true => self.redial.refused(now, time::wall_clock(), draw),
            false => self.redial.failed(now, time::wall_clock(), draw),
        };
        peer.failing(failing.failures);
        let DialFailure { err, name, .. } = failure;
        reporter.unreachable(&peer.to, failing.since, failing.failures, err, *name);
    }

    fn refused(&mut self, addr: SocketAddr, reason: RefusedReason) {
        let (peer, reporter) = (&self.peer, &self.context.reporter);
        peer.dial_failed(true);
        let (now, draw) = (time::now(), random::fraction());
        let failing = self.redial.refused(now, time::wall_clock(), draw);
        peer.failing(failing.failures);
        let end = peer.far_end(addr, None, None);
        reporter.link_refused(&end, peer.next_epoch(), reason);
    }
}
