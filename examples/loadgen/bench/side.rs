//! One side of one contestant: what a process started by the bench does.
//!
//! At its end it prints its figures to standard output.

use std::{
    fmt,
    io::{Write, stdout},
    net::SocketAddr,
    thread,
};

use clap::ValueEnum;

use super::{
    call_ours::{self, By},
    call_plain, datagrams,
    figures::Figures,
    framed, idle, ours, raw, round_trip,
    started::{Side, live_no_longer_than_it_should},
    work::{Task, Work, value_name},
};
use crate::{Failure, threads::Threads};

/// One side of one run; the bench starts it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    contestant: Contestant,

    #[arg(value_enum)]
    side: Side,

    #[command(flatten)]
    work: Work,

    /// Where the other side listens.
    #[arg(long, value_delimiter = ',')]
    to: Vec<SocketAddr>,
}

#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, ValueEnum)]
pub(super) enum Contestant {
    /// Raw sockets that write 64 KiB at a time.
    #[value(name = "raw-64k")]
    Raw64,
    /// Raw sockets that write 256 KiB at a time.
    #[value(name = "raw-256k")]
    Raw256,
    /// A careful program on plain tokio.
    Tokio,
    /// The same program on a multi-threaded runtime.
    TokioMulti,
    /// This crate.
    Ours,
    /// This crate; an actor serves the calls, not a function.
    OursActor,
    /// This crate; the callers run on a multi-threaded tokio runtime, not on an arbiter.
    OursMulti,
    /// This crate with TLS, which needs sessions.
    OursTls,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    live_no_longer_than_it_should();

    let (mut work, to) = (args.work, args.to);
    if args.contestant == Contestant::OursTls {
        (work.sessions, work.tls) = (true, true);
    }
    if args.side == Side::Send && to.len() != work.peers {
        return Err(format!("{} addresses for {} peers", to.len(), work.peers).into());
    }
    let figures = match args.contestant {
        Contestant::Raw64 => on_own_thread(move || raw::run(args.side, &work, &to, 64 << 10))?,
        Contestant::Raw256 => on_own_thread(move || raw::run(args.side, &work, &to, 256 << 10))?,
        Contestant::Tokio => on_own_thread(move || with_tokio(args.side, work, &to))?,
        Contestant::TokioMulti => on_own_thread(move || with_many_threads(args.side, work, &to))?,
        ours @ (Contestant::Ours
        | Contestant::OursActor
        | Contestant::OursMulti
        | Contestant::OursTls) => match (work.task, args.side) {
            (Task::Call, Side::Send) => {
                let from = match ours {
                    Contestant::OursMulti => Threads::Multi,
                    _ => Threads::Current,
                };
                call_ours::call(&work, to[0], from).await?
            }
            (Task::Call, Side::Receive) => {
                let by = match ours {
                    Contestant::OursActor => By::Actor,
                    _ => By::Function,
                };
                call_ours::serve(&work, by).await?
            }
            (Task::Stream, Side::Send) => ours::send(work, &to).await?,
            (Task::Stream, Side::Receive) => ours::receive(&work).await?,
            (Task::Datagrams, Side::Send) => datagrams::send_ours(&work, to[0]).await?,
            (Task::Datagrams, Side::Receive) => datagrams::receive_ours(&work).await?,
            (Task::RoundTrip | Task::OneWayRoundTrip, Side::Send) => {
                round_trip::ask_ours(&work, to[0]).await?
            }
            (Task::RoundTrip | Task::OneWayRoundTrip, Side::Receive) => {
                round_trip::echo_ours(&work).await?
            }
            (Task::Idle, Side::Send) => idle::send(&work, to[0])?,
            (Task::Idle, Side::Receive) => idle::receive(&work).await?,
        },
    };
    writeln!(stdout(), "{figures}")?;
    Ok(())
}

/// Runs a contestant that needs no actors on a thread without an actix system.
fn on_own_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match thread::spawn(run).join() {
        Ok(result) => result,
        Err(_) => Err("panicked".into()),
    }
}

fn with_tokio(side: Side, work: Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match (work.task, side) {
            (Task::Stream, Side::Send) => framed::send(work, to).await,
            (Task::Stream, Side::Receive) => framed::receive(&work).await,
            (Task::Datagrams, Side::Send) => datagrams::send_plain(&work, to[0]).await,
            (Task::Datagrams, Side::Receive) => datagrams::receive_plain(&work).await,
            (Task::RoundTrip | Task::OneWayRoundTrip, Side::Send) => {
                round_trip::ask_plain(&work, to[0]).await
            }
            (Task::RoundTrip | Task::OneWayRoundTrip, Side::Receive) => {
                round_trip::echo_plain(&work).await
            }
            (Task::Call, Side::Send) => call_plain::call(&work, to[0]).await,
            (Task::Call, Side::Receive) => call_plain::serve(&work).await,
            (Task::Idle, _) => Err("plain tokio has no such case".into()),
        }
    })
}

/// Runs calls on a multi-threaded runtime, as `#[tokio::main]` does.
fn with_many_threads(side: Side, work: Work, to: &[SocketAddr]) -> Result<Figures, Failure> {
    let to = to.first().copied();
    let run = async move {
        match (side, to) {
            (Side::Send, Some(to)) => call_plain::call(&work, to).await,
            (Side::Send, None) => Err("no address".into()),
            (Side::Receive, _) => call_plain::serve(&work).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Spawned, because the calling thread is not one of the runtime's workers.
    runtime.block_on(async { tokio::spawn(run).await? })
}
