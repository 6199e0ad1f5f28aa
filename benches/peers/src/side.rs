//! One side of one contestant: what a process that was started for it does.
//!
//! At the end it prints its measurements on standard output.

use std::{
    fmt,
    io::{Write, stdout},
    net::{SocketAddr, TcpListener},
    process::exit,
};

use clap::ValueEnum;

use crate::{
    Failure,
    call_ours::{self, By},
    call_plain, contestants,
    figures::Figures,
    framed, ours, raw,
    started::{Side, anywhere, live_no_longer_than_it_should},
    threads::Threads,
    work::{Task, Work, value_name},
};

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

/// The contestants, in the order of the table.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, ValueEnum)]
pub(super) enum Contestant {
    /// Raw sockets that write 64 KiB at a time.
    #[value(name = "raw-64k")]
    Raw64,
    /// Raw sockets that write 256 KiB at a time.
    #[value(name = "raw-256k")]
    Raw256,
    /// This crate.
    #[value(name = "actix-transport")]
    Ours,
    /// This crate with TLS, which needs sessions.
    #[value(name = "actix-transport-tls")]
    OursTls,
    /// This crate; the callers run on a multi-threaded tokio runtime, not on an arbiter.
    #[value(name = "actix-transport-multi")]
    OursMulti,
    /// A carefully written program on plain tokio, shared with loadgen.
    Tokio,
    /// The same on a multi-threaded runtime.
    TokioMulti,
    TokioRustls,
    #[value(name = "actix-per-frame")]
    ActixPerFrame,
    Quinn,
    Libzmq,
    Tonic,
    Tarpc,
    #[value(name = "ractor_cluster")]
    RactorCluster,
    #[value(name = "actix-telepathy")]
    ActixTelepathy,
}

impl Contestant {
    /// Returns whether the table has a row for it in cases with this task.
    pub(super) fn has_a_row(self, task: Task) -> bool {
        use Contestant::*;

        match (task, self) {
            (Task::Call, Ours | OursMulti | Tokio | TokioMulti | Tonic | Tarpc) => true,
            (Task::Call, _) => false,
            (_, one) => ![OursMulti, TokioMulti].contains(&one),
        }
    }

    /// Returns the reason if a contestant cannot take part.
    pub(super) fn absence(self, peers: usize) -> Option<&'static str> {
        const ONE_LINK: &str = "nodes have one connection to each other, and a process is one node";
        match self {
            Contestant::RactorCluster | Contestant::ActixTelepathy if peers > 1 => Some(ONE_LINK),
            Contestant::Libzmq if cfg!(not(feature = "libzmq")) => {
                Some("not built, as it needs a C++ compiler")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&value_name(self))
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    live_no_longer_than_it_should();

    let encrypts = args.contestant == Contestant::OursTls;
    let work = &Work {
        sessions: encrypts || args.work.sessions,
        tls: encrypts,
        ..args.work.clone()
    };
    let (side, to) = (args.side, &args.to[..]);
    if side == Side::Send && to.len() != work.peers {
        return Err(format!("{} addresses for {} peers", to.len(), work.peers).into());
    }
    let figures = match args.contestant {
        Contestant::Raw64 => raw::run(side, work, to, 64 << 10)?,
        Contestant::Raw256 => raw::run(side, work, to, 256 << 10)?,
        Contestant::Ours | Contestant::OursTls => {
            actix::System::new().block_on(with_ours(side, work, to, Threads::Current))?
        }
        Contestant::OursMulti => {
            actix::System::new().block_on(with_ours(side, work, to, Threads::Multi))?
        }
        Contestant::Tokio => {
            contestants::on_one_thread(with_tokio(side, work.clone(), to.to_vec()))?
        }
        Contestant::TokioMulti => {
            contestants::on_all_threads(with_tokio(side, work.clone(), to.to_vec()))?
        }
        Contestant::TokioRustls => contestants::tokio_rustls::run(side, work, to)?,
        Contestant::ActixPerFrame => contestants::actix_per_frame::run(side, work, to)?,
        Contestant::Quinn => contestants::quinn::run(side, work, to)?,
        #[cfg(feature = "libzmq")]
        Contestant::Libzmq => contestants::libzmq::run(side, work, to)?,
        #[cfg(not(feature = "libzmq"))]
        Contestant::Libzmq => return Err("libzmq is not built".into()),
        Contestant::Tonic => contestants::tonic::run(side, work, to)?,
        Contestant::Tarpc => contestants::tarpc::run(side, work, to)?,
        Contestant::RactorCluster => contestants::ractor_cluster::run(side, work, to)?,
        Contestant::ActixTelepathy => contestants::actix_telepathy::run(side, work, to)?,
    };
    writeln!(stdout(), "{figures}")?;
    // Threads that a library leaves behind are not waited for.
    exit(0)
}

async fn with_ours(
    side: Side,
    work: &Work,
    to: &[SocketAddr],
    callers: Threads,
) -> Result<Figures, Failure> {
    match (work.task, side) {
        (Task::Call, Side::Send) => call_ours::call(work, to[0], callers).await,
        (Task::Call, Side::Receive) => call_ours::serve(work, By::Function).await,
        (_, Side::Send) => ours::send(work.clone(), to).await,
        (_, Side::Receive) => ours::receive(work).await,
    }
}

async fn with_tokio(side: Side, work: Work, to: Vec<SocketAddr>) -> Result<Figures, Failure> {
    match (work.task, side) {
        (Task::Call, Side::Send) => call_plain::call(&work, to[0]).await,
        (Task::Call, Side::Receive) => call_plain::serve(&work).await,
        (_, Side::Send) => framed::send(work, &to).await,
        (_, Side::Receive) => framed::receive(&work).await,
    }
}

/// Returns a local address with a port that is free now, for libraries that do not report the port
/// that the system chose for them.
pub(super) fn somewhere() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(anywhere())?.local_addr()?)
}
