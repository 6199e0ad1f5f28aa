//! Nodes come back at another address, and only their names stay. Under load, each gets its frames again
//! soon after its name leads to it, and no other node gets any of them.

use std::{
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix_transport::{Config, Identity, NodeId, Resolve, Resolving, Shutdown, Transport};
use fastrand::Rng;

use super::storm::FullBacklog;
use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, offer, serve},
    world::{ONE_EACH, WakeDelay, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "names",
    what: "addresses of names change under load: traffic again within back-off + 1 s, none to a wrong node",
    run: |run| system(moving(run)),
};

const GROUP: u32 = 1;

/// All names together get a frame each this often.
const EACH: Duration = Duration::from_millis(5);

const REDIAL_MAX: Duration = Duration::from_secs(1);

/// Traffic again after the name leads to the node.
const AGAIN: Duration = Duration::from_secs(2);

/// A dial whose name is not resolved ends after this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

const LONG: Duration = Duration::from_secs(30);

async fn moving(run: &Run) -> Result<Figures, Failure> {
    let (names, moves) = run.tier.pick((8, 10), (32, 200));
    let world = World::of(names);
    let hole = FullBacklog::at(0)?;
    let hole = SocketAddr::from(([127, 0, 0, 1], hole.port));
    let mut nodes = Vec::new();
    for name in 0..names {
        let node = world.node(name)?;
        world.lead(name, Entry::To(vec![node.local_addr()]));
        nodes.push(node);
    }
    let a = sender(&world, names)?;
    let snapshots = BalanceWatch::start([&a]);
    let peers: Result<Vec<_>, _> = (0..names).map(|name| a.peer_of(id(name))).collect();
    let peers = peers?;
    let offering = Offering::start(Pace::Each(EACH, names), move |number| {
        let peer = &peers[(number % names) as usize];
        offer(peer, GROUP, number.to_le_bytes().into())
    });

    run.progress.total(names * moves);
    run.progress.set_message("addresses change");
    let delay = WakeDelay::start()?;
    let movers = nodes.into_iter().zip(0..).map(|(node, name)| {
        let (world, progress) = (world.clone(), run.progress.clone());
        let mut rng = Rng::with_seed(run.seed ^ name << 32);
        async move {
            let mut node = node;
            for _ in 0..moves {
                node = world.move_on(name, node, hole, &mut rng).await?;
                progress.add(1);
            }
            Ok::<_, Failure>(node)
        }
    });
    let nodes = futures::future::try_join_all(movers).await?;
    let late = delay.take();
    let accepted = offering.end();

    let mut figures = Figures::default();
    let mut took = std::mem::take(&mut *world.took());
    took.sort_unstable();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    let links = a.stats().links;
    figures.add("names", names);
    figures.add("moves", took.len());
    figures.add("dials", links.dials);
    figures.add("refused by a wrong node", links.refused);
    figures.add("accepted", accepted);
    figures.add("received", world.received.load(Relaxed));
    figures.add("traffic again p50", format!("{median:.1?}"));
    figures.add("worst", format!("{worst:.1?}"));
    figures.add("wakes late by", format!("{late:.1?}"));
    figures.require(worst <= AGAIN + late, || {
        format!("traffic again only after {worst:?}")
    });
    for (what, count) in [
        ("to a wrong node", &world.foreign),
        ("again or out of order", &world.again),
    ] {
        let count = count.load(Relaxed);
        figures.require(count == 0, || format!("{count} frames came {what}"));
    }
    // Otherwise no name has led to a wrong node.
    figures.require(links.refused > 0, || "nobody was refused".to_owned());
    a.stop(Shutdown::Now).await;
    for node in nodes {
        node.stop(Shutdown::Now).await;
    }
    a.stats().balance()?;
    snapshots.add_to(&mut figures);
    figures.verdict()
}

fn id(name: u64) -> NodeId {
    NodeId::new(name + 1)
}

fn host(name: u64) -> String {
    format!("node-{name}.svc")
}

fn config() -> Config {
    Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .redial_max(REDIAL_MAX)
        .connect_timeout(CONNECT_TIMEOUT)
}

/// The node that sends. It knows the others by their names.
fn sender(world: &World, names: u64) -> Result<Transport, Failure> {
    let builder = Transport::builder().config(config());
    let mut builder = builder
        .identity(Identity::new(NodeId::new(0)).cluster("names"))
        .resolver(world.clone());
    for name in 0..names {
        builder = builder.peer(id(name), format!("{}:7000", host(name)));
    }
    Ok(builder.bind("127.0.0.1:0")?)
}

