//! Measures this crate and what a user would pick instead, in turns. The script `run` builds and
//! starts it.
//!
//! It is `loadgen bench` with other contestants, and includes the shared sources of loadgen by
//! path. Every run is two processes, a sender and a receiver: this program started again with the
//! hidden command of `side.rs`. Each round runs all contestants one after the other, and the
//! results are medians. The sender writes every payload anew, the receiver looks at its first and
//! last byte, and the receiver takes the time, from the first bytes to the last frame.
//!
//! The contestants are in `contestants/`; each file begins with what the library's documentation
//! recommends for speed. `case.rs` says what is measured, `pace.rs` how many frames a run has.

mod call_table;
mod case;
mod contestants;
mod measure;
mod pace;
mod side;
mod table;

// Loadgen's sources, of which this program needs only a part.
#[allow(dead_code)]
#[path = "../../../examples/support/keys.rs"]
mod authority;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/bench/call_ours.rs"]
mod call_ours;
#[path = "../../../examples/loadgen/bench/call_plain.rs"]
mod call_plain;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/callers.rs"]
mod callers;
#[path = "../../../examples/loadgen/bench/calls.rs"]
mod calls;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/bench/child.rs"]
mod child;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/bench/cost.rs"]
mod cost;
#[path = "../../../examples/loadgen/bench/figures.rs"]
mod figures;
#[path = "../../../examples/loadgen/bench/framed.rs"]
mod framed;
#[path = "../../../examples/loadgen/bench/goal.rs"]
mod goal;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/identity.rs"]
mod identity;
#[path = "../../../examples/loadgen/bench/keys.rs"]
mod keys;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/link.rs"]
mod link;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/bench/ours.rs"]
mod ours;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/payload.rs"]
mod payload;
#[path = "../../../examples/loadgen/bench/pool.rs"]
mod pool;
#[path = "../../../examples/loadgen/bench/raw.rs"]
mod raw;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/bench/row.rs"]
mod row;
#[path = "../../../examples/loadgen/bench/started.rs"]
mod started;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/threads.rs"]
mod threads;
#[allow(dead_code)]
#[path = "../../../examples/loadgen/tls.rs"]
mod tls;
#[path = "../../../examples/loadgen/bench/work.rs"]
mod work;

use std::{
    error::Error,
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;

/// Compares this crate with what a user would pick instead.
#[derive(Parser)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: measure::Args,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Has the same name as in loadgen, because the shared `child.rs` starts it by that name.
    #[command(hide = true)]
    BenchSide(side::Args),
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let command = Command::parse();
    let done = match command.role {
        Some(Role::BenchSide(args)) => side::run(&args),
        None => measure::run(&command.measure),
    };
    let Err(err) = done else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(stderr(), "error: {err}");
    ExitCode::FAILURE
}
