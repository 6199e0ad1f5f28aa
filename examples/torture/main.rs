//! Fault tests of the transport: faults, hostile input and long runs, each with a verdict and
//! figures.
//!
//! ```sh
//! cargo run --release --example torture -- gate             # everything, in minutes
//! cargo run --release --example torture -- long             # everything, in less than an hour
//! cargo run --release --example torture -- cuts --tier long # one row, at the size of a tier
//! cargo run --release --example torture -- cuts --seed 7    # repeats a failed run
//! ```
//!
//! A row is one line of the output: a fault, and what must hold under it. Each row has a file in
//! `rows/`, and `row.rs` defines what a row is. The shared parts:
//! - `proxy.rs`: a proxy that cuts, slows or corrupts connections;
//! - `stamp.rs`: frames that identify themselves and carry a checksum;
//! - `traffic.rs`: threads that send, and actors that receive;
//! - `reconcile.rs`, `receive_log.rs`, `track.rs`: compare what was sent with what was received;
//! - `balance_watch.rs`: takes snapshots of the counters all the time;
//! - `world.rs`: nodes, child processes and what they cost; `sink.rs`: a node in a child process;
//! - `named_node.rs`, `node_load.rs`: a node with an identity in a child process; `named_child.rs`: the row's
//!   handle to it; `numbered_log.rs`: what it received, and was told of gaps;
//! - `fixed_port.rs`: a port that processes take one after another;
//! - `keys.rs` of the folder `support`: certificates; `tls_client.rs`: clients that are no nodes;
//! - `netns.rs`: a network namespace; `packet_loss.rs`: drops packets on the way to it;
//! - `heap.rs`: allocated bytes; `progress.rs`: the progress line.
//!
//! Rows run one after another, each on its own thread. The exit code is 1 if one fails.

mod balance_watch;
mod fixed_port;
mod heap;
// Also used by other programs; this one needs only a part of it.
#[allow(dead_code)]
#[path = "../support/keys.rs"]
mod keys;
mod named_child;
mod named_node;
mod netns;
mod node_load;
mod numbered_log;
mod packet_loss;
mod processor_wait;
mod progress;
mod proxy;
mod receive_log;
mod reconcile;
mod row;
mod rows;
mod sink;
mod stamp;
mod tls_client;
mod track;
mod traffic;
mod world;

use std::{io::IsTerminal, process::ExitCode, time::SystemTime};

use clap::Parser;

use crate::{
    progress::Progress,
    row::{Outcome, Row, Run, Tier},
};

/// Runs the transport's fault tests.
#[derive(Parser)]
struct Args {
    /// `gate` or `long` for all rows, or the names of rows.
    #[arg(required_unless_present = "list", value_name = "TIER|ROW")]
    what: Vec<String>,

    /// The size of the rows that are named.
    #[arg(long, value_enum)]
    tier: Option<Tier>,

    /// Seed of all random choices. By default it comes from the clock; it is always printed.
    #[arg(long)]
    seed: Option<u64>,

    /// Lists the rows and runs none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    // A row that needs another process starts this program again.
    if let Some(code) = world::run_as_child(rows::ROLES) {
        return code;
    }
    let args = Args::parse();
    if args.list {
        for row in rows::ROWS {
            println!("{:<12} {}", row.name, row.what);
        }
        return ExitCode::SUCCESS;
    }
    let (tier, rows) = match choose(&args) {
        Ok(choice) => choice,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let seed = args.seed.unwrap_or_else(seed_from_clock);
    println!("tier {tier} · seed {seed}");
    let mut failed = Vec::new();
    for row in &rows {
        let progress = Progress::new(row.name, std::io::stderr().is_terminal());
        let (outcome, took) = row.run(Run {
            tier,
            seed,
            progress: progress.clone(),
        });
        progress.end();
        let seconds = took.as_secs_f64();
        let (verdict, text) = match &outcome {
            Outcome::Held(figures) => ("ok", figures.to_string()),
            Outcome::Skipped(reason) => ("skipped", reason.clone()),
            Outcome::Failed(problem) => ("FAILED", problem.to_string()),
        };
        let line = format!("{verdict:<8} {:<12} {seconds:>7.1} s  {text}", row.name);
        println!("{line}");
        if matches!(outcome, Outcome::Failed(_)) {
            failed.push(line);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    // Once more at the end: of a long log, often only the last lines are kept.
    for line in &failed {
        println!("{line}");
    }
    println!(
        "{} of {} rows failed; repeat with: --seed {seed}",
        failed.len(),
        rows.len()
    );
    ExitCode::FAILURE
}

/// Returns the tier and the rows that the arguments name.
fn choose(args: &Args) -> Result<(Tier, Vec<&'static Row>), String> {
    let mut tier = args.tier;
    let mut chosen = Vec::new();
    for word in &args.what {
        if let Some(all_of) = Tier::from_name(word) {
            tier.get_or_insert(all_of);
            chosen.extend(rows::ROWS);
            continue;
        }
        let row = rows::ROWS.iter().find(|row| row.name == word);
        chosen.push(row.ok_or_else(|| format!("there is no row `{word}`; --list lists them"))?);
    }
    Ok((tier.unwrap_or(Tier::Gate), chosen))
}

/// Returns a seed that differs from run to run and is short enough to type.
fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.map_or(0, |now| now.subsec_nanos())) % 1_000_000
}
