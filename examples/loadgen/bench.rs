//! The bench role: compares this crate with raw sockets and with a careful tokio program.
//!
//! Every run is two processes, a sender and a receiver: this program, started with the hidden
//! command of `side.rs`. Each round runs all contestants one after the other, so that other load on
//! the machine affects all of them alike. The result is the median.
//!
//! The same for all contestants: the frames on the wire; the sender writes the whole of every
//! payload; the receiver reads the first and the last byte of every payload; and the receiver
//! measures the time, from the first bytes to the last frame.
//!
//! The files:
//! - cases and their size: `case.rs` and `work.rs`;
//! - contestants: `raw.rs`, `framed.rs` and `ours.rs`; for datagrams `datagrams.rs`;
//!   for round trips `round_trip.rs`; for calls `calls.rs`, `call_plain.rs` and `call_ours.rs`; for idle
//!   connections `idle.rs`;
//! - running them: `child.rs`, `side.rs`, `started.rs`, `keys.rs`, `goal.rs`, `pool.rs` and `cost.rs`;
//! - results: `figures.rs`, `row.rs`, `table.rs`, `call_table.rs` and `chart.rs`.

mod call_ours;
mod call_plain;
mod call_table;
mod calls;
mod case;
mod chart;
mod child;
mod cost;
mod datagrams;
mod figures;
mod framed;
mod goal;
mod idle;
mod keys;
mod ours;
mod pool;
mod raw;
mod round_trip;
mod row;
mod side;
mod started;
mod table;
mod work;

use std::{
    io::{Write, stderr, stdout},
    path::PathBuf,
    thread::available_parallelism,
    time::Instant,
};

use clap::value_parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::{case::Case, child::Pin, row::Row};
pub(crate) use self::{
    side::{Args as SideArgs, run as run_side},
    work::value_name,
};
use crate::{Failure, node::Where};

/// Compares this crate with raw sockets and with plain tokio; takes less than twelve minutes.
///
/// All runs are between processes on this machine, over loopback, so the results are those of
/// the programs and not of a network.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each contestant runs in each case.
    #[arg(long, value_name = "N", default_value = "5", default_value_if("quick", "true", "1"),
          value_parser = value_parser!(u32).range(1..))]
    rounds: u32,

    /// Only the cases whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Few frames and one round: only checks that the bench works.
    #[arg(long)]
    quick: bool,

    /// Pins the round trips with `taskset`: both processes to one core if everything runs on one
    /// arbiter, else each process to its own core.
    #[arg(long)]
    pin: bool,

    /// Where the transport's actors run. Round trips are measured with both settings.
    #[arg(long, value_enum, default_value_t = Where::Dedicated)]
    placement: Where,

    /// Reports as JSON: a line for each case, and a last line for the whole run.
    #[arg(long)]
    json: bool,

    /// Draws the rates into this SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut cases = case::all(args.placement, args.quick);
    if let Some(name) = &args.only {
        cases.retain(|case| case.name.contains(name));
    }
    if cases.is_empty() {
        return Err("no case has a name with this text".into());
    }
    let pin = Pin::new(args.pin);
    if args.pin && !pin.is_possible() {
        let _ = writeln!(stderr(), "nothing is pinned: taskset is not installed");
    }

    let begun = Instant::now();
    let progress = progress(&cases, args.rounds)?;
    let mut rows = Vec::new();
    for case in cases {
        progress.set_message(case.name);
        let row = measure(case, args.rounds, &pin, &progress)?;
        if args.json {
            writeln!(stdout(), "{}", row.json())?;
        }
        rows.push(row);
    }
    progress.finish_and_clear();

    if args.json {
        let cores = available_parallelism().map_or(0, usize::from);
        let summary = json!({
            "summary": {
                "cases": rows.len(),
                "rounds": args.rounds,
                "quick": args.quick,
                "pinned": args.pin && pin.is_possible(),
                "cores": cores,
                "seconds": begun.elapsed().as_secs_f64(),
            }
        });
        writeln!(stdout(), "{summary}")?;
    } else {
        write!(stdout(), "{}", table::render(&rows))?;
    }
    if let Some(file) = &args.svg {
        chart::draw(&rows, file)?;
    }
    Ok(())
}

/// Runs all contestants of a case, one after the other in each round.
fn measure(case: Case, rounds: u32, pin: &Pin, progress: &ProgressBar) -> Result<Row, Failure> {
    let mut row = Row::new(case);
    for _ in 0..row.case.rounds(rounds) {
        for &contestant in row.case.contestants {
            let sample = child::run(contestant, &row.case.work, pin)
                .map_err(|err| format!("{}, {contestant}: {err}", row.case.name))?;
            row.add(contestant, sample);
            progress.inc(1);
        }
    }
    Ok(row)
}

/// Returns a progress bar, which shows nothing if standard error is not a terminal.
fn progress(cases: &[Case], rounds: u32) -> Result<ProgressBar, Failure> {
    let runs = cases.iter();
    let runs = runs.map(|case| u64::from(case.rounds(rounds)) * case.contestants.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?;
    Ok(ProgressBar::new(runs.sum()).with_style(style))
}
