//! Tortures the transport: faults, hostile input and long runs, each with a verdict and figures.
//!
//! ```sh
//! cargo run --release --example torture -- gate             # everything, in minutes
//! cargo run --release --example torture -- long             # everything, in less than an hour
//! cargo run --release --example torture -- cuts --tier long # one row of it
//! cargo run --release --example torture -- cuts --seed 7    # as it went when it failed
//! cargo run --example torture -- defects                    # whether the tests would find anything
//! ```
//!
//! A row is one line of the table: what is done to the transport and what must hold meanwhile. The
//! rows stand in files of their own under `rows/`; `row.rs` says what a row is. They share: `proxy.rs`
//! (a connection that is cut, slowed or bent on purpose), `stamp.rs` (frames that say who they are),
//! `reconcile.rs` (what was sent against what came), `traffic.rs` (threads that offer, actors that
//! take), `track.rs` (what became of a sequence), `world.rs` (nodes, processes, what they cost),
//! `eye.rs` (snapshots, all the time), `heap.rs` (what is held, to the byte).
//!
//! Rows run one after another, each on a thread of its own. The exit code is 1 when one fails.

mod defects;
mod eye;
mod heap;
mod netns;
mod progress;
mod proxy;
mod reconcile;
mod row;
mod rows;
mod sink;
mod stamp;
mod tally;
mod track;
mod traffic;
mod world;

use std::{io::IsTerminal, process::ExitCode, time::SystemTime};

use clap::Parser;

use crate::{
    progress::Progress,
    row::{Outcome, Row, Run, Tier},
};

/// Tortures the transport, and says what held.
#[derive(Parser)]
struct Args {
    /// `gate` or `long` for all rows, or the names of rows.
    #[arg(required_unless_present = "list", value_name = "TIER|ROW")]
    what: Vec<String>,

    /// How much of the rows that are named.
    #[arg(long, value_enum)]
    tier: Option<Tier>,

    /// What chance is drawn from. Without, it is drawn from the clock; it is printed either way.
    #[arg(long)]
    seed: Option<u64>,

    /// Lists the rows and runs nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    // A row that needs a process of its own starts this program again.
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
    if let Some((word, named)) = args.what.split_first()
        && word == "defects"
    {
        return defects::run(named);
    }
    let (tier, rows) = match choose(&args) {
        Ok(choice) => choice,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let seed = args.seed.unwrap_or_else(seed_of_the_day);
    println!("tier {tier} · seed {seed}");
    let mut failed = 0;
    for row in &rows {
        let progress = Progress::of(row.name, std::io::stderr().is_terminal());
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
        println!("{verdict:<8} {:<12} {seconds:>7.1} s  {text}", row.name);
        failed += usize::from(matches!(outcome, Outcome::Failed(_)));
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => {
            println!(
                "{failed} of {} rows failed; again with: --seed {seed}",
                rows.len()
            );
            ExitCode::FAILURE
        }
    }
}

/// The tier and the rows that are asked for.
fn choose(args: &Args) -> Result<(Tier, Vec<&'static Row>), String> {
    let mut tier = args.tier;
    let mut chosen = Vec::new();
    for word in &args.what {
        if let Some(all_of) = Tier::named(word) {
            tier.get_or_insert(all_of);
            chosen.extend(rows::ROWS);
            continue;
        }
        let row = rows::ROWS.iter().find(|row| row.name == word);
        chosen.push(row.ok_or_else(|| format!("there is no row `{word}`; --list lists them"))?);
    }
    Ok((tier.unwrap_or(Tier::Gate), chosen))
}

/// Not the same twice, and short enough to type.
fn seed_of_the_day() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.map_or(0, |now| now.subsec_nanos())) % 1_000_000
}
