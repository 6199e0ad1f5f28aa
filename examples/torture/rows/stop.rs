//! Busy transports are stopped: each stop returns in time, and leaves no frames, threads,
//! descriptors or memory behind.

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
    traffic::{Offering, Pace, count, offer, outcome},
    world::{Cost, ONE_EACH, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "stop",
    what: "stopped under load: within its limit, nothing undelivered without faults, no leaks",
    run: |run| system(rounds(run)),
};

/// The peer that the stopped transport sends to.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Other {
    /// Receives normally.
    Reads,
    /// Never reads, so that the kernel's buffers fill up.
    NeverReads,
    /// Does not listen.
    Absent,
}

/// One case of stopping.
#[derive(Debug, Copy, Clone)]
struct Case {
    placement: Placement,
    other: Other,
    how: Shutdown,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.placement {
            Placement::Current => "current",
            Placement::Dedicated { .. } => "dedicated",
            Placement::Shared { .. } => "shared",
        };
        write!(f, "{:?}, {place}, the other {:?}", self.how, self.other)
    }
}

/// More than the busiest round needs to drain.
const AMPLE: Duration = Duration::from_secs(10);

/// Less time than a peer that never reads would need.
const SHORT: Duration = Duration::from_millis(200);

/// How much later than its limit a stop may return.
const SLACK: Duration = Duration::from_millis(100);

/// The most threads that a stop passes one after another. Each may have to wait for a core as long
/// as the measuring thread does.
const HOPS: u32 = 4;

/// Rounds after which the process has allocated what it keeps: thread-local memory and the
/// runtime's.
const WARM_UP_ROUNDS: usize = 2 * CASES.len();

const CASES: [Case; 8] = {
    const fn case(placement: Placement, other: Other, how: Shutdown) -> Case {
        Case {
            placement,
            other,
            how,
        }
    }
    [
        case(ONE_EACH, Other::Reads, Shutdown::Drain(AMPLE)),
        case(Placement::Current, Other::Reads, Shutdown::Drain(AMPLE)),
        case(ONE_EACH, Other::Reads, Shutdown::Now),
        case(Placement::Current, Other::Reads, Shutdown::Now),
        case(ONE_EACH, Other::NeverReads, Shutdown::Drain(SHORT)),
        case(
            Placement::Current,
            Other::NeverReads,
            Shutdown::Drain(SHORT),
        ),
        case(ONE_EACH, Other::Absent, Shutdown::Drain(SHORT)),
        case(Placement::Current, Other::NeverReads, Shutdown::Now),
    ]
};

async fn rounds(run: &Run) -> Result<Figures, Failure> {
    let rounds = run.tier.pick(100, 1_000);
    run.progress.total(rounds as u64);
    let mut figures = Figures::default();
    let (mut latest, mut drained) = (Duration::ZERO, Duration::ZERO);
    let (mut frames, mut undelivered) = (0, 0);
    let (wake_delay, mut latest_wake_delay) = (WakeDelay::start(), Duration::ZERO);
    let base = baseline().await?;
    let mut heap_sizes = Vec::new();
    let left = |base: &Cost, now: &Cost| {
        (now.threads, now.descriptors) != (base.threads, base.descriptors)
    };
    for round in 0..WARM_UP_ROUNDS + rounds {
        if round >= WARM_UP_ROUNDS && round % CASES.len() == 0 {
            heap_sizes.push(heap::allocated() as i64);
        }
        let case = CASES[round % CASES.len()];
        wake_delay.take();
        let ended = one(case, &mut figures).await?;
        frames += ended.written;
        let limit = match case.how {
            Shutdown::Now => Duration::ZERO,
            Shutdown::Drain(limit) => limit,
        };
        match case.other {
            Other::Reads => drained = drained.max(ended.took),
            Other::NeverReads | Other::Absent => undelivered += ended.undelivered,
        }
        let late = ended.took.saturating_sub(limit);
        latest = latest.max(late);
        let wake_delay = wake_delay.take();
        latest_wake_delay = latest_wake_delay.max(wake_delay);
        figures.require(late <= SLACK + wake_delay * HOPS, || {
            format!("{case}: returned {late:?} after its limit, threads woke {wake_delay:?} late")
        });
        // The thread that joins the others ends last, shortly after it has reported.
        let mut now = Cost::own()?;
        for _ in 0..50 {
            if !left(&base, &now) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            now = Cost::own()?;
        }
        figures.require(!left(&base, &now), || {
            format!("{case}: now {now:?}, before {base:?}")
        });
        run.progress
            .set_done(round.saturating_sub(WARM_UP_ROUNDS) as u64);
    }
    // A table or cache that grows once is a single step, and temporary memory adds up to zero. A
    // leak grows in every step.
    let mut steps: Vec<_> = heap_sizes
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    steps.sort_unstable();
    let (median, all) = (steps[steps.len() / 2], steps.iter().sum::<i64>());
    let each = median.min(all / steps.len() as i64) / CASES.len() as i64;
    figures.add("stops", rounds);
    figures.add("frames", frames);
    figures.add(
        "undelivered to a peer that does not read or is absent",
        undelivered,
    );
    figures.add("latest after its limit", format!("{latest:.1?}"));
    figures.add(
        "threads woken late by at most",
        format!("{latest_wake_delay:.1?}"),
    );
    figures.add("longest drain", format!("{drained:.1?}"));
    figures.add("heap kept", format!("{each} B a stop"));
    // A leaked task would hold 100 B or more. Half of the cases run their tasks on this thread.
    figures.require(each < 32, || {
        format!("the heap grows by {steps:?} B in {} stops", CASES.len())
    });
    figures.verdict()
}

