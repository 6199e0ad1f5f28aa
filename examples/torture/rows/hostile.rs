//! Thousands of connections that mean no good, and one honest link between them: it loses nothing and
//! is hardly slower, and what they cost is little.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix_transport::{Config, Shutdown, Transport};
use hdrhistogram::Histogram;

use super::hostile_clients::{KINDS, besiege};
use crate::{
    eye::Eye,
    heap,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, now, offer, serve},
    world::{Child, Cost, ONE_EACH, Role, mib, node, system},
};

pub(crate) const ROW: Row = Row {
    name: "hostile",
    what: "hostile connections of six kinds: the honest link loses 0, p99 ≤ 3 × quiet, memory bounded",
    run: |run| system(siege(run)),
};

pub(crate) const ROLE: Role = Role {
    name: "besieged",
    run: besieged,
};

/// The honest link's: 5,000 frames of 256 B a second.
const PACE: Pace = Pace::Each(Duration::from_millis(1), 5);
const LEN: usize = 256;

/// What a connection may cost, its buffer included, in bytes asked for.
const EACH: u64 = 4 << 10;

/// What they may cost together beside that: the accepting, the tables.
const ALL: u64 = 8 << 20;

/// How long a frame may take, so that those that trickle are told off within the row.
const FRAME_TIMEOUT: Duration = Duration::from_secs(8);

async fn siege(run: &Run) -> Result<Figures, Failure> {
    let count = run.tier.of(2_000, 10_000);
    let quiet = run.tier.of(Duration::from_secs(5), Duration::from_secs(15));
    let siege = run
        .tier
        .of(Duration::from_secs(20), Duration::from_secs(60));
    let mut figures = Figures::default();
    let mut child = Child::start(ROLE.name, &[])?;
    let to: SocketAddr = child.parse()?;
    let (honest, offering) = honest(to)?;
    let eye = Eye::on([&honest]);
    // The same, left in peace: what others on this machine do to the one they do to the other.
    let mut twin = Child::start(ROLE.name, &[])?;
    let (honest_twin, twin_offering) = self::honest(twin.parse()?)?;

    run.progress.total(2);
    run.progress.say("quiet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    child.ask("begin")?;
    tokio::time::sleep(quiet).await;
    let alone = Latencies::of(&child.ask("latencies")?)?;
    run.progress.add(1);

    run.progress.say("besieged");
    let besiegers = besiege(to, count, run.seed);
    // The storm of their coming is not what they are when they are there; it has its own row.
    let there = Instant::now();
    while besiegers.open() < count * 2 / 5 && there.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut memory, began) = (0, Instant::now());
    let (calm, cpu) = (Cost::of(child.pid())?, Cost::of(child.pid())?.cpu);
    child.ask("begin")?;
    twin.ask("begin")?;
    while began.elapsed() < siege {
        memory = memory.max(Cost::of(child.pid())?.memory);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let beside = Latencies::of(&child.ask("latencies")?)?;
    let beside_twin = Latencies::of(&twin.ask("latencies")?)?;
    let cpu = Cost::of(child.pid())?.cpu - cpu;
    let open = besiegers.open();
    let kinds = besiegers.end();
    run.progress.add(1);

    let offered = offering.taken();
    let refused = offering.refused();
    offering.end();
    twin_offering.end();
    honest_twin.stop(Shutdown::Now).await;
    honest.stop(Shutdown::Drain(Duration::from_secs(5))).await;
    let stats = honest.stats();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let came: u64 = number(&child.ask("came")?)?;
    let (base, peak): (u64, u64) = pair(&child.ask("heap")?)?;
    let told = child.ask("counters")?;
    let grown = peak.saturating_sub(base);

    figures.add("connections", format!("{open} open"));
    for (kind, made) in KINDS.iter().zip(kinds) {
        figures.add(kind.name(), made);
        figures.must(made > 0, || format!("nobody of kind {}", kind.name()));
    }
    figures.add("they were", told);
    let written = stats.tcp.written.frames;
    figures.add("honest", format!("{written} written, {came} came"));
    figures.add("quiet", &alone);
    figures.add("besieged", &beside);
    figures.add("its twin in peace meanwhile", &beside_twin);
    figures.add(
        "heap",
        format!(
            "+{} at most, {} B a connection",
            mib(grown),
            grown / count as u64
        ),
    );
    figures.add(
        "resident",
        format!("{}, from {}", mib(memory), mib(calm.memory)),
    );
    figures.add(
        "processor",
        format!("{:.0} %", cpu.as_secs_f64() / siege.as_secs_f64() * 100.0),
    );
    figures.must(open >= count * 2 / 5, || {
        format!("only {open} of {count} are there, where half are not thrown out")
    });
    figures.must(refused == 0, || {
        format!("{refused} times no room for the honest")
    });
    figures.must(
        written == stats.tcp.offered.frames && written >= offered,
        || format!("{} offered, {written} written", stats.tcp.offered.frames),
    );
    figures.must(came == written, || format!("{came} of {written} came"));
    let quiet = alone.p99.max(beside_twin.p99);
    figures.must(beside.p99 <= quiet * 3, || {
        format!("p99 {:.0?} where quiet is {quiet:.0?}", beside.p99)
    });
    let bound = EACH * count as u64 + ALL;
    eye.tell(&mut figures);
    figures.must(grown <= bound, || {
        format!("{} where {} is the bound", mib(grown), mib(bound))
    });
    figures.verdict()
}

/// A node that sends honest frames there.
fn honest(to: SocketAddr) -> Result<(Transport, Offering), Failure> {
    let honest = node(Config::default().placement(ONE_EACH))?;
    let peer = honest.peer(to)?;
    let offering = Offering::start(PACE, move |number| {
        let mut payload = vec![0; LEN];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&now().to_le_bytes());
        offer(&peer, 1, payload)
    });
    Ok((honest, offering))
}

