//! Thousands of peers do not answer. They do not delay the first frame to a new peer, nor the frames on
//! a link.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, Shutdown, Transport};

use super::storm::FullBacklog;
use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, now, offer, serve},
    world::{ONE_EACH, WakeDelay, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "black-holes",
    what: "peers that do not answer: a new peer gets its first frame within 100 ms; p99 on a link < 20 ms",
    run: |run| system(beside(run)),
};

/// Groups of the frames: on the honest link, and to new peers.
const HONEST: u32 = 1;
const NEW: u32 = 2;

/// The honest link sends 200 frames a second.
const PACE: Pace = Pace::Each(Duration::from_millis(5), 1);

/// Every peer that does not answer is sent a frame this often, so that it is dialled all the time.
const AGAIN: Duration = Duration::from_secs(2);

/// A new peer this often. Meanwhile hundreds of others have been dialled.
const NEW_PEER_EACH: Duration = Duration::from_millis(250);

const FIRST_FRAME: Duration = Duration::from_millis(100);

/// The same for the peer that comes right behind the others. Their writers start before its own, which
/// takes as long as the processor needs for thousands of them.
const FIRST_FRAME_BEHIND: Duration = Duration::from_millis(500);
const HONEST_P99: Duration = Duration::from_millis(20);

const LONG: Duration = Duration::from_secs(30);

async fn beside(run: &Run) -> Result<Figures, Failure> {
    // In the long run there are more than a transport may know, so that they make room for others.
    let (dead, time) = run.tier.pick(
        (3_000, Duration::from_secs(8)),
        (8_000, Duration::from_secs(60)),
    );
    let config = Config::default().placement(ONE_EACH).udp(false);
    let a = node(config.clone())?;
    // Reached at many addresses; each is a peer.
    let there = Transport::builder()
        .config(config)
        .bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let (honest, new) = (measure(&there, HONEST)?, measure(&there, NEW)?);
    let snapshots = BalanceWatch::start([&a, &there]);
    let port = there.local_addr().port();
    let peer = a.peer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let offering = Offering::start(PACE, move |_| {
        offer(&peer, HONEST, now().to_le_bytes().into())
    });

    run.progress.total(time.as_secs() + 3);
    run.progress.set_message("quiet");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let quiet = honest.take();
    run.progress.add(3);

    run.progress.set_message("no answers");
    let holes = FullBacklog::at(0)?;
    let delay = WakeDelay::start()?;
    let began = Instant::now();
    let (mut due, mut new_peers, mut refused) = (began, 0, 0);
    while began.elapsed() < time {
        if Instant::now() >= due {
            due += AGAIN;
            let everywhere = (0..dead).map(|index| addr(2, index, holes.port));
            refused += everywhere.filter(|to| !sent(&a, *to, now())).count();
        }
        let (to, asked) = (addr(1, new_peers, port), now());
        until("the new peer is known", LONG, || sent(&a, to, asked)).await?;
        new_peers += 1;
        until("it got its frame", LONG, || new.len() == new_peers).await?;
        tokio::time::sleep(NEW_PEER_EACH).await;
        let seconds = began.elapsed().as_secs().min(time.as_secs());
        run.progress.set_done(3 + seconds);
    }
    let late = delay.take();
    let behind = new.pop_first();
    let (meanwhile, first_frames) = (honest.take(), new.take());
    let links = a.stats().links;

    let mut figures = Figures::default();
    figures.add("peers that do not answer", dead);
    figures.add("dials", links.dials);
    figures.add("known", links.peers);
    figures.add("refused", refused);
    let (p99, worst) = (percentile(&meanwhile, 99), percentile(&first_frames, 100));
    figures.add("quiet p99", format!("{:.1?}", percentile(&quiet, 99)));
    figures.add("p99", format!("{p99:.1?}"));
    figures.add("new peers", new_peers);
    let median = percentile(&first_frames, 50);
    figures.add("first frame p50", format!("{median:.1?}"));
    figures.add("worst", format!("{worst:.1?}"));
    figures.add("right behind the others", format!("{behind:.1?}"));
    figures.add("wakes late by", format!("{late:.1?}"));
    figures.require(behind <= FIRST_FRAME_BEHIND + late, || {
        format!("right behind the others, a first frame took {behind:?}")
    });
    figures.require(worst <= FIRST_FRAME + late, || {
        format!("a first frame took {worst:?}")
    });
    figures.require(p99 <= HONEST_P99 + late, || format!("p99 {p99:?}"));
    // Otherwise the others were not in the way.
    figures.require(links.dials >= dead as u64, || {
        format!("only {} dials", links.dials)
    });
    offering.end();
    a.stop(Shutdown::Now).await;
    there.stop(Shutdown::Now).await;
    a.stats().balance()?;
    snapshots.add_to(&mut figures);
    figures.verdict()
}

/// One of the addresses of this machine.
fn addr(block: u8, index: usize, port: u16) -> SocketAddr {
    let (high, low) = ((index / 250) as u8, (index % 250) as u8 + 1);
    (Ipv4Addr::new(127, block, high, low), port).into()
}

/// Sends a frame that was asked for at this time. Returns false if it was refused.
fn sent(a: &Transport, to: SocketAddr, asked: u64) -> bool {
    a.try_send(to, GroupId::new(NEW), asked.to_le_bytes())
        .is_ok()
}

/// How long the frames of one group took.
#[derive(Default, Clone)]
struct Latencies(Arc<Mutex<Vec<Duration>>>);

impl Latencies {
    fn all(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn len(&self) -> usize {
        self.all().len()
    }

    /// Removes the first.
    fn pop_first(&self) -> Duration {
        self.all().drain(..1).next().unwrap_or_default()
    }

    /// Returns those since the last call, sorted.
    fn take(&self) -> Vec<Duration> {
        let mut taken = std::mem::take(&mut *self.all());
        taken.sort_unstable();
        taken
    }
}

/// Measures the frames of a group. Each carries the time at which it was asked for.
fn measure(transport: &Transport, group: u32) -> Result<Latencies, Failure> {
    let latencies = Latencies::default();
    let note = latencies.clone();
    serve(transport, [group], move |inbound| {
        for payload in inbound {
            let asked = payload
                .first_chunk()
                .map_or(0, |asked| u64::from_le_bytes(*asked));
            let took = Duration::from_nanos(now().saturating_sub(asked));
            note.all().push(took);
        }
    })?;
    Ok(latencies)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}
