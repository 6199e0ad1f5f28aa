//! Three processes send to a fourth, through proxies, as much as they can: frames go stale and are evicted,
//! connections are cut, held back and refused, and processes are paused and killed. What the receiver got and
//! what it was told as missing are together exactly what each sender accepted.
//!
//! A sender that was killed cannot be asked how much it had accepted. It says before how much it may accept,
//! so for it the row checks bounds. A receiver that was killed and started again begins somewhere in the
//! numbers of a sender: behind what the former one got, and at its own first frame at the latest.

mod ends;
mod faults;
mod verdict;

use self::{ends::Ends, faults::Fault, verdict::Verdict};
use crate::row::{Failure, Figures, Row, Run};

pub(crate) const ROW: Row = Row {
    name: "gap",
    what: "drops, cuts, pauses, kills with sessions: received + told as missing = accepted, in order",
    run,
};

fn run(run: &Run) -> Result<Figures, Failure> {
    let frames = run.tier.pick(1_000_000, 20_000_000);
    run.progress.total(frames * 13 / 10);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let mut ends = Ends::start(run.seed)?;
    let (mut figures, mut verdict) = (Figures::default(), Verdict::default());

    // First without a kill of the receiver: it hears of each sender from the sender's first frame on.
    torture(&mut ends, None, frames, &mut draw, run)?;
    verdict.settle(&mut ends, &mut figures)?;
    verdict.drops_are_told(frames, &mut figures);
    ends.tell_all("load")?;
    let kill = Some(Fault::KillReceiver);
    torture(&mut ends, kill, frames * 13 / 10, &mut draw, run)?;
    verdict.settle(&mut ends, &mut figures)?;
    verdict.stale_at_the_end(&mut ends, &mut figures)?;
    verdict.add_to(&ends, &mut figures);
    ends.end()?;
    figures.verdict()
}

/// Makes faults until the senders have accepted so many frames, and each kind of fault has been made twice, each
/// time with this one first.
fn torture(
    ends: &mut Ends,
    first: Option<Fault>,
    frames: u64,
    draw: &mut fastrand::Rng,
    run: &Run,
) -> Result<(), Failure> {
    let mut left: Vec<Fault> = Vec::new();
    let (mut rounds, mut accepted) = (0, 0);
    while accepted < frames || rounds < 2 || !left.is_empty() {
        if left.is_empty() {
            left = Fault::ON_THE_WAY.to_vec();
            draw.shuffle(&mut left);
            left.extend(first);
            rounds += 1;
        }
        let fault = left.pop().expect("it was filled");
        fault.make(ends, draw)?;
        accepted = ends.accepted()?;
        run.progress.set_done(accepted);
    }
    Ok(())
}
