//! A noisy group fills the queue of a slow link as fast as it can, beside quiet groups on the same link: with
//! `group_share`, none of the quiet groups' frames is refused, evicted or made to wait.
//!
//! Each run is made twice, with a share and without one. Without it the quiet groups must suffer: otherwise the load
//! would prove nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_transport::{Config, GroupId, Inbound, Overflow, Peer, SendStats, Shutdown};
use futures::FutureExt;

use crate::{
    balance_watch::BalanceWatch,
    proxy::{Pace as Speed, Plan, Proxy, Sockets},
    row::{Failure, Figures, Row, Run},
    traffic::{Offer, Offering, Pace, offer, outcome, serve},
    world::{ONE_EACH, ProxyRuntime, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "groups",
    what: "a noisy group fills a slow link's queue: the quiet groups are refused, lose and wait 0",
    run: |run| system(all(run)),
};

const NOISY: u32 = 1;
const NOISY_LEN: usize = 1 << 10;

/// Eight quiet groups, each with 100 frames of 100 B a second.
const QUIET: std::ops::Range<u32> = 2..10;
const QUIET_LEN: usize = 100;
const QUIET_PACE: Pace = Pace::Each(Duration::from_millis(10), 8);

/// Bytes a second that the link carries: less than a hundredth of what the noisy group offers.
const LINK: u32 = 8 << 20;

const QUEUE_FRAMES: usize = 4_000;
const SHARE: f64 = 0.25;

/// Noisy senders that wait for room at the same time.
const WAITING: usize = 64;

const LONG: Duration = Duration::from_secs(60);

/// What happens to frames for which there is no room.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Way {
    Refused,
    Evicting,
    Waiting,
}

/// What became of the frames of one run.
struct Ended {
    noisy: Load,
    quiet: Load,
    stats: SendStats,
}

/// The frames of the noisy group, or of all quiet ones.
#[derive(Default)]
struct Load {
    taken: u64,
    /// Refused, or not sent because they would have had to wait.
    refused: u64,
    came: u64,
}

impl Load {
    /// Returns how many were not sent at once, or did not come.
    fn suffered(&self) -> u64 {
        self.refused + self.taken - self.came
    }
}

async fn all(run: &Run) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    run.progress.total(6);
    let ways = [
        (Way::Refused, "refused: quiet"),
        (Way::Evicting, "evicting: quiet"),
        (Way::Waiting, "waiting: quiet"),
    ];
    for (way, label) in ways {
        let shared = load(run, way, SHARE).await?;
        run.progress.add(1);
        let free = load(run, way, 1.0).await?;
        run.progress.add(1);
        judge(&mut figures, way, label, &shared, &free);
    }
    figures.verdict()
}

/// Compares the run with a share to the one without.
fn judge(figures: &mut Figures, way: Way, label: &'static str, shared: &Ended, free: &Ended) {
    let Ended {
        noisy,
        quiet,
        stats,
    } = shared;
    figures.add(label, format!("{} of {}", quiet.came, quiet.taken));
    let text = format!(
        "{} of {}",
        free.quiet.suffered(),
        free.quiet.taken + free.quiet.refused
    );
    figures.add("without a share suffered", text);
    figures.add("noisy came", noisy.came);
    figures.require(quiet.suffered() == 0, || {
        format!(
            "{way:?}: {} quiet frames were refused, and {} of {} came",
            quiet.refused, quiet.came, quiet.taken
        )
    });
    figures.require(quiet.taken > 500, || {
        format!("{way:?}: {} quiet frames are few", quiet.taken)
    });
    figures.require(free.quiet.suffered() > 0, || {
        format!("{way:?}: without a share the quiet groups did not suffer either")
    });
    let (rejected, dropped) = (stats.rejected, stats.dropped);
    let (refused, evicted) = match way {
        Way::Refused => (noisy.refused, 0),
        Way::Evicting => (0, noisy.taken - noisy.came),
        Way::Waiting => (0, 0),
    };
    match way {
        Way::Refused => figures.add("refused", refused),
        Way::Evicting => figures.add("evicted", evicted),
        Way::Waiting => {}
    }
    figures.require(way == Way::Waiting || refused + evicted > 10_000, || {
        format!("{way:?}: {refused} refused and {evicted} evicted are no noise")
    });
    figures.require(
        rejected.full_share.frames == refused && rejected.total() == rejected.full_share,
        || format!("{way:?}: {refused} were refused, and counted: {rejected:?}"),
    );
    figures.require(
        dropped.overflow.frames == evicted && dropped.total() == dropped.overflow,
        || format!("{way:?}: {evicted} were evicted, and counted: {dropped:?}"),
    );
}

