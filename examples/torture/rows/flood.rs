//! One peer floods and nine do not: each of the nine keeps its rate, to us and from us.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use actix_transport::{Config, Shutdown, Transport};

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Counter, Offering, Pace, count, offer},
    world::{ONE_EACH, node, system},
};

pub(crate) const ROW: Row = Row {
    name: "flood",
    what: "one flooding and nine normal peers, in and out: each of the nine keeps 80 % of its rate",
    run: |run| system(both(run)),
};

const NORMAL: usize = 9;

/// 2,000 frames of 1 KiB a second, sent every 5 ms.
const PACE: Pace = Pace::Each(Duration::from_millis(5), 10);
const LEN: usize = 1 << 10;
/// Frames offered to each peer in a second.
const OFFERED: u64 = 2_000;

/// Length of the flood's frames.
const FLOOD_LEN: usize = 200;

async fn both(run: &Run) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    run.progress.total(2);
    for (index, way) in ["in", "out"].into_iter().enumerate() {
        run.progress.set_message(way);
        let rates = flood(run, way == "in").await?;
        let alone: u64 = rates.alone.iter().sum();
        let kept = rates.kept();
        let worst = kept.iter().copied().fold(f64::INFINITY, f64::min);
        figures.add(
            if index == 0 {
                "in: alone"
            } else {
                "out: alone"
            },
            format!("{alone}/s"),
        );
        figures.add("worst of the nine keeps", format!("{:.0} %", worst * 100.0));
        figures.add("flood", format!("{}/s", rates.flood));
        figures.require(worst >= 0.8, || format!("{way}: the nine keep {kept:.2?}"));
        // A link that carries nothing when alone would pass any comparison.
        figures.require(rates.alone.iter().all(|rate| *rate > OFFERED / 2), || {
            format!(
                "{way}: without the flood the nine reach only {:?}/s",
                rates.alone
            )
        });
        // Otherwise the flood would prove nothing.
        figures.require(rates.flood > alone, || {
            format!("{way}: {}/s is not a flood", rates.flood)
        });
        run.progress.add(1);
    }
    figures.verdict()
}

/// Frames delivered per second.
struct Rates {
    alone: Vec<u64>,
    during_flood: Vec<u64>,
    flood: u64,
}

impl Rates {
    /// Returns the share of its rate that each of the nine kept.
    fn kept(&self) -> Vec<f64> {
        let pairs = self.alone.iter().zip(&self.during_flood);
        pairs
            .map(|(alone, during_flood)| *during_flood as f64 / *alone as f64)
            .collect()
    }
}

/// Ten links between one node and ten others, into it or out of it.
async fn flood(run: &Run, into: bool) -> Result<Rates, Failure> {
    let config = Config::default().placement(ONE_EACH);
    let one = node(config.clone())?;
    let others: Vec<Transport> = (0..=NORMAL)
        .map(|_| node(config.clone()))
        .collect::<Result<_, _>>()?;
    let snapshots = BalanceWatch::start(others.iter().chain([&one]));
    let mut counters = Vec::new();
    let mut peers = Vec::new();
    for (index, other) in others.iter().enumerate() {
        let (from, to) = if into { (other, &one) } else { (&one, other) };
        counters.push(count(to, [index as u32])?);
        peers.push(from.peer(to.local_addr())?);
    }
    let flooded = peers.pop().expect("the last of ten");
    let mut offerings: Vec<_> = peers
        .into_iter()
        .zip(0..)
        .map(|(peer, group)| Offering::start(PACE, move |_| offer(&peer, group, vec![0; LEN])))
        .collect();
    settle().await;
    let alone = rates(
        &counters,
        run.tier
            .pick(Duration::from_secs(3), Duration::from_secs(10)),
    )
    .await;
    let group = NORMAL as u32;
    offerings.push(Offering::start(Pace::Flat, move |_| {
        offer(&flooded, group, vec![0; FLOOD_LEN])
    }));
    settle().await;
    let during_flood = rates(
        &counters,
        run.tier
            .pick(Duration::from_secs(10), Duration::from_secs(60)),
    )
    .await;
    for offering in offerings {
        offering.end();
    }
    for transport in others.iter().chain([&one]) {
        transport.stop(Shutdown::Now).await;
    }
    snapshots.check()?;
    for transport in others.iter().chain([&one]) {
        transport.stats().balance()?;
    }
    Ok(Rates {
        alone: alone[..NORMAL].to_vec(),
        during_flood: during_flood[..NORMAL].to_vec(),
        flood: during_flood[NORMAL],
    })
}

/// Waits until new load has reached its full rate.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Returns the frames per second of each counter.
async fn rates(counters: &[Counter], time: Duration) -> Vec<u64> {
    let read = || counters.iter().map(|counter| counter.load(Relaxed));
    let (before, began): (Vec<_>, _) = (read().collect(), Instant::now());
    tokio::time::sleep(time).await;
    let seconds = began.elapsed().as_secs_f64();
    let grown = read().zip(before).map(|(now, before)| now - before);
    grown
        .map(|frames| (frames as f64 / seconds) as u64)
        .collect()
}
