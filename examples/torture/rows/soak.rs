//! Everything at once for a while: a node under mixed load does not grow, though its links are cut,
//! its actors panic, and one of its peers is killed again and again.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use actix_transport::Failpoint;
use fastrand::Rng;
use tokio::runtime::{self, Handle};

use super::{
    fragile::{self, POINTS},
    panics::{fixed, numbers},
};
use crate::{
    proxy::{CUTS, Plan, Proxy, Sockets},
    row::{Failure, Figures, Row, Run, Tier},
    world::{Child, Cost, mib, system, threads, until},
};

pub(crate) const ROW: Row = Row {
    name: "soak",
    what: "mixed load, 4 cuts/s, 1 panic/s, a peer killed every 5 s: memory ≤ +64 KiB/min, no leaks",
    run: |run| system(soak(run)),
};

/// The most that memory may grow, in KiB a minute.
const SLOPE: f64 = 64.0;

/// The most that resident memory may grow in the short run, in bytes. It changes by arenas and
/// pages, so its slope means something over ten minutes, but not over one.
const RESIDENT: u64 = 16 << 20;

/// An allocator that keeps little freed memory. With an arena for each thread, resident memory
/// would change by megabytes while allocated memory does not.
const ALLOCATOR: [&str; 3] = ["env", "MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=4096"];

/// Duration of the load in each cycle. Then the load pauses, and allocated memory is compared.
const CYCLE: Duration = Duration::from_millis(5_450);

/// Time without faults at the end of the load, so that links connect again; and time without load,
/// so that links and connections free their buffers, which they do after a second of idling.
const NO_FAULTS: Duration = Duration::from_millis(400);
const SHRINK: Duration = Duration::from_millis(1_300);

/// Intervals between faults during the load. Over the whole run, pauses included, faults are as
/// frequent as the row's text says, and a fifth more.
const CUT: Duration = Duration::from_millis(150);
const PANIC: Duration = Duration::from_millis(600);
const KILL: Duration = Duration::from_millis(3_100);

/// How long a link takes no bytes, so that a writer is in the middle of a write.
const STANDSTILL: Duration = Duration::from_millis(300);

/// Addresses that no outgoing connection uses, so that their ports stay free.
const NODE: [u8; 4] = [127, 0, 4, 1];
/// The name of the thread of a transport that makes room for descriptors.
const ROOM_MAKER: &str = "actix-transp-fd";

const STEADY: [u8; 4] = [127, 0, 4, 2];
const VICTIM: [u8; 4] = [127, 0, 4, 3];

async fn soak(run: &Run) -> Result<Figures, Failure> {
    let cycles = run.tier.pick(9, 92);
    let warm = run.tier.pick(3, 18);
    run.progress.total(cycles);
    let mut figures = Figures::default();
    let mut world = World::start(run.seed)?;
    // The thread that makes room for descriptors ends soon after the start.
    let pid = world.node.pid();
    let is_calm = || threads(pid).is_ok_and(|names| !names.iter().any(|it| it == ROOM_MAKER));
    until("no thread that ends soon", Duration::from_secs(20), is_calm).await?;
    let start = Cost::of(pid)?;
    let mut samples = Vec::new();
    let began = Instant::now();
    for cycle in 0..cycles {
        world.load(CYCLE).await?;
        let (held, settled) = world.settle().await?;
        figures.require(settled, || format!("cycle {cycle}: frames are stuck"));
        let memory = Cost::of(world.node.pid())?.memory;
        samples.push((
            began.elapsed().as_secs_f64() / 60.0,
            held as f64,
            memory as f64,
        ));
        run.progress
            .set_message(format!("allocated {}, resident {}", mib(held), mib(memory)));
        run.progress.add(1);
    }
    let samples = samples.split_off(warm as usize);
    let held = slope(samples.iter().map(|(minute, held, _)| (*minute, *held)));
    let resident = slope(samples.iter().map(|(minute, _, memory)| (*minute, *memory)));
    let most = samples.iter().map(|(_, _, memory)| *memory as u64).max();
    let grown = most.unwrap_or(0).saturating_sub(start.memory);
    let minutes = samples.last().map_or(0.0, |last| last.0 - samples[0].0);
    figures.add("for", format!("{:.0?}", began.elapsed()));
    let cuts = world.cuts();
    let seconds = began.elapsed().as_secs_f64();
    for (what, number, every) in [
        ("cuts", cuts, 0.25),
        ("panics", world.panics, 1.0),
        ("kills", world.kills, 5.0),
    ] {
        figures.add(what, number);
        figures.require(number as f64 >= seconds / every, || {
            format!("{number} {what} in {seconds:.0} s")
        });
    }
    figures.add("memory held", format!("{held:+.1} KiB/min"));
    figures.add(
        "resident",
        format!("{resident:+.1} KiB/min over the last {minutes:.1} min"),
    );
    figures.require(held <= SLOPE, || {
        format!("allocated memory grows by {held:.1} KiB/min: {samples:.0?}")
    });
    figures.require(run.tier == Tier::Gate || resident <= SLOPE, || {
        format!("resident memory grows by {resident:.1} KiB/min: {samples:.0?}")
    });
    figures.require(grown <= RESIDENT, || {
        format!("resident memory grew by {}", mib(grown))
    });
    world.check_end(start, &mut figures).await?;
    figures.verdict()
}

