//! Two processes call each other through proxies, with 64 callers each. Connections are cut, held back and refused, the
//! processes are paused, one of them or both are killed or stopped, and started again, and callers give up at random.
//! Each call ends once, and soon after its deadline at the latest, unless the process of its caller is killed. What a
//! caller is told is true: an answer is the one to its question, also after a restart on either side, and a call that was
//! not sent was seen by no handler. No handler gets a call twice, or much later than its deadline.
//!
//! After the last kill come three phases, and between them moments in which no call is under way. Over each of them, the
//! counters of each node agree with what its callers were told and its handlers got, and those of both nodes with each
//! other: with faults as a bound, without them exactly ([`agreement`] says what exactly).

mod account;
mod agreement;
mod callers;
mod ends;
mod handlers;
mod journal;
mod journal_line;
mod lateness;
mod member;
mod message;
mod node;
mod told;
mod verdict;

pub(super) use self::node::ROLE;
use self::{
    agreement::Phase,
    ends::{ALL, Ends, ON_THE_WAY},
};
use crate::row::{Failure, Figures, Row, Run};

pub(crate) const ROW: Row = Row {
    name: "calls",
    what: "two nodes call each other, cuts, kills, pauses, calls given up: each call ends once, and its caller is told the truth",
    run,
};

fn run(run: &Run) -> Result<Figures, Failure> {
    let (rounds, rounds_without_kills) = run.tier.pick((3, 1), (60, 6));
    run.progress.total(rounds);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let mut ends = Ends::start(run.seed)?;
    let mut figures = Figures::default();

    ends.tell("call")?;
    for round in 0..rounds {
        ends.torture(ALL, &mut draw)?;
        run.progress.set_done(round + 1);
    }
    ends.replace_both()?;

    // These processes live on to the end.
    ends.set_calm(true);
    let mut before = ends.quiet()?;
    for phase in [Phase::Faults, Phase::Calm, Phase::Patient] {
        match phase {
            Phase::Faults => {
                ends.set_calm(false);
                ends.tell("call")?;
                for _ in 0..rounds_without_kills {
                    ends.torture(ON_THE_WAY, &mut draw)?;
                }
                ends.set_calm(true);
            }
            Phase::Calm => {
                ends.tell("call")?;
                ends.wait_for_calls(run.tier.pick(3_000, 30_000))?;
            }
            Phase::Patient => {
                ends.tell("call-patiently")?;
                ends.wait_for_calls(run.tier.pick(1_000, 10_000))?;
            }
        }
        let after = ends.quiet()?;
        agreement::check(phase, ends.lives(), &before, &after, &mut figures);
        before = after;
    }
    ends.end()?;

    verdict::check(&ends.journal, &mut figures);
    verdict::add_to(&ends.journal, &mut figures);
    let [one, two] = ends.kills;
    figures.add("kills", format!("{one} and {two}"));
    figures.verdict()
}
