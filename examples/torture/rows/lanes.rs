//! Two processes send to a third, through proxies, on three lanes at the same time: numbered frames on the normal
//! lane, heartbeats that replace each other on the control lane, numbered frames and large messages on the bulk
//! lane. Connections are cut, held back and refused, and processes are paused and killed. On each lane, what the
//! receiver got and what it was told as missing are together exactly what each sender accepted, in order. A large
//! message comes once, whole, or not at all.
//!
//! A heartbeat that replaces a queued one gets its number, so the sum of the control lane is without the replaced
//! ones. It is exact as long as no connection ends, and has bounds otherwise. The receiver is not told of which
//! sender the parts are that it got, so the sum of the bulk lane is over all senders. After kills there are bounds, as in
//! the row `gap`.

mod child;
mod ends;
mod faults;
mod load;
mod log;
mod message;
mod node;
mod sums;
mod verdict;

use self::{
    ends::Ends,
    faults::{Fault, Until, messages_on_living_links_arrive, torture},
    sums::Since,
    verdict::Verdict,
};
pub(super) use self::{message::MessageId, node::ROLE};
use crate::row::{Failure, Figures, Row, Run};

pub(crate) const ROW: Row = Row {
    name: "lanes",
    what: "three lanes, cuts, kills, latest-wins, large messages: sums, order and gaps hold per lane",
    run,
};

fn run(run: &Run) -> Result<Figures, Failure> {
    let times = run.tier.pick(1, 12);
    let until = |rounds: u32, messages: u64, failed: u64| Until {
        rounds: rounds * times,
        frames: 20_000 * u64::from(times),
        messages: messages * u64::from(times),
        failed,
    };
    let total = 190 * u64::from(times);
    run.progress.total(total);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let mut ends = Ends::start(run.seed)?;
    let (mut figures, mut verdict) = (Figures::default(), Verdict::default());
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;
    verdict.begin_memory(&mut ends)?;

    ends.tell_all("burst")?;
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;
    verdict.only_the_normal_lane_missed(&mut figures);

    let mut faults = |ends: &mut Ends, faults, until: Until, before| {
        let before = before * u64::from(times);
        let progress = |messages| run.progress.set_done(before + messages);
        torture(ends, faults, until, &mut draw, progress)
    };
    // No connection ends.
    faults(&mut ends, Fault::WITHOUT_ENDS, until(1, 30, 0), 0)?;
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;
    ends.set_calm(false);
    faults(&mut ends, Fault::WITHOUT_KILLS, until(2, 100, 1), 30)?;
    // A connection may hold back bytes until more come.
    ends.set_calm(true);
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;
    ends.set_calm(false);
    faults(&mut ends, Fault::ALL, until(1, 50, 0), 130)?;
    ends.set_calm(true);
    verdict.settle(&mut ends, Since::Killed, &mut figures)?;

    // Nothing happens any more.
    faults(&mut ends, &[], until(0, 10, 0), 180)?;
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;
    let certain = ends.certain.len();
    messages_on_living_links_arrive(&mut ends)?;
    let at_the_end = ends.certain.len() - certain;
    figures.require(at_the_end > 0, || "no message came in the end".into());
    verdict.halves(&mut ends, &mut figures)?;
    verdict.settle(&mut ends, Since::Compared, &mut figures)?;

    verdict.messages(&mut ends, &mut figures)?;
    figures.add("certain to arrive, and did", ends.certain.len());
    verdict.memory(&mut ends, &mut figures)?;
    verdict.add_to(&ends, &mut figures);
    ends.end()?;
    figures.verdict()
}