/// Returns the slope of the best straight line through the points, in KiB.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let n = points.clone().count() as f64;
    let mean_x = points.clone().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.clone().map(|(_, y)| y).sum::<f64>() / n;
    let above: f64 = points
        .clone()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let below: f64 = points.map(|(x, _)| (x - mean_x).powi(2)).sum();
    above / below / 1024.0
}

/// The node, its peers and the proxies between them.
struct World {
    node: Child,
    /// Lives through the whole run, behind proxies both ways.
    steady: Child,
    /// Is killed and restarted.
    victim: Child,
    victim_args: [String; 5],
    incarnation: u32,
    proxies: [Proxy; 2],
    rng: Rng,
    /// Total time under load.
    loaded: Duration,
    /// The times under load at which the next cut, panic and kill are due.
    due: [Duration; 3],
    panics: u64,
    kills: u64,
    /// Faults that nodes have reported.
    wrong: Vec<String>,
}

impl World {
    fn start(seed: u64) -> Result<Self, Failure> {
        let [node, steady, victim] = [free_port(NODE)?, free_port(STEADY)?, free_port(VICTIM)?];
        let runtime = proxy_runtime()?;
        let proxy = |id, target| {
            // Small buffers, so that a large frame is written in part while the proxy takes
            // nothing.
            let sockets = Sockets {
                receive_buffer: Some(32 << 10),
                segment: Some(1_000),
            };
            Proxy::start(&runtime, id, target, sockets, |_| Plan::default())
        };
        let proxies = [proxy(1, steady)?, proxy(2, node)?];
        let to = proxies.each_ref().map(|proxy| proxy.addr().to_string());
        let [node, steady, victim] = [node, steady, victim].map(|addr| addr.to_string());
        let [to_steady, to_node] = to;
        let words = |words: [&str; 5]| words.map(String::from);
        let victim_args = words([&victim, "0", "5", "-", &node]);
        let mut node_args = words([&node, "0", "0", &steady, &to_steady]).to_vec();
        node_args.push(victim);
        let steady_args = words([&steady, "0", "4", "-", &to_node]);
        let mut world = World {
            node: Child::start_with(&ALLOCATOR, fragile::ROLE.name, &node_args)?,
            steady: Child::start(fragile::ROLE.name, &steady_args)?,
            victim: Child::start(fragile::ROLE.name, &victim_args)?,
            victim_args,
            incarnation: 0,
            proxies,
            rng: Rng::with_seed(seed),
            loaded: Duration::ZERO,
            due: [CUT, PANIC, KILL],
            panics: 0,
            kills: 0,
            wrong: Vec::new(),
        };
        for child in [&mut world.node, &mut world.steady, &mut world.victim] {
            child.line()?;
            // An answer shows that the node has started everything.
            child.ask("pause")?;
        }
        Ok(world)
    }

