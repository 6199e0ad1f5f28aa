//! Thousands of hostile connections beside one honest link: the link loses nothing and is hardly
//! slower, and the connections cost little memory.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_transport::{
    Config, GroupId, HandshakeFailure, Identity, Inbound, NodeId, Shutdown, Tls, TlsError,
    Transport,
};
use hdrhistogram::Histogram;

use super::hostile_clients::{self, KINDS};
use crate::{
    balance_watch::BalanceWatch,
    heap,
    processor_wait::ProcessorWait,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, now, offer, serve},
    world::{Child, Cost, ONE_EACH, Role, mib, node, system},
};

pub(crate) const ROW: Row = Row {
    name: "hostile",
    what: "hostile connections of six kinds: the honest link loses 0, p99 ≤ 3 × quiet, memory bounded",
    run: |run| system(attack(run)),
};

pub(crate) const ROLE: Role = Role {
    name: "hostile-target",
    run: child,
};

/// The honest link sends 5,000 frames of 256 B a second.
const PACE: Pace = Pace::Each(Duration::from_millis(1), 5);
const LEN: usize = 256;

/// The most heap that a connection may use, its buffer included.
const PER_CONNECTION: u64 = 4 << 10;

/// The most heap that they may use in addition, for accepting and for tables.
const FIXED: u64 = 8 << 20;

/// How long a frame may take. Short, so that slow clients are disconnected within the row.
const FRAME_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a handshake may take, with TLS. Short, so that all have ended with the row.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

async fn attack(run: &Run) -> Result<Figures, Failure> {
    let count = run.tier.pick(2_000, 10_000);
    let quiet = run
        .tier
        .pick(Duration::from_secs(5), Duration::from_secs(15));
    let attack = run
        .tier
        .pick(Duration::from_secs(20), Duration::from_secs(60));
    let mut figures = Figures::default();
    let mut child = Child::start(ROLE.name, &[])?;
    let to: SocketAddr = child.parse()?;
    let (honest, offering) = honest(to)?;
    let snapshots = BalanceWatch::start([&honest]);
    // A second server that is not attacked: other load on this machine affects both alike.
    let mut twin = Child::start(ROLE.name, &[])?;
    let (honest_twin, twin_offering) = self::honest(twin.parse()?)?;

    run.progress.total(2);
    run.progress.set_message("quiet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    child.ask("begin")?;
    tokio::time::sleep(quiet).await;
    let alone = Latencies::of(&child.ask("latencies")?)?;
    run.progress.add(1);

    run.progress.set_message("under attack");
    let clients = hostile_clients::start(to, count, run.seed);
    // Wait until they are connected; the rush of connecting is not measured.
    let waiting = Instant::now();
    while clients.open() < count * 2 / 5 && waiting.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut memory, began) = (0, Instant::now());
    let (before, cpu) = (Cost::of(child.pid())?, Cost::of(child.pid())?.cpu);
    child.ask("begin")?;
    twin.ask("begin")?;
    let waiting = ProcessorWait::start(child.pid())?;
    while began.elapsed() < attack {
        memory = memory.max(Cost::of(child.pid())?.memory);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let during = Latencies::of(&child.ask("latencies")?)?;
    let twin_meanwhile = Latencies::of(&twin.ask("latencies")?)?;
    let waited = waiting.end()?;
    let cpu = Cost::of(child.pid())?.cpu - cpu;
    let open = clients.open();
    let kinds = clients.end();
    run.progress.add(1);

    let offered = offering.taken();
    let refused = offering.refused();
    offering.end();
    twin_offering.end();
    honest_twin.stop(Shutdown::Now).await;
    honest.stop(Shutdown::Drain(Duration::from_secs(5))).await;
    let stats = honest.stats();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let came: u64 = number(&child.ask("received")?)?;
    let (base, peak): (u64, u64) = pair(&child.ask("heap")?)?;
    let counts = child.ask("counters")?;
    let grown = peak.saturating_sub(base);

    figures.add("connections", format!("{open} open"));
    for (kind, made) in KINDS.iter().zip(kinds) {
        figures.add(kind.name(), made);
        figures.require(made > 0, || {
            format!("no connection of kind {}", kind.name())
        });
    }
    figures.add("closed by the server", counts);
    let written = stats.tcp.written.frames;
    figures.add("honest", format!("{written} written, {came} received"));
    figures.add("quiet", &alone);
    figures.add("under attack", &during);
    figures.add("undisturbed twin meanwhile", &twin_meanwhile);
    figures.add(
        "meanwhile its threads waited for a processor",
        format!("p99 {waited:.0?}"),
    );
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
        format!("{}, from {}", mib(memory), mib(before.memory)),
    );
    figures.add(
        "processor",
        format!("{:.0} %", cpu.as_secs_f64() / attack.as_secs_f64() * 100.0),
    );
    figures.require(open >= count * 2 / 5, || {
        format!("only {open} of {count} are open; half of them should stay")
    });
    figures.require(refused == 0, || {
        format!("{refused} honest offers were refused")
    });
    figures.require(
        written == stats.tcp.offered.frames && written >= offered,
        || format!("{} offered, {written} written", stats.tcp.offered.frames),
    );
    figures.require(came == written, || format!("{came} of {written} received"));
    let quiet = alone.p99.max(twin_meanwhile.p99);
    // The attack makes the node work. Where others want the processors, too, threads that work wait longer for
    // one than those of the twin.
    figures.require(during.p99 <= quiet * 3 + waited, || {
        format!("p99 {:.0?}, quiet it is {quiet:.0?}", during.p99)
    });
    let bound = PER_CONNECTION * count as u64 + FIXED;
    snapshots.add_to(&mut figures);
    figures.require(grown <= bound, || {
        format!("{}, and {} is the bound", mib(grown), mib(bound))
    });
    figures.verdict()
}

