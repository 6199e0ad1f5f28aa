//! Measures a link, with one process for each role.
//!
//! ```sh
//! cargo run --release --example loadgen -- sink --listen 127.0.0.1:7001 --frames 20000000
//! cargo run --release --example loadgen -- blast --listen 127.0.0.1:0 --to 127.0.0.1:7001 \
//!     --frames 20000000 --size 64
//!
//! cargo run --release --example loadgen -- echo --listen 127.0.0.1:7001 --reply-to 127.0.0.1:7002
//! cargo run --release --example loadgen -- ping --listen 127.0.0.1:7002 --to 127.0.0.1:7001 \
//!     --count 100000 --size 64
//!
//! cargo run --release --example loadgen -- echo --listen 127.0.0.1:7001 --node 1
//! cargo run --release --example loadgen -- ping --to localhost:7001 --node 2 \
//!     --count 100000 --size 64
//!
//! cargo run --release --example loadgen -- beat --to localhost:7001 --node 2 --seconds 5 \
//!     --lane control --beside 40 --beside-lane bulk
//!
//! cargo run --release --example loadgen -- sink --listen 127.0.0.1:7001 --node 1 --frames 10
//! cargo run --release --example loadgen -- blast --node 2 --to 127.0.0.1:7001 --large \
//!     --frames 10 --size 200000000 --lane bulk
//!
//! cargo run --release --example loadgen -- serve --listen 127.0.0.1:7001
//! cargo run --release --example loadgen -- call --to 127.0.0.1:7001 --count 1000000 --size 64 \
//!     --in-flight 64 --deadline 1s
//! ```
//!
//! With `--node`, nodes introduce themselves, so that one connection carries both questions and answers, and ping
//! and beat need to listen nowhere. Messages that are longer than a frame need that, too. Serve and call always do: without
//! `--node`, they choose a number.
//!
//! Beat sends heartbeats at a fixed pace, and bulk frames beside them: how long do heartbeats wait behind long
//! frames, on the same lane or another one?
//!
//! Call makes calls, a fixed number at a time, and counts the failed ones by reason. With `--runtime multi` its callers
//! run on a multi-threaded tokio runtime, as they do in a program that uses actix for nothing else.
//!
//! `loadgen keys DIR --nodes 3` makes a CA, and keys and certificates of three nodes. With them, nodes encrypt
//! their connections (`--tls-ca`, `--tls-cert`, `--tls-key`, `--tls-allow`).
//!
//! Every role that listens prints `listening on ADDR` to standard error once it can be reached. It prints its
//! report to standard output when it is done or receives SIGINT or SIGTERM. It fails if something
//! was lost that should not have been, if a call failed, or if the transport's counters do not balance.
//!
//! Each role is in the file of its name. Shared parts: `node.rs` (a transport and how it is stopped), `identity.rs`
//! (who it is), `tls.rs` (its keys), `link.rs` (sending to another node), `payload.rs` (the payload's format), `bulk.rs`
//! (bulk frames and messages), `callers.rs` (tasks that make calls), `threads.rs` (what they run on), `received.rs` (counts
//! what was received), `report.rs` (the report), `memory.rs` (what the process holds). Keys are made in
//! `../support/keys.rs`.

// Also used by tests and other programs; loadgen needs only a part of it.
#[allow(dead_code)]
#[path = "../support/keys.rs"]
mod authority;
mod beat;
mod bench;
mod blast;
mod bulk;
mod call;
mod callers;
mod echo;
mod identity;
mod keys;
mod link;
mod memory;
mod node;
mod payload;
mod ping;
mod received;
mod report;
mod serve;
mod sink;
mod threads;
mod tls;

use std::{
    error::Error,
    io::{Write, stderr},
    process::ExitCode,
    time::Duration,
};

use actix_transport::Lane;
use clap::Parser;

/// Measures a link, with one process for each role.
#[derive(Parser)]
#[command(after_help = "\
Without --node, links are one-way and answers come over a second link: echo needs the address on
which ping or beat listens, and they need that of echo. Both need fixed ports; they can start in any
order.

With --node for both, answers take the connection of the questions: echo needs no --reply-to, and
ping and beat no --listen. Then echo also answers on the lane of the question.

Serve answers calls, and call makes them. They can start in any order, and choose a number if there is
no --node.")]
enum Role {
    Sink(sink::Args),
    Blast(blast::Args),
    Echo(echo::Args),
    Ping(ping::Args),
    Beat(beat::Args),
    Serve(serve::Args),
    Call(call::Args),
    Bench(bench::Args),
    Keys(keys::Args),
    #[command(hide = true)]
    BenchSide(bench::SideArgs),
}

type Failure = Box<dyn Error + Send + Sync>;

#[actix::main]
async fn main() -> ExitCode {
    let done = match Role::parse() {
        Role::Sink(args) => sink::run(args).await,
        Role::Blast(args) => blast::run(args).await,
        Role::Echo(args) => echo::run(args).await,
        Role::Ping(args) => ping::run(args).await,
        Role::Beat(args) => beat::run(args).await,
        Role::Serve(args) => serve::run(args).await,
        Role::Call(args) => call::run(args).await,
        Role::Bench(args) => bench::run(&args),
        Role::Keys(args) => keys::run(&args),
        Role::BenchSide(args) => bench::run_side(args).await,
    };
    let Err(err) = done else {
        return ExitCode::SUCCESS;
    };
    // Not `eprintln`, which panics if standard error is closed: our parent process may be gone.
    let _ = writeln!(stderr(), "error: {err}");
    ExitCode::FAILURE
}

/// Parses a time in seconds or milliseconds: `30`, `30s`, `0.5` or `500ms`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number.parse().map_err(|err| format!("{err}"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|err| err.to_string())
}

/// Parses the name of a lane: `normal`, `control`, `bulk`, or `lane-3` to `lane-7`.
fn lane(text: &str) -> Result<Lane, String> {
    Lane::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Lane::all().map(|lane| lane.to_string()).collect();
        format!("the lanes are {}", names.join(", "))
    })
}
