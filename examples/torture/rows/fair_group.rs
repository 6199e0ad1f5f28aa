//! A flood to a group with a bound, and an honest peer of the same group: what is dropped is dropped
//! from the flooder.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, GroupOverflow, Inbound, Shutdown};

use super::raw_flood::{RawFlood, wire};
use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, offer},
    world::{ONE_EACH, node, system},
};

pub(crate) const ROW: Row = Row {
    name: "fair-group",
    what: "a flood to a group bounded at 4 MiB: an honest peer of the same group loses 0",
    run: |run| system(flood(run)),
};

const MAX_BYTES: usize = 4 << 20;

/// The honest peer sends 100 frames of 100 B a second.
const PACE: Pace = Pace::Each(Duration::from_millis(10), 1);
const LEN: usize = 100;

/// Length of the flood's frames.
const FLOOD_LEN: usize = 1 << 10;

/// The group's actor handles at most 64 MiB a second, which is less than the flood.
const BYTES_PER_MS: u64 = 64 << 10;

/// Counts the frames of the honest peer and of the flood, and takes time for all of them.
struct Slow {
    honest: Arc<AtomicU64>,
    flood: Arc<AtomicU64>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Slow {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        thread::sleep(Duration::from_millis(
            inbound.remaining().bytes / BYTES_PER_MS,
        ));
        while let Some(payload) = inbound.next_slice() {
            let of = match payload.len() {
                LEN => &self.honest,
                _ => &self.flood,
            };
            of.fetch_add(1, Relaxed);
        }
    }
}

async fn flood(run: &Run) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    let config = Config::default().placement(ONE_EACH);
    let (b, honest) = (node(config.clone())?, node(config)?);
    let snapshots = BalanceWatch::start([&b, &honest]);
    let (honest_came, flood_came) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let counting = (honest_came.clone(), flood_came.clone());
    let actor = Slow::start_in_arbiter(&Arbiter::new().handle(), move |_| Slow {
        honest: counting.0,
        flood: counting.1,
    });
    let overflow = GroupOverflow::Drop {
        max_bytes: MAX_BYTES,
    };
    b.register_with(GroupId::new(1), actor.recipient(), overflow)?;

    let bytes = wire(1, &[0; FLOOD_LEN]).repeat(256);
    let attack = RawFlood::start(b.local_addr(), 1, &bytes)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let peer = honest.peer(b.local_addr())?;
    let offering = Offering::start(PACE, move |_| offer(&peer, 1, vec![1; LEN]));
    let time = run.tier.pick(10, 60);
    run.progress.total(time);
    let mut most_held = 0;
    for _ in 0..time {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most_held = most_held.max(b.stats().inbound.in_delivery.bytes);
        }
        run.progress.add(1);
    }
    figures.require(attack.all_open(), || "the flood ended".into());
    drop(attack);
    let sent = offering.end();
    // What the group holds is handled within a fraction of this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let came = honest_came.load(Relaxed);
    let dropped = b.stats().inbound.dropped.overflow.frames;
    for transport in [&honest, &b] {
        transport.stop(Shutdown::Now).await;
    }
    snapshots.check()?;
    figures.add("honest", format!("{came} of {sent}"));
    figures.add("flood", flood_came.load(Relaxed));
    figures.add("dropped", dropped);
    figures.add("held", format!("{most_held} B at most"));
    figures.require(came == sent, || {
        format!("{came} of {sent} honest frames came")
    });
    figures.require(dropped > 10_000, || {
        format!("{dropped} dropped frames are not a flood")
    });
    // The read that is being handed over comes on top.
    figures.require(most_held <= (MAX_BYTES + (2 << 20)) as u64, || {
        format!("{most_held} B held")
    });
    figures.verdict()
}
