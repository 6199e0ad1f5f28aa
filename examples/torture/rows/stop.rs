//! Transports that are stopped while they are busy: each stop returns in time, and nothing of the
//! transport is left behind, of frames or of the process.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, Placement, Shutdown, StopReport};

use crate::{
    heap,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, count, offer, said},
    world::{Cost, ONE_EACH, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "stop",
    what: "stopped under load: within its limit, nothing undelivered without faults, nothing left",
    run: |run| system(rounds(run)),
};

/// Whom the transport that is stopped sends to.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Other {
    /// Takes what comes.
    Well,
    /// Lets nobody's bytes out of the kernel.
    Stuck,
    /// Is not there.
    Away,
}

/// One way of stopping.
#[derive(Debug, Copy, Clone)]
struct Way {
    placement: Placement,
    other: Other,
    how: Shutdown,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.placement {
            Placement::Current => "current",
            Placement::Dedicated { .. } => "dedicated",
        };
        write!(f, "{:?}, {place}, the other {:?}", self.how, self.other)
    }
}

/// More than the busiest round needs to drain.
const AMPLE: Duration = Duration::from_secs(10);

/// Less than anything that is stuck takes.
const SHORT: Duration = Duration::from_millis(200);

/// How much later than its limit a stop may return.
const SLACK: Duration = Duration::from_millis(100);

/// Threads that a stop goes over one after another, at most: each may have to wait for a processor as
/// long as anybody else here.
const HOPS: u32 = 4;

/// Rounds after which the process has what it keeps: thread-local memory, the runtime's own.
const WARM: usize = 2 * WAYS.len();

const WAYS: [Way; 8] = {
    const fn way(placement: Placement, other: Other, how: Shutdown) -> Way {
        Way {
            placement,
            other,
            how,
        }
    }
    [
        way(ONE_EACH, Other::Well, Shutdown::Drain(AMPLE)),
        way(Placement::Current, Other::Well, Shutdown::Drain(AMPLE)),
        way(ONE_EACH, Other::Well, Shutdown::Now),
        way(Placement::Current, Other::Well, Shutdown::Now),
        way(ONE_EACH, Other::Stuck, Shutdown::Drain(SHORT)),
        way(Placement::Current, Other::Stuck, Shutdown::Drain(SHORT)),
        way(ONE_EACH, Other::Away, Shutdown::Drain(SHORT)),
        way(Placement::Current, Other::Stuck, Shutdown::Now),
    ]
};

async fn rounds(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.of(100, 1_000);
    run.progress.total(rounds as u64);
    let mut figures = Figures::default();
    let (mut latest, mut drained) = (Duration::ZERO, Duration::ZERO);
    let (mut frames, mut undelivered) = (0, 0);
    let (machine, mut latest_machine) = (Lateness::start(), Duration::ZERO);
    let base = at_rest().await?;
    let mut held = Vec::new();
    let left = |base: &Cost, now: &Cost| {
        (now.threads, now.descriptors) != (base.threads, base.descriptors)
    };
    for round in 0..WARM + rounds {
        if round >= WARM && round % WAYS.len() == 0 {
            held.push(heap::held() as i64);
        }
        let way = WAYS[round % WAYS.len()];
        machine.take();
        let ended = one(way, &mut figures).await?;
        frames += ended.written;
        let limit = match way.how {
            Shutdown::Now => Duration::ZERO,
            Shutdown::Drain(limit) => limit,
        };
        match way.other {
            Other::Well => drained = drained.max(ended.took),
            Other::Stuck | Other::Away => undelivered += ended.undelivered,
        }
        let late = ended.took.saturating_sub(limit);
        latest = latest.max(late);
        let machine = machine.take();
        latest_machine = latest_machine.max(machine);
        figures.must(late <= SLACK + machine * HOPS, || {
            format!("{way}: returned {late:?} after its limit, the machine late by {machine:?}")
        });
        // Who joins the threads is one itself, and has said so with its last breath.
        let mut now = Cost::own()?;
        for _ in 0..50 {
            if !left(&base, &now) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            now = Cost::own()?;
        }
        figures.must(!left(&base, &now), || {
            format!("{way}: left {now:?} where there was {base:?}")
        });
        run.progress.at(round.saturating_sub(WARM) as u64);
    }
    // What grows once, a table or a cache, is no more than a step, and what comes and goes is nothing
    // in all; a leak goes on.
    let mut steps: Vec<_> = held.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let (median, all) = (steps[steps.len() / 2], steps.iter().sum::<i64>());
    let each = median.min(all / steps.len() as i64) / WAYS.len() as i64;
    figures.add("stops", rounds);
    figures.add("frames", frames);
    figures.add("undelivered where the other was stuck or away", undelivered);
    figures.add("latest after its limit", format!("{latest:.1?}"));
    figures.add(
        "the machine's own lateness",
        format!("{latest_machine:.1?}"),
    );
    figures.add("longest drain", format!("{drained:.1?}"));
    figures.add("heap kept", format!("{each} B a stop"));
    // A task that is left holds a hundred at least, and one in two ways leaves it on this thread.
    figures.must(each < 32, || {
        format!("the heap grows by {steps:?} B in {} stops", WAYS.len())
    });
    figures.verdict()
}

