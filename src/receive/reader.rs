//! The `Reader`: an actor that owns incoming connections, on a reading arbiter.
//!
//! Each connection is a task of its own there ([`Connection`]), which lives no longer than its Reader.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use actix::{Actor, Addr, Context, Handler, Message};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    net::{
        tcp::{DetachedStream, Stream},
        tls::Endpoint,
    },
    receive::{
        admission::Admission, connection::Connection, context::ReceiveContext, source::Source,
    },
    runtime::{
        failpoints::{Failpoint, Failpoints},
        load_counter::LoadGuard,
        supervision::{Lifeline, Supervised, live, until_all_ends},
    },
};

/// The actor; one for each reading arbiter.
#[derive(Debug)]
pub(crate) struct Reader {
    context: ReceiveContext,
    failpoints: Failpoints,
    lifeline: Lifeline,
    /// Cancelled when the Reader ends, which ends its connections.
    connections: CancellationToken,
    /// Cancels `connections` on drop, also after a panic.
    _end_connections: DropGuard,
}

impl Reader {
    pub(crate) fn start(
        context: ReceiveContext,
        failpoints: Failpoints,
        lifeline: Lifeline,
    ) -> Addr<Self> {
        let connections = CancellationToken::new();
        Actor::start(Reader {
            context,
            failpoints,
            lifeline,
            _end_connections: connections.clone().drop_guard(),
            connections,
        })
    }
}

impl Actor for Reader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (lifecycle, failpoints) = (self.context.lifecycle.clone(), self.failpoints.clone());
        live(
            self,
            ctx,
            until_all_ends(lifecycle, failpoints, Failpoint::Reader),
        );
    }
}

impl Supervised for Reader {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Gives a connection to a Reader. Sent by the `Listener`.
#[derive(Debug)]
pub(super) struct Assign {
    pub(super) stream: DetachedStream,
    pub(super) from: SocketAddr,
    pub(super) admission: Admission,
    pub(super) load: LoadGuard,
}

impl Message for Assign {
    type Result = ();
}

impl Handler<Assign> for Reader {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Context<Self>) {
        let from = assign.from;
        let reporter = self.context.accounts.reporter();
        let stream = match assign.stream.attach(&self.context.config) {
            Ok(stream) => stream,
            Err(err) => {
                return reporter.lost_early(Some(from), &err);
            }
        };
        let place = (assign.admission, assign.load);
        // Boxed, because each future around it would hold it twice: as an argument and while it runs.
        let running: Pin<Box<dyn Future<Output = ()>>> = match &self.context.tls {
            None => {
                let source = Source::accepted(stream, place);
                let connection = Connection::new(&self.context, source, from);
                Box::pin(reporter.on_connection(from, connection.run()))
            }
            Some(tls) => {
                let serving = serve_secured(self.context.clone(), tls.clone(), stream, place, from);
                Box::pin(reporter.on_connection(from, serving))
            }
        };
        let reader_ends = self.connections.clone();
        actix_rt::spawn(self.context.lifecycle.track(async move {
            reader_ends.run_until_cancelled(running).await;
        }));
    }
}

/// Makes the TLS handshake, and then serves the connection.
async fn serve_secured(
    context: ReceiveContext,
    tls: Arc<Endpoint>,
    stream: Stream,
    place: (Admission, LoadGuard),
    from: SocketAddr,
) {
    let secured = tokio::select! {
        biased;
        () = context.lifecycle.receiving_ends() => return,
        secured = tls.accept(stream, from) => secured,
    };
    // If it has failed, that is counted and told.
    if let Ok(stream) = secured {
        let connection = Connection::new(&context, Source::accepted(stream, place), from);
        drop(context);
        connection.run().await;
    }
}
