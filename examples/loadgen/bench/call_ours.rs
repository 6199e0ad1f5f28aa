//! Calls with this crate.

use std::{net::SocketAddr, time::Duration};

use actix::{Actor, Context, Handler};
use actix_transport::{Call, GroupId, Shutdown};

use super::{
    calls,
    cost::Cost,
    figures::Figures,
    goal::Goal,
    ours,
    started::announce,
    work::{Work, touch},
};
use crate::{Failure, threads::Threads};

const GROUP: GroupId = GroupId::new(0);

/// How many calls are served at a time, at most.
const LIMIT: usize = 10_000;

/// How long sending the last answers may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What serves the calls.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum By {
    Function,
    Actor,
}

/// Calls from tasks on this arbiter, or on a multi-threaded runtime that knows nothing of actix.
pub(super) async fn call(work: &Work, to: SocketAddr, from: Threads) -> Result<Figures, Failure> {
    let transport = ours::bind_node(work, 1)?;
    let peer = transport.peer(to)?;
    let threads = from.start()?;
    let call = move |payload| {
        let answer = peer.call(GROUP, payload);
        async move { Ok(answer.await?) }
    };
    calls::measure(&threads.for_callers(), work, call).await
}

pub(super) async fn serve(work: &Work, by: By) -> Result<Figures, Failure> {
    let transport = ours::bind_node(work, 2)?;
    let (goal, reached) = Goal::new(calls::total(work));
    let server = Server { goal };
    match by {
        By::Actor => transport.serve_calls(GROUP, server.start().recipient())?,
        By::Function => transport.serve_fn(GROUP, LIMIT, move |call| {
            let server = server.clone();
            async move { server.answer(call) }
        })?,
    }
    let cost = Cost::begin();
    announce(&[transport.local_addr()])?;
    reached.await?;
    let figures = cost.figures();
    transport.stop(Shutdown::Drain(DRAIN_LIMIT)).await;
    Ok(figures)
}

#[derive(Clone)]
struct Server {
    goal: Goal,
}

impl Server {
    fn answer(&self, call: Call) {
        self.goal.begin();
        let payload = call.payload().clone();
        touch(&payload);
        call.reply(payload);
        self.goal.add(1);
    }
}

impl Actor for Server {
    type Context = Context<Self>;
}

impl Handler<Call> for Server {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Context<Self>) {
        self.answer(call);
    }
}
