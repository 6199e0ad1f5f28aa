//! 64 callers of one process call another one through a proxy. Connections are cut, held back and refused, the other
//! process is paused and killed, and callers give up at random. Each call ends once, and soon after its deadline at the
//! latest. What its caller is told is true: an answer is the one to its question, and a call that was not sent was seen
//! by no handler. No handler gets a call twice, or much later than its deadline. In the end nothing is left, and without
//! faults the counters of both nodes agree.

mod callers;
mod faults;
mod outcomes;
mod server;

use std::time::Duration;

pub(super) use self::server::ROLE;
use self::{callers::Callers, faults::Ends, outcomes::Outcomes};
use crate::row::{Failure, Figures, Row, Run};

pub(crate) const ROW: Row = Row {
    name: "calls",
    what: "64 callers, cuts, kills, pauses, calls given up: each call ends once, and its caller is told the truth",
    run,
};

/// How late a handler may get a call, by its own clock.
const LATE: Duration = Duration::from_millis(50);

fn run(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.pick(3, 60);
    run.progress.total(rounds);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let mut ends = Ends::start(run.seed)?;
    let callers = Callers::start(ends.addr(), run.seed)?;
    let mut figures = Figures::default();

    for round in 0..rounds {
        ends.torture(&mut draw)?;
        run.progress.set_done(round + 1);
    }
    ends.set_calm();
    callers.wait_for_calls(200)?;
    callers.set_on(false)?;

    // Without faults, towards one life of the other node.
    ends.replace_server(Duration::ZERO)?;
    callers.one_answered()?;
    ends.all_ended(&callers)?;
    let (before, served_before) = (callers.stats(), ends.stats()?);
    callers.set_on(true)?;
    callers.wait_for_calls(run.tier.pick(3_000, 30_000))?;
    callers.set_on(false)?;
    ends.all_ended(&callers)?;
    outcomes::counters_agree(
        (before, callers.stats()),
        (served_before, ends.stats()?),
        &mut figures,
    );

    let outcomes = Outcomes::new(callers.end()?, ends.end()?);
    outcomes.check(LATE, &mut figures);
    outcomes.add_to(&mut figures);
    figures.add("kills of the other node", ends.kills());
    figures.verdict()
}
