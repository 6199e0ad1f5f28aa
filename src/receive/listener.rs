//! The `Listener`: accepts connections and gives each to the `Reader` that has the fewest.
//!
//! Decides who may connect and which Reader reads. No connection can end the Listener: an error of one
//! connection is skipped, and when the system is out of descriptors or memory the Listener waits,
//! longer each time, instead of spinning. The socket outlives the actor.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix::{Actor, Context};

use crate::{
    net::{
        addr,
        tcp::{self, Acceptor, DetachedStream, ListeningSocket, Stream},
        time::sleep,
    },
    observe::reporter::Reporter,
    receive::{admission::ConnectionLimits, reader::Assign, reader_set::ReaderSet},
    runtime::{
        backoff::Backoff,
        failpoints::{Failpoint, Failpoints},
        lifecycle::Lifecycle,
        supervision::{Lifeline, Supervised, live},
    },
};

/// The actor; one per transport.
#[derive(Debug)]
pub(crate) struct Listener {
    accepting: Accepting,
    lifecycle: Lifecycle,
    failpoints: Failpoints,
    lifeline: Lifeline,
}

impl Listener {
    pub(crate) fn start(
        accepting: Accepting,
        lifecycle: Lifecycle,
        failpoints: Failpoints,
        lifeline: Lifeline,
    ) {
        Actor::start(Listener {
            accepting,
            lifecycle,
            failpoints,
            lifeline,
        });
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (accepting, lifecycle) = (self.accepting.clone(), self.lifecycle.clone());
        let failpoints = self.failpoints.clone();
        live(self, ctx, async move {
            tokio::select! {
                () = lifecycle.receiving_ends() => {}
                () = failpoints.strike(Failpoint::Listener) => {}
                () = accepting.run() => {}
            }
        });
    }
}

impl Supervised for Listener {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// What the Listener accepts from, and what it needs to hand connections on.
#[derive(Debug, Clone)]
pub(crate) struct Accepting {
    pub(crate) socket: Arc<ListeningSocket>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) readers: Arc<ReaderSet>,
    pub(crate) reporter: Reporter,
}

impl Accepting {
    /// Accepts connections without end.
    async fn run(&self) {
        const FIRST_WAIT: Duration = Duration::from_millis(100);
        const MAX_WAIT: Duration = Duration::from_secs(1);
        // No jitter: there is only one Listener, and a random wait of zero would let it spin.
        const FULL_WAIT: f64 = 1.0;

        let mut waits = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut acceptor = None;
        self.readers.all_started().await;
        loop {
            match self.accept(&mut acceptor).await {
                Ok((stream, from)) => {
                    waits.reset();
                    // If the only Reader is being restarted, this connection waits here, and the others
                    // wait in the backlog.
                    self.readers.any().await;
                    self.assign(stream, from);
                }
                // Also waits if the socket could not be attached: that would fail again at once.
                Err(err) if acceptor.is_none() || tcp::is_exhaustion(&err) => {
                    let wait = waits.next(FULL_WAIT);
                    self.reporter.cannot_accept(&err, wait);
                    sleep(wait).await;
                }
                // This error is about one connection: it was reset before it was accepted, or a
                // firewall refused it. The next connection is not affected.
                Err(err) => tracing::debug!(%err, "a connection was lost while it was accepted"),
            }
        }
    }

    /// Waits for the next connection. Attaches the socket first, if that has not succeeded before.
    async fn accept(&self, acceptor: &mut Option<Acceptor>) -> io::Result<(Stream, SocketAddr)> {
        let acceptor = match acceptor {
            Some(acceptor) => acceptor,
            None => acceptor.insert(self.socket.attach()?),
        };
        acceptor.accept().await
    }

    /// Gives an accepted connection to a Reader. If anything fails here, the connection is closed.
    fn assign(&self, stream: Stream, from: SocketAddr) {
        let from = addr::canonical(from);
        let Some(admission) = self.limits.admit(from.ip()) else {
            return self.reporter.turned_away(from);
        };
        let Some((reader, load)) = self.readers.least_loaded() else {
            return;
        };
        let stream = match DetachedStream::detach(stream) {
            Ok(stream) => stream,
            Err(err) => {
                tracing::debug!(%from, %err, "connection was lost before it was read");
                return;
            }
        };
        self.reporter.accepted();
        // The mailbox holds no more of these than there may be connections. If the Reader ends with
        // some in its mailbox, they are closed, and their peers dial again.
        reader.do_send(Assign {
            stream,
            from,
            admission,
            load,
        });
    }
}
