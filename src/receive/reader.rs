//! The reader: owns connections that others made to us and turns their bytes into frames.
//!
//! A `Reader` is an actor on an I/O arbiter; each of its connections is a task there, which reads,
//! has `deliver` deliver, and reads on only when that is done: the back-pressure. The tasks live no
//! longer than their Reader. Links are one-way, so nothing is ever written here.
//!
//! What a connection may cost: a buffer for what has arrived (grown as reads fill it, given back when
//! the connection rests), and bounded work between two yields. What it may not do: announce a frame
//! longer than the limit, or take forever over one.

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, Addr, Context, Handler, Message};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    net,
    receive::{admission::Admission, connection::Connection},
    runtime::{
        failpoints::Failpoint,
        load_counter::LoadGuard,
        shared::Shared,
        supervision::{Lifeline, Supervised, live},
    },
};

/// The actor; one for each reading arbiter.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    lifeline: Lifeline,
    /// Ends the connections when the Reader does, however that happens.
    connections: CancellationToken,
    _end: DropGuard,
}

impl Reader {
    pub(crate) fn start(shared: Arc<Shared>, lifeline: Lifeline) -> Addr<Self> {
        let connections = CancellationToken::new();
        let reader = Reader {
            shared,
            lifeline,
            _end: connections.clone().drop_guard(),
            connections,
        };
        Actor::start(reader)
    }
}

impl Actor for Reader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        live(
            self,
            ctx,
            async move { shared.killed(Failpoint::Reader).await },
        );
    }
}

impl Supervised for Reader {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Gives a connection to a Reader. Not for users: the `Listener` sends it.
#[derive(Debug)]
pub(crate) struct Assign {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) from: SocketAddr,
    pub(crate) admission: Admission,
    pub(crate) carried: LoadGuard,
}

impl Message for Assign {
    type Result = ();
}

impl Handler<Assign> for Reader {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Context<Self>) {
        let shared = self.shared.clone();
        let stream = match net::adopt(assign.stream, &shared.config) {
            Ok(stream) => stream,
            Err(err) => {
                tracing::debug!(from = %assign.from, %err, "connection was lost before it was read");
                return;
            }
        };
        let (tasks, receiving) = (shared.tasks.clone(), shared.receiving.token());
        let life = self.connections.clone();
        let guards = (assign.admission, assign.carried, receiving);
        let connection = Connection::new(&shared, stream, assign.from, guards);
        actix_rt::spawn(tasks.track_future(async move {
            life.run_until_cancelled(connection.run()).await;
        }));
    }
}