    /// Runs load with cuts, panics and kills for this time.
    async fn load(&mut self, time: Duration) -> Result<(), Failure> {
        self.ask_all("go")?;
        let began = Instant::now();
        let mut hole = None;
        while began.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = began.elapsed();
            let loaded = self.loaded + now;
            if hole.is_some_and(|end| now >= end) {
                self.proxies[0].set_black_hole(false);
                hole = None;
            }
            let no_faults = now + NO_FAULTS >= time;
            if no_faults {
                continue;
            }
            let [cut, panic, kill] = self.due.map(|due| loaded >= due);
            if cut {
                self.due[0] += CUT;
                let (ending, side) = CUTS[self.rng.usize(..CUTS.len())];
                self.proxies[self.rng.usize(..2)].cut(ending, side);
            }
            if panic {
                self.due[1] += PANIC;
                let point = self.rng.usize(..POINTS.len());
                self.node.ask(&format!("arm {point}"))?;
                self.panics += 1;
                if POINTS[point] == Failpoint::MidWrite {
                    // A writer is in the middle of a write only if the other side takes nothing.
                    self.proxies[0].set_black_hole(true);
                    hole = Some(now + STANDSTILL);
                }
            }
            if kill {
                self.due[2] += KILL;
                self.kill()?;
            }
        }
        self.loaded += began.elapsed();
        self.proxies[0].set_black_hole(false);
        // All armed failpoints must be passed while there is load.
        self.node.ask("spent")?;
        Ok(())
    }

    /// Returns how many connections were cut. A cut while there was no connection does not count.
    fn cuts(&self) -> u64 {
        self.proxies
            .iter()
            .map(|proxy| proxy.count().1 as u64)
            .sum()
    }

    /// Kills the victim and starts its next incarnation.
    fn kill(&mut self) -> Result<(), Failure> {
        self.wrong.extend(wrong(&mut self.victim)?);
        self.victim.kill()?;
        self.kills += 1;
        self.incarnation += 1;
        self.victim_args[1] = self.incarnation.to_string();
        self.victim = Child::start(fragile::ROLE.name, &self.victim_args)?;
        self.victim.line()?;
        self.victim.ask("go")?;
        Ok(())
    }

    /// Stops the load and waits until all nodes are idle. Returns what the node has allocated then,
    /// and whether no frame is stuck.
    async fn settle(&mut self) -> Result<(u64, bool), Failure> {
        self.ask_all("pause")?;
        let settled = self.ask_all("still")?.iter().all(|still| still == "1");
        tokio::time::sleep(SHRINK).await;
        let [held] = fixed(&numbers(&self.node.ask("heap")?))?;
        Ok((held, settled))
    }

    fn ask_all(&mut self, question: &str) -> Result<[String; 3], Failure> {
        // The node comes last, because it still has to receive what the others have sent.
        let [steady, victim] = [self.steady.ask(question)?, self.victim.ask(question)?];
        Ok([steady, victim, self.node.ask(question)?])
    }

    /// Stops everything, and checks frames, descriptors, threads and restarts.
    async fn check_end(mut self, start: Cost, figures: &mut Figures) -> Result<(), Failure> {
        let taken = numbers(&self.node.ask("taken")?);
        let came = numbers(&self.node.ask("received")?);
        let links = self.proxies.each_ref().map(|proxy| proxy.count().0 as u64);
        let sent = taken.first().copied().unwrap_or(0);
        let [lost, gaps] = fixed(&numbers(&self.steady.ask(&format!("lost 0 {sent}"))?))?;
        for node in [&mut self.node, &mut self.steady, &mut self.victim] {
            self.wrong.extend(wrong(node)?);
        }
        figures.add("out", taken.iter().sum::<u64>());
        figures.add("in", came.first().copied().unwrap_or(0));
        figures.add(
            "lost to cuts",
            format!("{lost} in {gaps} gaps, {} links", links[0]),
        );
        figures.require(gaps <= links[0], || {
            format!("{gaps} gaps at {} ends of links", links[0])
        });
        figures.require(self.wrong.is_empty(), || self.wrong.join("; "));

        let World {
            mut node,
            steady,
            victim,
            proxies,
            panics,
            ..
        } = self;
        drop((steady, victim, proxies));
        let mut end = Cost::of(node.pid())?;
        let as_at_start = || {
            end = Cost::of(node.pid()).unwrap_or(end);
            (end.descriptors, end.threads) == (start.descriptors, start.threads)
        };
        let same = until("as at the start", Duration::from_secs(5), as_at_start)
            .await
            .is_ok();
        let (descriptors, threads) = (end.descriptors, end.threads);
        figures.add(
            "descriptors",
            format!("{descriptors}, at the start {}", start.descriptors),
        );
        figures.add(
            "threads",
            format!("{threads}, at the start {}", start.threads),
        );
        figures.require(same, || "descriptors or threads were left behind".into());

        let [armed, restarts, dropped, _given_up] = fixed(&numbers(&node.ask("end")?))?;
        let _taken = node.line()?;
        let balance = node.line()?;
        figures.add("restarts", restarts);
        figures.require(panics == armed && armed == restarts, || {
            format!("{armed} of {panics} panics, {restarts} restarts")
        });
        figures.require(dropped == 0, || format!("{dropped} frames dropped"));
        figures.require(balance == "balanced", || balance.clone());
        Ok(())
    }
}

/// Returns a description of the faults that a node has seen, if there are any.
fn wrong(node: &mut Child) -> Result<Option<String>, Failure> {
    let [_, wrong, corrupt] = fixed(&numbers(&node.ask("received")?))?;
    let text = match wrong + corrupt {
        0 => None,
        _ => Some(node.ask("wrong")?),
    };
    Ok(text)
}

/// Starts a runtime for the proxies on its own thread, because this one blocks while it waits for
/// processes. It ends with this process.
fn proxy_runtime() -> Result<Handle, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(handle)
}

/// Returns an address with a port that is free now.
fn free_port(ip: [u8; 4]) -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(SocketAddr::from((ip, 0)))?.local_addr()?)
}