/// Starts a node that sends honest frames to this address.
pub(super) fn honest(to: SocketAddr) -> Result<(Transport, Offering), Failure> {
    honest_from(node(Config::default().placement(ONE_EACH))?, to)
}

/// Lets this node do so.
pub(super) fn honest_from(
    honest: Transport,
    to: SocketAddr,
) -> Result<(Transport, Offering), Failure> {
    let peer = honest.peer(to)?;
    let offering = Offering::start(PACE, move |number| {
        let mut payload = vec![0; LEN];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&now().to_le_bytes());
        offer(&peer, 1, payload)
    });
    Ok((honest, offering))
}

/// Times from the offer of an honest frame to its handler.
pub(super) struct Latencies {
    frames: u64,
    p50: Duration,
    pub(super) p99: Duration,
    max: Duration,
}

impl Latencies {
    pub(super) fn of(line: &str) -> Result<Self, Failure> {
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [frames, p50, p99, max] = numbers[..] else {
            return Err(Failure::error(format!("not four numbers: {line}")));
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

pub(super) fn number(line: &str) -> Result<u64, Failure> {
    line.parse()
        .map_err(|_| Failure::error(format!("not a number: {line}")))
}

pub(super) fn pair(line: &str) -> Result<(u64, u64), Failure> {
    let (left, right) = line.split_once(' ').unwrap_or_default();
    Ok((number(left)?, number(right)?))
}

// ---- the other process -------------------------------------------------------------------------

/// What the honest group's actor has received.
struct Seen {
    latencies: Histogram<u64>,
    came: u64,
}

/// The child: a node that receives and answers questions about itself. One argument is
/// [`Config::inbound_bytes`]; it is patient with slow frames then. Two arguments, `tls` and a folder, are
/// where the keys of node 1 are; it requires TLS then, and has little patience with handshakes.
fn child(args: &[String]) -> Result<(), Failure> {
    let seen = Arc::new(Mutex::new(Seen {
        // Up to a minute.
        latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        came: 0,
    }));
    system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            // All hostile clients are on this machine, and all are to be admitted.
            .max_connections_per_ip(Config::default().max_connections)
            .frame_timeout(FRAME_TIMEOUT)
            // High, so that announcing a large frame buys no extra time.
            .frame_floor(64 << 20);
        let config = match args {
            [inbound] => config.inbound_bytes(inbound.parse()?).frame_floor(1 << 10),
            [_, _] => config.connect_timeout(HANDSHAKE_LIMIT),
            _ => config,
        };
        let node = match args {
            [_, dir] => Transport::builder()
                .config(config)
                .identity(Identity::new(NodeId::new(1)).cluster("torture"))
                .tls(tls_of_node_1(Path::new(dir))?)
                .bind("127.0.0.1:0")?,
            _ => node(config)?,
        };
        let snapshots = BalanceWatch::start([&node]);
        let noting = seen.clone();
        serve(&node, [1], move |mut inbound| {
            let mut seen = noting.lock().expect("no holder of this lock panics");
            while let Some(payload) = inbound.next_slice() {
                let stamp = payload[8..16].try_into().map_or(0, u64::from_le_bytes);
                let number = payload[..8].try_into().map_or(u64::MAX, u64::from_le_bytes);
                // A frame that is duplicate or out of order does not count.
                seen.came += u64::from(number == seen.came);
                seen.latencies
                    .saturating_record(now().saturating_sub(stamp));
            }
        })?;
        node.register(GroupId::new(STUCK), Stuck.start().recipient())?;
        println!("{}", node.local_addr());
        let mut questions = crate::world::questions();
        let mut watch: Option<PeakWatch> = None;
        while let Some(question) = questions.recv().await {
            match &*question {
                "begin" => {
                    seen.lock()
                        .expect("no holder of this lock panics")
                        .latencies
                        .reset();
                    watch.get_or_insert_with(PeakWatch::start);
                    println!("begun");
                }
                "latencies" => {
                    let seen = seen.lock().expect("no holder of this lock panics");
                    let taken = &seen.latencies;
                    let (p50, p99) = (taken.value_at_quantile(0.5), taken.value_at_quantile(0.99));
                    println!("{} {p50} {p99} {}", taken.len(), taken.max());
                }
                "received" => println!(
                    "{}",
                    seen.lock().expect("no holder of this lock panics").came
                ),
                "heap" => {
                    let (base, peak) = watch.take().map_or((0, 0), PeakWatch::end);
                    println!("{base} {peak}");
                }
                "open" => println!("{}", node.stats().links.connections),
                "handshakes" => {
                    let stats = node.stats();
                    // Those that came as another node had made the handshake before.
                    let failed = stats.tls.failed;
                    let failed = failed.total() - failed.of(HandshakeFailure::WrongNode);
                    let made = stats.tls.accepted;
                    println!("{made} {failed} {}", stats.inbound.received.frames);
                }
                "failures" => println!("{}", node.stats().tls.failed),
                _ => {
                    snapshots.check()?;
                    println!("{}", counters(&node));
                }
            }
        }
        node.stop(Shutdown::Now).await;
        Ok(())
    })
}

/// A group whose handlers never return.
pub(super) const STUCK: u32 = 2;

struct Stuck;

impl Actor for Stuck {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Stuck {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            let _held = inbound;
            std::future::pending::<()>().await;
        })
    }
}

fn tls_of_node_1(dir: &Path) -> Result<Tls, TlsError> {
    let [ca, cert, key] = ["ca.pem", "node-1.pem", "node-1.key"].map(|name| dir.join(name));
    Ok(Tls::from_pem_files(ca, cert, key)?.allow(["node-*.test"]))
}

fn counters(node: &Transport) -> String {
    let (inbound, links) = (node.stats().inbound, node.stats().links);
    format!(
        "{} malformed, {} too slow, {} given up, {} cut off, {} turned away",
        inbound.malformed,
        inbound.timed_out,
        inbound.given_up,
        inbound.truncated,
        links.turned_away
    )
}

/// A thread that reads the allocated bytes every few milliseconds.
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
                peak = peak.max(heap::allocated());
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        PeakWatch {
            base: heap::allocated(),
            over,
            thread,
        }
    }

    fn end(self) -> (u64, u64) {
        self.over.store(true, Relaxed);
        (self.base, self.thread.join().unwrap_or(u64::MAX))
    }
}
