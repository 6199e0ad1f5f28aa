//! Connections that flood groups nobody serves with the shortest frames, beside one honest link, with
//! and without subscribers to the events about them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_transport::{Config, Shutdown};
use hdrhistogram::Histogram;

use super::raw_flood::{RawFlood, wire};
use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, now, offer, serve},
    world::{Cost, EventLog, ONE_EACH, WakeDelay, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "unserved",
    what: "20 connections flood 2,048 unserved groups, 0 and 10 subscribers: honest p99 ≤ 25 ms, 0 lost",
    run: |run| system(both(run)),
};

const FLOODERS: usize = 20;
const GROUPS: u32 = 2_048;

/// The honest link sends 500 frames of 256 B a second.
const PACE: Pace = Pace::Each(Duration::from_millis(2), 1);
const LEN: usize = 256;

const LIMIT: Duration = Duration::from_millis(25);

async fn both(run: &Run) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    run.progress.total(2);
    for (subscribers, label) in [(0, "no subscriber"), (10, "10 subscribers")] {
        run.progress.set_message(label);
        flood(run, subscribers, label, &mut figures).await?;
        run.progress.add(1);
    }
    figures.verdict()
}

async fn flood(
    run: &Run,
    subscribers: usize,
    label: &'static str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let config = Config::default().placement(ONE_EACH);
    let (b, honest) = (node(config.clone())?, node(config)?);
    let snapshots = BalanceWatch::start([&b, &honest]);
    let _events: Vec<_> = (0..subscribers).map(|_| EventLog::start(&b)).collect();
    // Up to a minute.
    let latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let latencies = Arc::new(Mutex::new(latencies));
    let noting = latencies.clone();
    serve(&b, [1], move |mut inbound| {
        let mut latencies = noting.lock().expect("no holder of this lock panics");
        while let Some(payload) = inbound.next_slice() {
            let stamp = payload[..8].try_into().map_or(0, u64::from_le_bytes);
            latencies.saturating_record(now().saturating_sub(stamp));
        }
    })?;
    let frames: Vec<_> = (0..4 * GROUPS)
        .flat_map(|number| wire(1_000 + number % GROUPS, b""))
        .collect();
    let attack = RawFlood::start(b.local_addr(), FLOODERS, &frames)?;
    let peer = honest.peer(b.local_addr())?;
    let offering = Offering::start(PACE, move |_| {
        let mut payload = vec![0; LEN];
        payload[..8].copy_from_slice(&now().to_le_bytes());
        offer(&peer, 1, payload)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = || latencies.lock().expect("no holder of this lock panics");
    seen().reset();
    let (wake_delay, before) = (WakeDelay::start()?, Cost::own()?.cpu);
    let time = Duration::from_secs(run.tier.pick(5, 30));
    tokio::time::sleep(time).await;
    let (late, share) = (
        wake_delay.take(),
        (Cost::own()?.cpu - before).div_duration_f64(time),
    );
    // The flood keeps the one reader busy. Where it gets less than a core, because other programs run beside
    // it, each turn takes longer.
    let limit = LIMIT.div_f64(share.min(1.0)) + late;
    let (p50, p99) = {
        let seen = seen();
        let at = |quantile| Duration::from_nanos(seen.value_at_quantile(quantile));
        (at(0.5), at(0.99))
    };
    figures.require(attack.all_open(), || {
        format!("{label}: a flooding connection ended")
    });
    drop(attack);
    offering.end();
    let all = || honest.stats().tcp.accepted == b.stats().inbound.delivered;
    until("all honest frames delivered", Duration::from_secs(20), all).await?;
    let dropped = b.stats().inbound.dropped.no_group.frames;
    for transport in [&honest, &b] {
        transport.stop(Shutdown::Now).await;
    }
    snapshots.check()?;
    figures.add(label, format!("p50 {p50:.0?} p99 {p99:.0?}"));
    figures.add("threads late by", format!("{late:.0?}"));
    figures.add("dropped", dropped);
    figures.add("cores taken", format!("{share:.2}"));
    figures.require(p99 <= limit, || {
        format!("{label}: p99 {p99:.0?}, limit {limit:.0?}")
    });
    figures.require(dropped > 1_000_000, || {
        format!("{label}: {dropped} frames are not a flood")
    });
    Ok(())
}
