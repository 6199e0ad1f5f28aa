//! A node in a child process that serves calls.
//!
//! ```text
//! row writes   node writes
//!              listening, when its port is open
//! stats        stats and its counters of served calls, as JSON
//! end          end, when it has stopped
//!              served CALL LATE AT, when a handler gets a call: how many microseconds after its deadline, and when
//!              stall LENGTH AT, when the process did not run for a while
//! ```

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{Call, Config, GroupId, Identity, NodeId, Shutdown, Transport};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use crate::{
    balance_watch::BalanceWatch,
    fixed_port::bind_again,
    row::Failure,
    sink::print_line,
    world::{self, ONE_EACH, Role},
};

pub(crate) const ROLE: Role = Role {
    name: "calls-server",
    run,
};

/// Its calls are served by an actor.
pub(super) const BY_ACTOR: GroupId = GroupId::new(1);
/// Its calls are served by a function.
pub(super) const BY_FUNCTION: GroupId = GroupId::new(2);

const MS: Duration = Duration::from_millis(1);
/// What is not a stall.
const TICK: Duration = Duration::from_millis(10);

/// What the handler is to do with a call.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Plan {
    Answer,
    AnswerLater,
    /// With more than one frame holds.
    AnswerAtLength,
    Fail,
    DropIt,
}

pub(super) const PLANS: [Plan; 5] = [
    Plan::Answer,
    Plan::AnswerLater,
    Plan::AnswerAtLength,
    Plan::Fail,
    Plan::DropIt,
];

/// Frames are short, so that long answers travel in parts.
pub(super) const MAX_FRAME: usize = 64 << 10;
const LONG: usize = 200 << 10;

/// Returns the payload of a call.
pub(super) fn question(id: u64, plan: Plan, wait: u8) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u64(id);
    bytes.put_u8(PLANS.iter().position(|it| *it == plan).unwrap_or(0) as u8);
    bytes.put_u8(wait);
    bytes.freeze()
}

/// Returns the answer to a call.
pub(super) fn answer(id: u64, plan: Plan) -> Bytes {
    let times = match plan {
        Plan::AnswerAtLength => LONG / 8,
        _ => 1,
    };
    id.to_be_bytes().repeat(times).into()
}

pub(super) fn config() -> Config {
    Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .max_frame(MAX_FRAME)
        .redial_first(2 * MS)
        .redial_max(50 * MS)
        .stable_after(Duration::ZERO)
        .connect_timeout(500 * MS)
}

fn run(words: &[String]) -> Result<(), Failure> {
    let [addr, incarnation] = words else {
        return Err(Failure::error("a server of calls needs two arguments"));
    };
    world::system(serve(addr.parse()?, incarnation.parse()?))
}

async fn serve(addr: SocketAddr, incarnation: u64) -> Result<(), Failure> {
    let began = Instant::now();
    tell_stalls(began);
    let identity = Identity::new(NodeId::new(2))
        .cluster("torture")
        .incarnation(incarnation);
    let builder = Transport::builder()
        .config(config())
        .identity(identity)
        .serve_calls(BY_ACTOR, Desk { began }.start().recipient());
    let transport = bind_again(&builder, addr).await?;
    transport.serve_fn(BY_FUNCTION, 1_000, move |call| handle(call, began))?;
    let snapshots = BalanceWatch::start([&transport]);
    let mut questions = world::questions();
    print_line("listening")?;
    while let Some(question) = questions.recv().await {
        snapshots.check()?;
        match &question[..] {
            "stats" => {
                let served = transport.stats().served;
                let text = json!({
                    "received": served.received,
                    "answered": served.answered,
                    "failed": served.failed,
                    "unanswered": served.unanswered,
                    "refused": served.refused + served.no_handler,
                    "serving": served.serving,
                    "lost": served.lost_answers,
                });
                print_line(format!("stats {text}"))?;
            }
            _ => {
                transport.stop(Shutdown::Now).await;
                transport.stats().balance()?;
                return print_line("end");
            }
        }
    }
    Ok(())
}

struct Desk {
    began: Instant,
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Call> for Desk {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        ctx.spawn(handle(call, self.began).into_actor(self));
    }
}

/// Says that a handler has the call, and does what its caller wants.
fn handle(call: Call, began: Instant) -> impl Future<Output = ()> {
    let now = Instant::now();
    let late = now.saturating_duration_since(call.deadline());
    let payload = call.payload();
    let id = payload
        .first_chunk()
        .map_or(0, |id| u64::from_be_bytes(*id));
    let byte = |at| payload.get(at).copied().map_or(0, usize::from);
    let (plan, wait) = (PLANS[byte(8) % PLANS.len()], byte(9) as u32);
    let (late, at) = (late.as_micros(), (now - began).as_micros());
    let told = print_line(format!("served {id} {late} {at}"));
    async move {
        if told.is_err() {
            return;
        }
        match plan {
            Plan::Answer | Plan::AnswerAtLength => call.reply(answer(id, plan)),
            Plan::AnswerLater => {
                tokio::time::sleep(MS * wait).await;
                call.reply(answer(id, plan));
            }
            Plan::Fail => call.fail(id as u32, id.to_string()),
            Plan::DropIt => drop(call),
        }
    }
}

/// Tells when this process has not run for a while: it was paused, or had no processor.
fn tell_stalls(began: Instant) {
    thread::spawn(move || {
        let mut before = Instant::now();
        loop {
            thread::sleep(MS);
            let (now, last) = (Instant::now(), before);
            before = now;
            if now - last > TICK {
                let (length, at) = ((now - last).as_micros(), (now - began).as_micros());
                if print_line(format!("stall {length} {at}")).is_err() {
                    return;
                }
            }
        }
    });
}