async fn load(run: &Run, way: Way, share: f64) -> Result<Ended, Failure> {
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .queue_frames(QUEUE_FRAMES)
        .stale_after(Duration::from_secs(600))
        .group_share(share)
        .overflow(match way {
            Way::Evicting => Overflow::DropOldest,
            Way::Refused | Way::Waiting => Overflow::RejectNewest,
        });
    let (a, b) = (node(config.clone())?, node(config)?);
    let snapshots = BalanceWatch::start([&a, &b]);
    let came = Arc::new(Came::default());
    let counting = came.clone();
    serve(&b, (NOISY..=NOISY).chain(QUIET), move |inbound| {
        counting.note(inbound);
    })?;
    let beside = ProxyRuntime::start()?;
    let slow = Plan {
        pace: Speed::Throttle(LINK),
        ..Plan::default()
    };
    let sockets = Sockets::default();
    let proxy = Proxy::start(&beside.runtime, 1, b.local_addr(), sockets, move |_| slow)?;
    let peer = a.peer(proxy.addr())?;

    let noisy = Noise::start(way, &peer, &beside);
    // The queue is full before the quiet groups begin.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let quiet_peer = peer.clone();
    let quiet = Offering::start(QUIET_PACE, move |number| {
        let group = QUIET.start + (number % QUIET.len() as u64) as u32;
        send(way, &quiet_peer, group, number)
    });
    tokio::time::sleep(Duration::from_secs(run.tier.pick(2, 20))).await;
    let (quiet_taken, quiet_refused) = quiet.end_with_refused();
    let (noisy_taken, noisy_refused) = noisy.end().await;

    let written = || {
        let frames = peer.stats().frames;
        (frames.queued + frames.in_flight).is_zero() && came.all() == frames.written.frames
    };
    until("all came", LONG, written).await?;
    let stats = peer.stats().frames;
    for transport in [&a, &b] {
        transport.stop(Shutdown::Now).await;
    }
    snapshots.check()?;
    if let Some(problem) = came.problem() {
        return Err(Failure::error(problem));
    }
    Ok(Ended {
        noisy: Load {
            taken: noisy_taken,
            refused: noisy_refused,
            came: came.noisy.load(Relaxed),
        },
        quiet: Load {
            taken: quiet_taken,
            refused: quiet_refused,
            came: came.quiet.load(Relaxed),
        },
        stats,
    })
}

/// Offers a quiet frame. One that would have to wait counts as refused.
fn send(way: Way, peer: &Peer, group: u32, number: u64) -> Offer {
    let payload = numbered(number, QUIET_LEN);
    match way {
        Way::Refused | Way::Evicting => offer(peer, group, payload),
        Way::Waiting => match peer.send(GroupId::new(group), payload).now_or_never() {
            Some(sent) => outcome(sent),
            None => Offer::Full,
        },
    }
}

fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// The senders of the noisy group.
enum Noise {
    Thread(Offering),
    Tasks(Vec<tokio::task::JoinHandle<()>>, Arc<AtomicU64>),
}

impl Noise {
    fn start(way: Way, peer: &Peer, beside: &ProxyRuntime) -> Self {
        let peer = peer.clone();
        if way != Way::Waiting {
            return Noise::Thread(Offering::start(Pace::Flat, move |number| {
                offer(&peer, NOISY, numbered(number, NOISY_LEN))
            }));
        }
        let taken = Arc::new(AtomicU64::new(0));
        let tasks = (0..WAITING).map(|_| {
            let (peer, taken) = (peer.clone(), taken.clone());
            beside.runtime.spawn(async move {
                let payload = numbered(0, NOISY_LEN);
                while peer
                    .send(GroupId::new(NOISY), payload.clone())
                    .await
                    .is_ok()
                {
                    taken.fetch_add(1, Relaxed);
                }
            })
        });
        Noise::Tasks(tasks.collect(), taken)
    }

    /// Returns how many frames were accepted and how many were refused.
    async fn end(self) -> (u64, u64) {
        match self {
            Noise::Thread(offering) => offering.end_with_refused(),
            Noise::Tasks(tasks, taken) => {
                for task in tasks {
                    task.abort();
                    let _ = task.await;
                }
                (taken.load(Relaxed), 0)
            }
        }
    }
}

/// What came.
#[derive(Default)]
struct Came {
    noisy: AtomicU64,
    quiet: AtomicU64,
    /// The number behind the last one of each group.
    next: Mutex<[u64; QUIET.end as usize]>,
    problem: Mutex<Option<String>>,
}

impl Came {
    fn note(&self, mut inbound: Inbound) {
        let group = inbound.group().get();
        let mut next = self.next.lock().expect("no holder of this lock panics");
        let next = &mut next[group as usize];
        while let Some(payload) = inbound.next_slice() {
            let number = payload
                .first_chunk()
                .map_or(0, |it| u64::from_le_bytes(*it));
            // The senders that wait do not number their frames.
            if number < *next && number != 0 {
                let text = format!("group {group}: {number} came behind {}", *next - 1);
                let mut problem = self.problem.lock().expect("no holder of this lock panics");
                problem.get_or_insert(text);
            }
            *next = number + 1;
            let counter = match group {
                NOISY => &self.noisy,
                _ => &self.quiet,
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    fn all(&self) -> u64 {
        self.noisy.load(Relaxed) + self.quiet.load(Relaxed)
    }

    fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.expect("no holder of this lock panics").clone()
    }
}
