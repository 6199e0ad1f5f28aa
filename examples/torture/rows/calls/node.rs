//! A node in a child process that calls the other one, and serves its calls.
//!
//! ```text
//! row writes       node writes
//!                  listening, when its port is open
//! call             nothing: its callers call
//! call-patiently   nothing: its callers call, and none gives up
//! quiet            quiet, when its callers do not call any more
//! flush            flush, when what was queued before has arrived, both ways
//! stats            stats and its counters of calls, as JSON
//! stop             stop, when it has stopped, perhaps while its callers called
//!                  lines of the journal at any time
//! ```

use std::{net::SocketAddr, time::Instant};

use actix::prelude::*;
use actix_transport::{Identity, NodeId, Shutdown, Transport};
use serde_json::json;

use super::{
    callers::{Callers, Load},
    handlers::{Desk, handle, tell_stalls},
    message::{BY_ACTOR, BY_FUNCTION, Life, config},
};
use crate::{
    balance_watch::BalanceWatch,
    fixed_port::bind_again,
    row::Failure,
    sink::print_line,
    world::{self, Role},
};

pub(crate) const ROLE: Role = Role {
    name: "calls-node",
    run,
};

const CALLERS: u64 = 64;

/// What a process is told when it starts.
#[derive(Debug, Copy, Clone)]
pub(super) struct Args {
    pub(super) life: Life,
    /// Where it listens.
    pub(super) addr: SocketAddr,
    /// Where the other node is.
    pub(super) to: SocketAddr,
    pub(super) seed: u64,
}

impl Args {
    pub(super) fn to_words(self) -> Vec<String> {
        let Args {
            life,
            addr,
            to,
            seed,
        } = self;
        let (node, incarnation) = (life.node, life.incarnation);
        vec![
            node.to_string(),
            incarnation.to_string(),
            addr.to_string(),
            to.to_string(),
            seed.to_string(),
        ]
    }

    fn parse(words: &[String]) -> Result<Self, Failure> {
        let [node, incarnation, addr, to, seed] = words else {
            return Err(Failure::error("a node that calls needs five arguments"));
        };
        let life = Life {
            node: node.parse()?,
            incarnation: incarnation.parse()?,
        };
        Ok(Args {
            life,
            addr: addr.parse()?,
            to: to.parse()?,
            seed: seed.parse()?,
        })
    }
}

fn run(words: &[String]) -> Result<(), Failure> {
    world::system(serve(Args::parse(words)?))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let (began, life) = (Instant::now(), args.life);
    tell_stalls(began);
    let identity = Identity::new(NodeId::new(life.node.into()))
        .cluster("torture")
        .incarnation(life.incarnation.into());
    let builder = Transport::builder()
        .config(config())
        .identity(identity)
        .peer(NodeId::new(u64::from(3 - life.node)), args.to)
        .serve_calls(BY_ACTOR, Desk { began }.start().recipient());
    let transport = bind_again(&builder, args.addr).await?;
    transport.serve_fn(BY_FUNCTION, 1_000, move |call| handle(call, began))?;
    let peer = transport.peer(args.to)?;
    let callers = Callers::start(CALLERS, peer, life, args.seed, began);
    let snapshots = BalanceWatch::start([&transport]);
    let mut questions = world::questions();
    print_line("listening")?;
    while let Some(question) = questions.recv().await {
        snapshots.check()?;
        match &question[..] {
            "call" => callers.set_load(Load::Impatient),
            "call-patiently" => callers.set_load(Load::Patient),
            "quiet" => {
                callers.quiet().await?;
                print_line("quiet")?;
            }
            "flush" => {
                callers.flush().await?;
                print_line("flush")?;
            }
            "stats" => {
                let stats = transport.stats();
                let stats = json!({ "called": stats.calls, "served": stats.served });
                print_line(format!("stats {stats}"))?;
            }
            // Or the row has ended.
            _ => {
                transport.stop(Shutdown::Now).await;
                callers.quiet().await?;
                let stats = transport.stats();
                stats.balance()?;
                if stats.calls.pending + stats.served.serving > 0 {
                    return Err(Failure::error("calls are left after a stop"));
                }
                return print_line("stop");
            }
        }
    }
    Ok(())
}
