//! Everything at once, for a while: a node under mixed load whose links are cut, whose actors panic
//! and one of whose peers is killed time and again does not grow.

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
    world::{Child, Cost, mib, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "soak",
    what: "mixed load, 4 cuts/s, 1 panic/s, a peer killed every 5 s: memory ≤ +64 KiB/min, nothing left",
    run: |run| system(soak(run)),
};

/// What is bounded, in KiB a minute.
const SLOPE: f64 = 64.0;

/// What is resident moves by arenas and pages: its slope says nothing in a minute, and in ten it does.
/// So in the short run this is all that it may grow by, in bytes.
const RESIDENT: u64 = 16 << 20;

/// An allocator that keeps little of what is given back: with an arena for every thread, and blocks
/// carved from it, what is resident moves by megabytes while what is held does not.
const GIVES_BACK: [&str; 3] = ["env", "MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=4096"];

/// The load goes on for so long, then it rests, and what is held then is compared.
const CYCLE: Duration = Duration::from_millis(5_450);

/// At its end, without cuts and deaths, links are made again, and by them links and connections give
/// back what they had while they were busy, when they have been idle for a second.
const MEND: Duration = Duration::from_millis(400);
const GIVE_BACK: Duration = Duration::from_millis(1_300);

/// How often something happens while the load goes on: as often as the row says over all of its time,
/// rests included, and a fifth more.
const CUT: Duration = Duration::from_millis(150);
const PANIC: Duration = Duration::from_millis(600);
const KILL: Duration = Duration::from_millis(3_100);

/// How long a link stands still so that somebody is in the middle of a write.
const HOLE: Duration = Duration::from_millis(300);

/// Nobody's outgoing connection has a port of these.
const NODE: [u8; 4] = [127, 0, 4, 1];
const STEADY: [u8; 4] = [127, 0, 4, 2];
const MORTAL: [u8; 4] = [127, 0, 4, 3];

async fn soak(run: &Run) -> Result<Figures, Failure> {
    let cycles = run.tier.of(9, 92);
    let warm = run.tier.of(3, 18);
    run.progress.total(cycles);
    let mut figures = Figures::default();
    let mut world = World::start(run.seed)?;
    let start = Cost::of(world.node.pid())?;
    let mut samples = Vec::new();
    let began = Instant::now();
    for cycle in 0..cycles {
        world.load(CYCLE).await?;
        let (held, rested) = world.rest().await?;
        figures.must(rested, || format!("cycle {cycle}: frames are stuck"));
        let memory = Cost::of(world.node.pid())?.memory;
        samples.push((
            began.elapsed().as_secs_f64() / 60.0,
            held as f64,
            memory as f64,
        ));
        run.progress
            .say(format!("held {}, resident {}", mib(held), mib(memory)));
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
        figures.must(number as f64 >= seconds / every, || {
            format!("{number} {what} in {seconds:.0} s")
        });
    }
    figures.add("memory held", format!("{held:+.1} KiB/min"));
    figures.add(
        "resident",
        format!("{resident:+.1} KiB/min over the last {minutes:.1} min"),
    );
    figures.must(held <= SLOPE, || {
        format!("what is held grows by {held:.1} KiB/min: {samples:.0?}")
    });
    figures.must(run.tier == Tier::Gate || resident <= SLOPE, || {
        format!("what is resident grows by {resident:.1} KiB/min: {samples:.0?}")
    });
    figures.must(grown <= RESIDENT, || {
        format!("{} more are resident", mib(grown))
    });
    world.reckon(start, &mut figures).await?;
    figures.verdict()
}

/// The straight line through points, by its slope, in KiB.
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

/// The node, its peers, and what stands between them.
struct World {
    node: Child,
    /// Lives through all of it, behind proxies both ways.
    steady: Child,
    /// Is killed and comes back.
    mortal: Child,
    mortal_args: [String; 5],
    incarnation: u32,
    proxies: [Proxy; 2],
    rng: Rng,
    /// How long there was load.
    loaded: Duration,
    /// When, by that, the next cut, panic and kill are due.
    due: [Duration; 3],
    panics: u64,
    kills: u64,
    /// What a node had seen that must not be.
    wrong: Vec<String>,
}

impl World {
    fn start(seed: u64) -> Result<Self, Failure> {
        let [node, steady, mortal] = [vacant(NODE)?, vacant(STEADY)?, vacant(MORTAL)?];
        let runtime = apart()?;
        let proxy = |id, target| {
            // So little that a large frame is taken in part when the proxy takes nothing.
            let sockets = Sockets {
                room: Some(32 << 10),
                segment: Some(1_000),
            };
            Proxy::start(&runtime, id, target, sockets, |_| Plan::default())
        };
        let proxies = [proxy(1, steady)?, proxy(2, node)?];
        let to = proxies.each_ref().map(|proxy| proxy.addr().to_string());
        let [node, steady, mortal] = [node, steady, mortal].map(|addr| addr.to_string());
        let [to_steady, to_node] = to;
        let words = |words: [&str; 5]| words.map(String::from);
        let mortal_args = words([&mortal, "0", "5", "-", &node]);
        let mut node_args = words([&node, "0", "0", &steady, &to_steady]).to_vec();
        node_args.push(mortal);
        let steady_args = words([&steady, "0", "4", "-", &to_node]);
        let mut world = World {
            node: Child::start_with(&GIVES_BACK, fragile::ROLE.name, &node_args)?,
            steady: Child::start(fragile::ROLE.name, &steady_args)?,
            mortal: Child::start(fragile::ROLE.name, &mortal_args)?,
            mortal_args,
            incarnation: 0,
            proxies,
            rng: Rng::with_seed(seed),
            loaded: Duration::ZERO,
            due: [CUT, PANIC, KILL],
            panics: 0,
            kills: 0,
            wrong: Vec::new(),
        };
        for child in [&mut world.node, &mut world.steady, &mut world.mortal] {
            child.line()?;
            // Who answers has started all that it starts.
            child.ask("pause")?;
        }
        Ok(world)
    }

