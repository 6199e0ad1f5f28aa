//! Multi-Paxos over the transport: many groups on three nodes, one of which is stopped for a while.
//!
//! ```sh
//! cargo run --release --example paxos
//! cargo run --release --example paxos -- --groups 100 --clients 1000
//! ```
//!
//! Three replicas, each with its own transport on loopback, decide the values that the clients
//! propose. A client session calls the replica that leads, and waits for the answer before it
//! proposes again. After one third of each run the transport of one replica is stopped, and the
//! others take over its groups. After two thirds it is bound again on the same port, and the others
//! bring it up to date. At the end all logs must agree entry by entry, and the counters of every
//! transport must balance.
//!
//! The default numbers of groups, the 100 bytes and the 100 clients in total are those of the
//! performance table in PhxPaxos' README. PhxPaxos writes to disks and has one machine for each
//! node, so its figures and these cannot be compared.
//!
//! The last run shows what lanes are for. Small values are decided alone at first, and then beside
//! values of 10 MiB in another group with the same leader; its table has the latencies of the small
//! ones. `--one-lane` sends everything on one lane, each message as one frame: then the small values
//! wait behind the long ones. On two processors, which other programs used as well, the p99 of the
//! small values was 2.5 ms alone, 20 ms beside long values, and 83 ms on one lane (medians of five
//! runs). All nodes share these processors: the 20 ms are mostly the wait for one of them.
//!
//! All three logs stay in memory: a value of 100 bytes takes half a kilobyte in all, and one of
//! 10 MiB takes 30 MiB.
//!
//! The parts: `replica.rs` (the protocol), `message.rs` (its bytes), `links.rs` (which lane a message
//! takes), `actor.rs` (the replica on the transport), `cluster.rs` (starting and stopping nodes),
//! `run.rs` and `beside.rs` (the course of a run).

mod actor;
mod beside;
mod check;
mod client;
mod cluster;
mod links;
mod load;
mod long_sends;
mod message;
mod replica;
mod run;
mod store;
mod tables;
mod value;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Parser, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    run::run,
    tables::{long_table, table, verdict},
    value::Value,
};

/// Runs Multi-Paxos on three nodes, one of which is stopped and started again.
#[derive(Parser)]
struct Args {
    /// Number of groups; one run for each number in the list.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 50, 100],
          value_parser = value_parser!(u32).range(1..=10_000))]
    groups: Vec<u32>,

    /// How long a run lasts, in seconds, without its final checks.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(3..=3600))]
    seconds: u64,

    /// Bytes of a value; the first 8 hold the request number.
    #[arg(long, default_value_t = 100, value_parser = payload)]
    payload: usize,

    /// Proposals open at a time in all groups together, at least one in each group.
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=2048))]
    clients: u32,

    /// MiB of a long value; 0 leaves the run with long values out.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(..=64))]
    long: u64,

    /// Sends everything on one lane, for comparison.
    #[arg(long)]
    one_lane: bool,

    /// Seed of the random election timeouts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    /// Returns the number of runs.
    fn runs(&self) -> u64 {
        self.groups.len() as u64 + u64::from(self.long > 0)
    }

    fn run_time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

type Failure = Box<dyn Error>;

#[actix::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Shows nothing if standard error is not a terminal.
    let bar = ProgressBar::new(args.runs() * args.seconds * 1000);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
        bar.set_style(style);
    }

    let mut reports = Vec::new();
    for (&groups, runs) in args.groups.iter().zip(0..) {
        bar.set_position(runs * args.seconds * 1000);
        match run(&args, groups, &bar).await {
            Ok(report) => {
                bar.suspend(|| {
                    let which = format!("groups {groups}");
                    println!("{}", verdict(&which, &report.log, report.transports));
                });
                reports.push(report);
            }
            Err(err) => {
                bar.finish_and_clear();
                eprintln!("failed with {groups} groups: {err}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut beside = None;
    if args.long > 0 {
        bar.set_position((args.runs() - 1) * args.seconds * 1000);
        match beside::run(&args, &bar).await {
            Ok(report) => {
                let verdict = verdict("long values", &report.log, report.transports);
                bar.suspend(|| println!("{verdict}"));
                beside = Some(report);
            }
            Err(err) => {
                bar.finish_and_clear();
                eprintln!("failed with long values: {err}");
                return ExitCode::FAILURE;
            }
        }
    }
    bar.finish_and_clear();
    println!("{}", table(&reports));
    if let Some(report) = beside {
        println!("{}", long_table(&report));
    }
    ExitCode::SUCCESS
}

/// A value must be able to hold its request number, and an answer with values must fit a frame.
fn payload(text: &str) -> Result<usize, String> {
    let payload = text.parse().map_err(|err| format!("{err}"))?;
    let allowed = Value::REQUEST_LEN..=64 * 1024;
    if allowed.contains(&payload) {
        Ok(payload)
    } else {
        Err(format!("has to be in {allowed:?}"))
    }
}
