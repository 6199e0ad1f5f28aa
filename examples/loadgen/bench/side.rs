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
    datagrams,
    figures::Figures,
    framed, idle, ours, raw, round_trip,
    started::{Side, live_no_longer_than_it_should},
    work::{Task, Work, value_name},
};
use crate::Failure;

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
    /// This crate.
    Ours,
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
        Contestant::Ours | Contestant::OursTls => match (work.task, args.side) {
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
            (Task::Idle, _) => Err("plain tokio has no such case".into()),
        }
    })
}