/// Returns the cost of this process once the threads of earlier rows have ended.
async fn baseline() -> Result<Cost, Failure> {
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

/// A thread that sleeps again and again and measures how late it wakes. This delay comes from other
/// load on the machine and not from the transport.
struct WakeDelay(Arc<AtomicU64>);

impl WakeDelay {
    fn start() -> Self {
        const SLEEP: Duration = Duration::from_millis(2);

        let latest = Arc::new(AtomicU64::new(0));
        let noting = Arc::downgrade(&latest);
        std::thread::spawn(move || {
            while let Some(latest) = noting.upgrade() {
                let began = Instant::now();
                std::thread::sleep(SLEEP);
                let late = began.elapsed().saturating_sub(SLEEP);
                latest.fetch_max(late.as_micros() as u64, Relaxed);
            }
        });
        WakeDelay(latest)
    }

    /// Returns the longest delay since the last call.
    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Relaxed))
    }
}

struct Ended {
    took: Duration,
    written: u64,
    undelivered: u64,
}

/// Starts two transports that send as fast as they can, stops the first, and checks what remains.
async fn one(case: Case, figures: &mut Figures) -> Result<Ended, Failure> {
    let config = Config::default()
        .placement(case.placement)
        .queue_frames(1_000)
        .stale_after(Duration::from_secs(60));
    let (a, b) = (node(config.clone())?, node(config.placement(ONE_EACH))?);
    let (_at_a, at_b, _datagrams) = (count(&a, [1])?, count(&b, [1])?, count(&b, [2])?);
    // The kernel accepts the connection and a bounded number of bytes, and nothing reads them.
    let stuck = std::net::TcpListener::bind("127.0.0.1:0")?;
    let to = match case.other {
        Other::Reads => b.local_addr(),
        Other::NeverReads => stuck.local_addr()?,
        Other::Absent => "127.0.0.1:1".parse()?,
    };
    let (out, back) = (a.peer(to)?, b.peer(a.local_addr())?);
    let datagrams = a.clone();
    let len = match case.other {
        Other::NeverReads => 16 << 10,
        _ => 100,
    };
    let offerings = [
        Offering::start(Pace::Flat, move |_| offer(&out, 1, vec![1; len])),
        Offering::start(Pace::Flat, move |_| offer(&back, 1, vec![2; 100])),
        Offering::start(Pace::Each(Duration::from_millis(1), 10), move |_| {
            outcome(datagrams.send_datagram(to, GroupId::new(2), vec![3; 100]))
        }),
    ];
    let busy = || match case.other {
        Other::Reads => {
            a.stats().tcp.written.frames > 2_000 && a.stats().inbound.delivered.frames > 2_000
        }
        Other::NeverReads => a.stats().tcp.written.frames > 0 && offerings[0].refused() > 10,
        Other::Absent => a.stats().links.dials > 0 && offerings[0].refused() > 10,
    };
    until("busy", Duration::from_secs(10), busy).await?;

    let began = Instant::now();
    let report = a.stop(case.how).await;
    let took = began.elapsed();
    let stats = a.stats();
    figures.require(stats.balance().is_ok(), || format!("{case}: {stats:?}"));
    let undelivered: u64 = report.undelivered.iter().map(|(_, left)| left.frames).sum();
    figures.require(undelivered == stats.tcp.dropped.stopped.frames, || {
        format!(
            "{case}: {undelivered} reported, {} counted",
            stats.tcp.dropped.stopped
        )
    });
    let rest =
        stats.tcp.queued + stats.tcp.in_flight + stats.udp.queued + stats.inbound.in_delivery;
    figures.require(rest.is_zero(), || {
        format!("{case}: {rest} still queued or in flight")
    });
    for offering in offerings {
        offering.end();
    }
    match (case.other, case.how) {
        (Other::Reads, Shutdown::Drain(_)) => {
            figures.require(report == StopReport::default(), || {
                format!("{case}: {report:?}")
            });
            let written = stats.tcp.written.frames;
            let came = || at_b.load(Relaxed);
            let all = until("all there", AMPLE, || came() == written).await;
            figures.require(all.is_ok(), || {
                format!("{case}: {} of {written} received", came())
            });
        }
        (Other::Reads, Shutdown::Now) => {}
        (Other::NeverReads | Other::Absent, _) => {
            figures.require(undelivered > 0, || {
                format!("{case}: nothing was undelivered")
            });
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
