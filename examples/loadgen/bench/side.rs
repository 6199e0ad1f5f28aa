//! One side of one contestant: what a process started by the bench does.
//!
//! A receiver says on standard output where it listens; both say there, at their end, what they
//! measured. Neither outlives the bench, whose end closes their standard input, nor a minute.

use std::{
    fmt,
    io::{Read, Write, stderr, stdin, stdout},
    net::SocketAddr,
    process::exit,
    thread,
    time::Duration,
};

use clap::ValueEnum;

use super::{
    datagrams,
    figures::Figures,
    framed, idle, ours, raw, round_trip,
    work::{Task, Work, value_name},
};
use crate::Failure;

/// How long a run may take: some fifty times as long as it should.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stands before the addresses.
pub(super) const ANNOUNCEMENT: &str = "listening on ";

/// Started by bench, for one side of one run.
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
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(super) enum Side {
    Send,
    Receive,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    thread::spawn(end_with_bench);
    thread::spawn(lose_patience);

    let (work, to) = (args.work, args.to);
    if args.side == Side::Send && to.len() != work.peers {
        return Err(format!("{} addresses for {} peers", to.len(), work.peers).into());
    }
    let figures = match args.contestant {
        Contestant::Raw64 => apart(move || raw::run(args.side, &work, &to, 64 << 10))?,
        Contestant::Raw256 => apart(move || raw::run(args.side, &work, &to, 256 << 10))?,
        Contestant::Tokio => apart(move || with_tokio(args.side, work, &to))?,
        Contestant::Ours => match (work.task, args.side) {
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

/// Says where to send to.
pub(super) fn announce(addrs: &[SocketAddr]) -> Result<(), Failure> {
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    writeln!(stdout(), "{ANNOUNCEMENT}{}", addrs.join(","))?;
    Ok(())
}

/// Returns the local address with a port of the system's choice.
pub(super) fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Runs what has no use for the actors of this thread.
fn apart<T: Send + 'static>(
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

fn end_with_bench() {
    // Nothing is ever written to it, so what ends this is the end of it.
    let _ = stdin().read(&mut [0]);
    exit(1);
}

fn lose_patience() {
    thread::sleep(PATIENCE);
    let _ = writeln!(stderr(), "not done after {PATIENCE:?}");
    exit(1);
}