/// What the honest frames took from being offered to being handled.
struct Latencies {
    frames: u64,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Latencies {
    fn of(line: &str) -> Result<Self, Failure> {
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [frames, p50, p99, max] = numbers[..] else {
            return Err(Failure::stuck(format!("not four numbers: {line}")));
        };
        Ok(Latencies {
            frames,
            p50: Duration::from_nanos(p50),
            p99: Duration::from_nanos(p99),
            max: Duration::from_nanos(max),
        })
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Latencies {
            frames,
            p50,
            p99,
            max,
        } = self;
        write!(f, "p50 {p50:.0?} p99 {p99:.0?} max {max:.0?} of {frames}")
    }
}

fn number(line: &str) -> Result<u64, Failure> {
    line.parse()
        .map_err(|_| Failure::stuck(format!("not a number: {line}")))
}

fn pair(line: &str) -> Result<(u64, u64), Failure> {
    let (left, right) = line.split_once(' ').unwrap_or_default();
    Ok((number(left)?, number(right)?))
}

// ---- the other process -------------------------------------------------------------------------

/// What the actor of the honest group has seen.
struct Seen {
    latencies: Histogram<u64>,
    came: u64,
}

/// A node that answers questions about itself.
fn besieged(_: &[String]) -> Result<(), Failure> {
    let seen = Arc::new(Mutex::new(Seen {
        // Up to a minute.
        latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        came: 0,
    }));
    system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            .frame_timeout(FRAME_TIMEOUT)
            // So that the announcement of a large frame gains nobody time.
            .frame_floor(64 << 20);
        let node = node(config)?;
        let eye = Eye::on([&node]);
        let noting = seen.clone();
        serve(&node, [1], move |mut inbound| {
            let mut seen = noting.lock().expect("nobody panics here");
            while let Some(payload) = inbound.next_slice() {
                let stamp = payload[8..16].try_into().map_or(0, u64::from_le_bytes);
                let number = payload[..8].try_into().map_or(u64::MAX, u64::from_le_bytes);
                // One that comes twice, or out of order, counts for none.
                seen.came += u64::from(number == seen.came);
                seen.latencies
                    .saturating_record(now().saturating_sub(stamp));
            }
        })?;
        println!("{}", node.local_addr());
        let mut questions = crate::world::questions();
        let mut watch: Option<PeakWatch> = None;
        while let Some(question) = questions.recv().await {
            match &*question {
                "begin" => {
                    seen.lock().expect("nobody panics here").latencies.reset();
                    watch.get_or_insert_with(PeakWatch::start);
                    println!("begun");
                }
                "latencies" => {
                    let seen = seen.lock().expect("nobody panics here");
                    let taken = &seen.latencies;
                    let (p50, p99) = (taken.value_at_quantile(0.5), taken.value_at_quantile(0.99));
                    println!("{} {p50} {p99} {}", taken.len(), taken.max());
                }
                "came" => println!("{}", seen.lock().expect("nobody panics here").came),
                "heap" => {
                    let (base, peak) = watch.take().map_or((0, 0), PeakWatch::end);
                    println!("{base} {peak}");
                }
                _ => {
                    eye.holds()?;
                    println!("{}", counters(&node));
                }
            }
        }
        node.stop(Shutdown::Now).await;
        Ok(())
    })
}

fn counters(node: &Transport) -> String {
    let (inbound, links) = (node.stats().inbound, node.stats().links);
    format!(
        "{} malformed, {} too slow, {} cut off, {} turned away",
        inbound.malformed, inbound.timed_out, inbound.truncated, links.turned_away
    )
}

/// A thread that looks at the heap every few milliseconds.
struct PeakWatch {
    base: u64,
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl PeakWatch {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let done = over.clone();
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !done.load(Relaxed) {
                peak = peak.max(heap::held());
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        PeakWatch {
            base: heap::held(),
            over,
            thread,
        }
    }

    fn end(self) -> (u64, u64) {
        self.over.store(true, Relaxed);
        (self.base, self.thread.join().unwrap_or(u64::MAX))
    }
}
