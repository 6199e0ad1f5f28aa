//! The way out to one peer: `PeerWriter`, who connects, drains its send queue into the socket, and
//! connects again.
//!
//! Owns the decision when there is to be a link. What is done with it stands in `link`; what outlives
//! both, the queue above all, in the [`Outbox`].
//!
//! ```text
//! asleep ─ something is queued ─► dialling ─ connected ─► linked ─ idle, lost ─► asleep
//!                                    └ failed: wait, stale frames expire ┘
//! ```

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::{Actor, Context};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    net,
    observe::event::{DownReason, PeerEvent},
    runtime::backoff::Backoff,
    runtime::shared::{Shared, count},
    runtime::supervision::{Lifeline, Supervised, live},
    send::link::Link,
    send::outbox::Outbox,
};

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