/// What a name leads to.
#[derive(Debug, Clone)]
enum Entry {
    To(Vec<SocketAddr>),
    /// The resolver does not answer.
    Hangs,
}

/// The names and what the nodes behind them have received. Cheap to clone.
#[derive(Clone, Default)]
struct World {
    names: u64,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// The number of the last frame for each name, plus one.
    last: Arc<Mutex<HashMap<u64, u64>>>,
    received: Arc<AtomicU64>,
    /// Frames of another name.
    foreign: Arc<AtomicU64>,
    /// Frames that came again or out of order.
    again: Arc<AtomicU64>,
    took: Arc<Mutex<Vec<Duration>>>,
}

impl Resolve for World {
    fn resolve(&self, host: &str, _: u16) -> Resolving {
        let entries = self.entries.lock().expect("no holder of this lock panics");
        let entry = entries.get(host).cloned();
        Box::pin(async move {
            match entry {
                Some(Entry::To(addrs)) => Ok(addrs),
                Some(Entry::Hangs) => pending().await,
                None => Ok(Vec::new()),
            }
        })
    }
}

impl World {
    fn of(names: u64) -> Self {
        World {
            names,
            ..World::default()
        }
    }

    fn lead(&self, name: u64, entry: Entry) {
        let mut entries = self.entries.lock().expect("no holder of this lock panics");
        entries.insert(host(name), entry);
    }

    fn entry(&self, name: u64) -> Entry {
        let entries = self.entries.lock().expect("no holder of this lock panics");
        entries.get(&host(name)).cloned().unwrap_or(Entry::Hangs)
    }

    fn took(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.took.lock().expect("no holder of this lock panics")
    }

    /// Returns the number of the last frame that this name has received, plus one.
    fn last(&self, name: u64) -> u64 {
        let last = self.last.lock().expect("no holder of this lock panics");
        last.get(&name).copied().unwrap_or(0)
    }

    /// Starts the next life of the node with this name.
    fn node(&self, name: u64) -> Result<Transport, Failure> {
        let builder = Transport::builder().config(config());
        let builder = builder.identity(Identity::new(id(name)).cluster("names"));
        let node = builder.bind("127.0.0.1:0")?;
        let world = self.clone();
        serve(&node, [GROUP], move |inbound| {
            for payload in inbound {
                let number = payload
                    .first_chunk()
                    .map_or(0, |number| u64::from_le_bytes(*number));
                world.note(name, number);
            }
        })?;
        Ok(node)
    }

    fn note(&self, name: u64, number: u64) {
        let mut last = self.last.lock().expect("no holder of this lock panics");
        let last = last.entry(name).or_default();
        self.received.fetch_add(1, Relaxed);
        if number % self.names != name {
            self.foreign.fetch_add(1, Relaxed);
        }
        if number < *last {
            self.again.fetch_add(1, Relaxed);
        }
        *last = number + 1;
    }

    /// Stops the node, lets its name lead to something else for a while, and starts it at another address.
    /// Returns it once it gets frames again.
    async fn move_on(
        &self,
        name: u64,
        node: Transport,
        hole: SocketAddr,
        rng: &mut Rng,
    ) -> Result<Transport, Failure> {
        let pause = |rng: &mut Rng, ms| tokio::time::sleep(Duration::from_millis(rng.u64(ms)));
        pause(rng, 200..800).await;
        let former = node.local_addr();
        node.stop(Shutdown::Now).await;
        let meanwhile = match rng.u8(0..4) {
            0 => Entry::To(vec![former]),
            1 => Entry::To(Vec::new()),
            2 => Entry::Hangs,
            // To a wrong node.
            _ => self.entry(name ^ 1),
        };
        self.lead(name, meanwhile);
        pause(rng, 0..1500).await;
        let node = self.node(name)?;
        let mut addrs = vec![node.local_addr()];
        match rng.u8(0..3) {
            0 => addrs.insert(0, former),
            1 => addrs.insert(0, hole),
            _ => {}
        }
        let before = self.last(name);
        self.lead(name, Entry::To(addrs));
        let began = Instant::now();
        until("it gets frames again", LONG, || self.last(name) > before).await?;
        self.took().push(began.elapsed());
        Ok(node)
    }
}
