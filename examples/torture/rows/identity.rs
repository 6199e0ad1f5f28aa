//! Three processes send to each other, with identities. They are killed and restarted, a stopped one comes
//! back when its successor is there, two of them swap their addresses, and two processes claim one number.
//! No frame reaches a wrong node, none of an older incarnation comes after one of a newer, and what is lost
//! was told: to the receiver as a gap, or to the sender as dropped or refused.
//!
//! A receiver counts from the first frame on that it hears of. What a sender accepted before, and lost in its
//! queue or with its first connection, is not known to the receiver as a number. The row prints how many
//! frames that were.

mod cluster;
mod verdict;

use std::time::Duration;

use self::{cluster::Cluster, verdict::Verdict};
use crate::row::{Failure, Figures, Row, Run};

pub(crate) const ROW: Row = Row {
    name: "identity",
    what: "restarts, zombies, swapped addresses, twins: 0 frames to a wrong node, 0 of an older life",
    run,
};

const MS: Duration = Duration::from_millis(1);

/// What happens to the cluster.
#[derive(Debug, Copy, Clone)]
enum Fault {
    Restart,
    Zombie,
    Swap,
    Twins,
}

fn run(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.pick(5, 100);
    run.progress.total(rounds);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let mut cluster = Cluster::start(run.seed)?;
    let (mut figures, mut verdict) = (Figures::default(), Verdict::default());
    for round in 0..rounds {
        cluster.tell_all("load")?;
        let mut faults = [
            Fault::Restart,
            Fault::Zombie,
            Fault::Swap,
            Fault::Twins,
            Fault::Restart,
        ];
        draw.shuffle(&mut faults);
        for fault in faults {
            let time = MS * draw.u32(20..150);
            let mut nodes = [0, 1, 2];
            draw.shuffle(&mut nodes);
            let made = match fault {
                Fault::Restart => cluster.restart(nodes[0], time),
                Fault::Zombie => cluster.zombie(nodes[0], time, &mut verdict),
                Fault::Swap => cluster.swap(nodes[0], nodes[1], time),
                Fault::Twins => cluster.twins(round as u32, nodes[0], time),
            };
            if let Err(failure) = made {
                // What the members found may say more than what was waited for.
                let found = cluster.found()?.describe().unwrap_or_default();
                let text = format!("{fault:?} in round {round}: {failure}; {found}");
                return Err(Failure::error(text));
            }
        }
        verdict.settle(&mut cluster, &mut figures)?;
        run.progress.add(1);
    }
    figures.add("rounds of restarts, a zombie, a swap, twins", rounds);
    verdict.add_to(&cluster, &mut figures);
    cluster.end()?;
    figures.verdict()
}