/// What this process has once the threads of whatever ran in it before have ended.
async fn at_rest() -> Result<Cost, Failure> {
    const STILL: u32 = 100;

    let (mut cost, mut still) = (Cost::own()?, 0);
    while still < STILL {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = Cost::own()?;
        still = match now.threads == cost.threads {
            true => still + 1,
            false => 0,
        };
        cost = now;
    }
    Ok(cost)
}

/// A thread that sleeps for a moment, time and again, and notes how late it wakes: where others have
/// the processors, that is not the transport's doing.
struct Lateness(Arc<AtomicU64>);

impl Lateness {
    fn start() -> Self {
        const MOMENT: Duration = Duration::from_millis(2);

        let latest = Arc::new(AtomicU64::new(0));
        let noting = Arc::downgrade(&latest);
        std::thread::spawn(move || {
            while let Some(latest) = noting.upgrade() {
                let began = Instant::now();
                std::thread::sleep(MOMENT);
                let late = began.elapsed().saturating_sub(MOMENT);
                latest.fetch_max(late.as_micros() as u64, Relaxed);
            }
        });
        Lateness(latest)
    }

    /// The latest it woke since this was last asked.
    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Relaxed))
    }
}

struct Ended {
    took: Duration,
    written: u64,
    undelivered: u64,
}

/// Starts two transports, has both send as fast as they can, stops the first and looks at the rest.
async fn one(way: Way, figures: &mut Figures) -> Result<Ended, Failure> {
    let config = Config::default()
        .placement(way.placement)
        .queue_frames(1_000)
        .stale_after(Duration::from_secs(60));
    let (a, b) = (node(config.clone())?, node(config.placement(ONE_EACH))?);
    let (_at_a, at_b, _datagrams) = (count(&a, [1])?, count(&b, [1])?, count(&b, [2])?);
    // What nobody accepts from stays in the kernel, which holds so much and no more.
    let stuck = std::net::TcpListener::bind("127.0.0.1:0")?;
    let to = match way.other {
        Other::Well => b.local_addr(),
        Other::Stuck => stuck.local_addr()?,
        Other::Away => "127.0.0.1:1".parse()?,
    };
    let (out, back) = (a.peer(to)?, b.peer(a.local_addr())?);
    let datagrams = a.clone();
    let len = match way.other {
        Other::Stuck => 16 << 10,
        _ => 100,
    };
    let offerings = [
        Offering::start(Pace::Flat, move |_| offer(&out, 1, vec![1; len])),
        Offering::start(Pace::Flat, move |_| offer(&back, 1, vec![2; 100])),
        Offering::start(Pace::Each(Duration::from_millis(1), 10), move |_| {
            said(datagrams.send_datagram(to, GroupId::new(2), vec![3; 100]))
        }),
    ];
    let busy = || match way.other {
        Other::Well => {
            a.stats().tcp.written.frames > 2_000 && a.stats().inbound.delivered.frames > 2_000
        }
        Other::Stuck => a.stats().tcp.written.frames > 0 && offerings[0].refused() > 10,
        Other::Away => a.stats().links.dials > 0 && offerings[0].refused() > 10,
    };
    until("busy", Duration::from_secs(10), busy).await?;

    let began = Instant::now();
    let report = a.stop(way.how).await;
    let took = began.elapsed();
    let stats = a.stats();
    figures.must(stats.balance().is_ok(), || format!("{way}: {stats:?}"));
    let undelivered: u64 = report.undelivered.iter().map(|(_, left)| left.frames).sum();
    figures.must(undelivered == stats.tcp.dropped.stopped.frames, || {
        format!(
            "{way}: {undelivered} reported, {} counted",
            stats.tcp.dropped.stopped
        )
    });
    let rest =
        stats.tcp.queued + stats.tcp.in_flight + stats.udp.queued + stats.inbound.in_delivery;
    figures.must(rest.is_zero(), || format!("{way}: {rest} still somewhere"));
    for offering in offerings {
        offering.end();
    }
    match (way.other, way.how) {
        (Other::Well, Shutdown::Drain(_)) => {
            figures.must(report == StopReport::default(), || {
                format!("{way}: {report:?}")
            });
            let written = stats.tcp.written.frames;
            let came = || at_b.load(Relaxed);
            let all = until("all there", AMPLE, || came() == written).await;
            figures.must(all.is_ok(), || {
                format!("{way}: {} of {written} came", came())
            });
        }
        (Other::Well, Shutdown::Now) => {}
        (Other::Stuck | Other::Away, _) => {
            figures.must(undelivered > 0, || format!("{way}: nothing left over"));
        }
    }
    b.stop(Shutdown::Now).await;
    drop(stuck);
    Ok(Ended {
        took,
        written: stats.tcp.written.frames,
        undelivered,
    })
}
