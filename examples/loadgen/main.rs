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
//! ```
//!
//! Every role says `listening on ADDR` on standard error once it can be reached, reports on standard
//! output when it is done or is sent SIGINT or SIGTERM, and fails if something was lost that should
//! not have been, or if the transport's counters do not balance.
//!
//! The roles stand in the files named after them. What they share: `node.rs` (a transport and its
//! end), `link.rs` (the way to another node), `payload.rs` (what is sent), `tally.rs` (what has come
//! in), `report.rs` (what is said at the end).

mod bench;
mod blast;
mod echo;
mod link;
mod node;
mod payload;
mod ping;
mod report;
mod sink;
mod tally;

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
Links are one-way, so an answer comes over a link of its own: echo has to be told where ping
listens and ping where echo does. Both need fixed ports; who starts first does not matter.")]
enum Role {
    Sink(sink::Args),
    Blast(blast::Args),
    Echo(echo::Args),
    Ping(ping::Args),
    Bench(bench::Args),
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
        Role::BenchSide(args) => bench::run_side(args).await,
    };
    let Err(err) = done else {
        return ExitCode::SUCCESS;
    };
    // Not `eprintln`, which panics when nobody reads: whoever started us may have gone.
    let _ = writeln!(stderr(), "error: {err}");
    ExitCode::FAILURE
}

/// Reads a time of so many seconds: `30`, `30s` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number.parse().map_err(|err| format!("{err}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|err| err.to_string())
}
