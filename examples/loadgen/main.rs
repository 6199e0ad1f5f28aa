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
//! ```
//!
//! In the last two lines nodes introduce themselves (`--node`), so that one connection carries both
//! questions and answers, and ping needs to listen nowhere.
//!
//! `loadgen keys DIR --nodes 3` makes a CA, and keys and certificates of three nodes. With them, nodes encrypt
//! their connections (`--tls-ca`, `--tls-cert`, `--tls-key`, `--tls-allow`).
//!
//! Every role that listens prints `listening on ADDR` to standard error once it can be reached. It prints its
//! report to standard output when it is done or receives SIGINT or SIGTERM. It fails if something
//! was lost that should not have been, or if the transport's counters do not balance.
//!
//! Each role is in the file of its name. Shared parts: `node.rs` (a transport and how it is
//! stopped), `identity.rs` (who it is), `tls.rs` (its keys), `link.rs` (sending to another node), `payload.rs` (the payload's format),
//! `received.rs` (counts what was received), `report.rs` (the report). Keys are made in `../support/keys.rs`.

// Also used by tests and other programs; loadgen needs only a part of it.
#[allow(dead_code)]
#[path = "../support/keys.rs"]
mod authority;
mod bench;
mod blast;
mod echo;
mod identity;
mod keys;
mod link;
mod node;
mod payload;
mod ping;
mod received;
mod report;
mod sink;
mod tls;

use std::{
    error::Error,
    io::{Write, stderr},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

/// Measures a link, with one process for each role.
#[derive(Parser)]
#[command(after_help = "\
Without --node, links are one-way and answers come over a second link: echo needs the address on
which ping listens, and ping that of echo. Both need fixed ports; they can start in any order.

With --node for both, answers take the connection of the questions: echo needs no --reply-to, and
ping no --listen.")]
enum Role {
    Sink(sink::Args),
    Blast(blast::Args),
    Echo(echo::Args),
    Ping(ping::Args),
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

/// Parses a number of seconds: `30`, `30s` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number.parse().map_err(|err| format!("{err}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|err| err.to_string())
}
