//! The measurement: which contestants and cases take part, how often, and where the results go.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::{Write, stdout},
    path::PathBuf,
    thread::available_parallelism,
    time::Instant,
};

use clap::{ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    Failure,
    case::{self, Case},
    pace::Pace,
    row::Row,
    side::Contestant::{self, Ours, OursMulti, Raw64, Raw256},
    table,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each contestant runs in each case.
    #[arg(long, value_name = "N", default_value = "5", default_value_if("quick", "true", "1"),
          value_parser = value_parser!(u32).range(1..))]
    rounds: u32,

    /// Only the contestants whose name contains one of these, and always this crate and the raw
    /// sockets, which all others are compared with.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,

    /// Only the cases whose name is one of these.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    case: Vec<String>,

    /// Few frames and one round: shows only that it works.
    #[arg(long)]
    quick: bool,

    /// Also writes all figures into this file, as JSON: a line for each case and one for the whole.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The results of a case, and the contestants that failed in it.
pub(super) struct Outcome {
    pub(super) row: Row,
    pub(super) failures: BTreeMap<Contestant, String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |contestant: &Contestant| {
        let name = contestant.to_string();
        let named = args.only.iter().any(|only| name.contains(only));
        args.only.is_empty() || named || [Raw64, Raw256, Ours, OursMulti].contains(contestant)
    };
    let contestants = Contestant::value_variants().iter().copied();
    let contestants: Vec<_> = contestants.filter(wanted).collect();
    let mut cases = case::all(&contestants);
    if !args.case.is_empty() {
        cases.retain(|case| args.case.iter().any(|name| name == case.name));
    }
    if cases.is_empty() {
        return Err("no case has that name".into());
    }

    let begun = Instant::now();
    let turns = cases.iter().map(|case| case.contestants.len() as u64);
    let progress = ProgressBar::new(turns.sum::<u64>() * u64::from(args.rounds));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?;
    progress.set_style(style);
    let outcomes: Vec<_> = cases
        .into_iter()
        .map(|case| measure(case, args, &progress))
        .collect();
    progress.finish_and_clear();

    write!(stdout(), "{}", table::render(&outcomes, &contestants))?;
    if let Some(file) = &args.json {
        let mut file = File::create(file)?;
        for outcome in &outcomes {
            writeln!(file, "{}", outcome.json())?;
        }
        let summary = json!({
            "summary": {
                "cases": outcomes.len(),
                "rounds": args.rounds,
                "quick": args.quick,
                "cores": available_parallelism().map_or(0, usize::from),
                "seconds": begun.elapsed().as_secs_f64(),
            }
        });
        writeln!(file, "{summary}")?;
    }
    match outcomes.iter().any(|outcome| !outcome.failures.is_empty()) {
        true => Err("some contestants failed".into()),
        false => Ok(()),
    }
}

/// Runs the contestants in turns. One that fails does not run again.
fn measure(case: Case, args: &Args, progress: &ProgressBar) -> Outcome {
    let (work, contestants) = (case.work.clone(), case.contestants.clone());
    let mut outcome = Outcome {
        row: Row::new(case),
        failures: BTreeMap::new(),
    };
    let mut pace = Pace::new(&work, args.quick);
    for _ in 0..args.rounds {
        for &contestant in &contestants {
            progress.set_message(format!("{} {contestant}", outcome.row.case.name));
            progress.inc(1);
            if let Entry::Vacant(failure) = outcome.failures.entry(contestant) {
                match pace.run(contestant) {
                    Ok(sample) => outcome.row.add(contestant, sample),
                    Err(err) => {
                        failure.insert(err.to_string());
                    }
                }
            }
        }
    }
    outcome
}

impl Outcome {
    fn json(&self) -> serde_json::Value {
        let mut row = self.row.json();
        // Each contestant has its own number of frames.
        row["frames"].take();
        let failures = self.failures.iter();
        row["failures"] = failures
            .map(|(contestant, err)| (contestant.to_string(), err.as_str().into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        row
    }
}