    /// Load, cuts, panics and deaths for a while.
    async fn load(&mut self, time: Duration) -> Result<(), Failure> {
        self.ask_all("go")?;
        let began = Instant::now();
        let mut hole = None;
        while began.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = began.elapsed();
            let loaded = self.loaded + now;
            if hole.is_some_and(|end| now >= end) {
                self.proxies[0].hole(false);
                hole = None;
            }
            let mending = now + MEND >= time;
            if mending {
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
                    // Nobody is in the middle of a write while the other side takes everything.
                    self.proxies[0].hole(true);
                    hole = Some(now + HOLE);
                }
            }
            if kill {
                self.due[2] += KILL;
                self.kill()?;
            }
        }
        self.loaded += began.elapsed();
        self.proxies[0].hole(false);
        // All that is armed strikes, while there is somebody who passes by.
        self.node.ask("spent")?;
        Ok(())
    }

    /// Connections that were cut; one that was asked to be when there was none does not count.
    fn cuts(&self) -> u64 {
        self.proxies
            .iter()
            .map(|proxy| proxy.count().1 as u64)
            .sum()
    }

    /// The mortal one's end, and its next life.
    fn kill(&mut self) -> Result<(), Failure> {
        self.wrong.extend(wrong(&mut self.mortal)?);
        self.mortal.kill()?;
        self.kills += 1;
        self.incarnation += 1;
        self.mortal_args[1] = self.incarnation.to_string();
        self.mortal = Child::start(fragile::ROLE.name, &self.mortal_args)?;
        self.mortal.line()?;
        self.mortal.ask("go")?;
        Ok(())
    }

    /// Stops the load and waits until nothing moves; says what the node holds then, and whether
    /// nothing is stuck.
    async fn rest(&mut self) -> Result<(u64, bool), Failure> {
        self.ask_all("pause")?;
        let rested = self.ask_all("still")?.iter().all(|still| still == "1");
        tokio::time::sleep(GIVE_BACK).await;
        let [held] = fixed(&numbers(&self.node.ask("heap")?))?;
        Ok((held, rested))
    }

    fn ask_all(&mut self, question: &str) -> Result<[String; 3], Failure> {
        // The node last: what the others have sent, it has to take in.
        let [steady, mortal] = [self.steady.ask(question)?, self.mortal.ask(question)?];
        Ok([steady, mortal, self.node.ask(question)?])
    }

    /// The end of all, with a look at what is left of the load.
    async fn reckon(mut self, start: Cost, figures: &mut Figures) -> Result<(), Failure> {
        let taken = numbers(&self.node.ask("taken")?);
        let came = numbers(&self.node.ask("came")?);
        let links = self.proxies.each_ref().map(|proxy| proxy.count().0 as u64);
        let sent = taken.first().copied().unwrap_or(0);
        let [lost, gaps] = fixed(&numbers(&self.steady.ask(&format!("lost 0 {sent}"))?))?;
        for node in [&mut self.node, &mut self.steady, &mut self.mortal] {
            self.wrong.extend(wrong(node)?);
        }
        figures.add("out", taken.iter().sum::<u64>());
        figures.add("in", came.first().copied().unwrap_or(0));
        figures.add(
            "lost to cuts",
            format!("{lost} in {gaps} gaps, {} links", links[0]),
        );
        figures.must(gaps <= links[0], || {
            format!("{gaps} gaps at {} ends of links", links[0])
        });
        figures.must(self.wrong.is_empty(), || self.wrong.join("; "));

        let World {
            mut node,
            steady,
            mortal,
            proxies,
            panics,
            ..
        } = self;
        drop((steady, mortal, proxies));
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
        figures.must(same, || "descriptors or threads are left".into());

        let [armed, restarts, dropped, _given_up] = fixed(&numbers(&node.ask("end")?))?;
        let _taken = node.line()?;
        let balance = node.line()?;
        figures.add("restarts", restarts);
        figures.must(panics == armed && armed == restarts, || {
            format!("{armed} of {panics} panics, {restarts} restarts")
        });
        figures.must(dropped == 0, || format!("{dropped} frames dropped"));
        figures.must(balance == "balanced", || balance.clone());
        Ok(())
    }
}

/// What a node saw that must not be, if there is anything.
fn wrong(node: &mut Child) -> Result<Option<String>, Failure> {
    let [_, wrong, corrupt] = fixed(&numbers(&node.ask("came")?))?;
    let story = match wrong + corrupt {
        0 => None,
        _ => Some(node.ask("wrong")?),
    };
    Ok(story)
}

/// A runtime on a thread of its own: who asks the processes waits, and the proxies must not. It goes
/// with this process.
fn apart() -> Result<Handle, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(handle)
}

/// An address with a port that is free at the moment.
fn vacant(ip: [u8; 4]) -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(SocketAddr::from((ip, 0)))?.local_addr()?)
}
