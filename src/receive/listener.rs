//! The `Listener`: accepts connections and gives each to the `Reader` that has the fewest.
//!
//! Decides who may connect and which Reader reads. No connection can end the Listener: an error of one
//! connection is skipped, and when the system is out of descriptors or memory, or denies accepting, the
//! Listener waits, longer each time, instead of spinning. The socket outlives the actor; if it is broken
//! from outside, another one is bound at the same address.

use std::{io, net::SocketAddr, sync::Arc};

use actix::{Actor, Context};

use crate::{
    net::{
        addr,
        tcp::{self, Acceptor, DetachedStream, ListeningSocket, Stream},
        time::sleep,
    },
    observe::reporter::Reporter,
    receive::{
        accept_errors::AcceptErrors, admission::ConnectionLimits, reader::Assign,
        reader_set::ReaderSet,
    },
    runtime::{
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
        let mut errors = AcceptErrors::new();
        let mut acceptor = None;
        self.readers.all_started().await;
        loop {
            match self.accept(&mut acceptor).await {
                Ok((stream, from)) => {
                    errors.accepted();
                    // If the only Reader is being restarted, this connection waits here, and the others
                    // wait in the backlog.
                    self.readers.any().await;
                    self.assign(stream, from);
                }
                Err(err) => self.pause(&err, &mut acceptor, &mut errors).await,
            }
        }
    }

    /// Waits for the next connection. Before that, binds the socket again if it was broken, and attaches
    /// it if that has not succeeded before.
    async fn accept(&self, acceptor: &mut Option<Acceptor>) -> io::Result<(Stream, SocketAddr)> {
        let acceptor = match acceptor {
            Some(acceptor) => acceptor,
            None => {
                if self.socket.bind_again()? {
                    self.reporter.bound_again(self.socket.addr());
                }
                acceptor.insert(self.socket.attach()?)
            }
        };
        acceptor.accept().await
    }

    /// Waits after an error, unless it is about one connection: that one was reset before it was accepted,
    /// or a firewall refused it, and the next connection is not affected.
    async fn pause(
        &self,
        err: &io::Error,
        acceptor: &mut Option<Acceptor>,
        errors: &mut AcceptErrors,
    ) {
        if acceptor.is_some() && tcp::is_broken(err) {
            *acceptor = None;
            self.socket.close();
        }
        // A socket that cannot even be bound or attached would fail again at once.
        let lasts = acceptor.is_none() || tcp::is_exhaustion(err);
        match errors.failed(lasts) {
            None => tracing::debug!(%err, "a connection was lost while it was accepted"),
            Some(wait) => {
                self.reporter.cannot_accept(self.socket.addr(), err, wait);
                sleep(wait).await;
            }
        }
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
                return self.reporter.lost_early(Some(from), &err);
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
