//! Hundreds of peers disappear and return at once. Dials to them are spread over time, and their
//! number at a time is bounded.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_transport::{Config, Peer, Shutdown, Transport};
use socket2::{Domain, Socket, Type};

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Offer, Offering, Pace, count, offer},
    world::{ONE_EACH, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "storm",
    what: "peers come back after a 30 s outage: fullest 100 ms bin ≤ 3 × mean, ≤ 64 dials at once",
    run: |run| system(outage(run)),
};

/// First part of the outage: no dial is answered. Long enough for all dials to reach their timeout.
const SILENT: Duration = Duration::from_secs(10);

/// Second part: dials are refused.
const REFUSED: Duration = Duration::from_secs(20);

/// Start of the second part that is not measured: the back-off grows, and the dials spread.
const SPREAD: Duration = Duration::from_secs(6);

/// The longest back-off. It is lower than the default, so that each bin has more dials.
const REDIAL_MAX: Duration = Duration::from_secs(2);

const BIN: Duration = Duration::from_millis(100);

async fn outage(run: &Run) -> Result<Figures, Failure> {
    let count_of_peers = run.tier.pick(200, 1_000);
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .redial_max(REDIAL_MAX);
    let max_dials = config.max_dials;
    let a = node(config.clone())?;
    let snapshots = BalanceWatch::start([&a]);
    let there = hub(&config, 0)?;
    let port = there.local_addr().port();
    let peers = peers(&a, count_of_peers, port)?;
    let to_offer = peers.clone();
    let mut next = (0..peers.len()).cycle();
    // Every peer always has frames to send, because an idle peer is not dialled.
    let offering = Offering::start(
        Pace::Each(BIN, count_of_peers as u64),
        move |_| match offer(&to_offer[next.next().unwrap_or(0)], 1, vec![0; 100]) {
            Offer::Full => Offer::Taken,
            offer => offer,
        },
    );
    let linked = || peers.iter().filter(|peer| peer.stats().connected).count();
    until("all linked", Duration::from_secs(30), || {
        linked() == peers.len()
    })
    .await?;
    // Let the links live long enough for the back-off to start over.
    tokio::time::sleep(Duration::from_secs(2)).await;

    run.progress.total(3);
    run.progress.set_message("no answers");
    there.stop(Shutdown::Now).await;
    let full_backlog = FullBacklog::at(port)?;
    let (began, mut at_once, mut looks) = (Instant::now(), 0, [0; 10]);
    while began.elapsed() < SILENT {
        // The kernel's table is not read atomically, so ended and new dials may be in it together.
        // Too many dials at once would last for seconds, as dials do.
        looks.rotate_left(1);
        looks[looks.len() - 1] = dialling(port)?;
        at_once = at_once.max(looks.into_iter().min().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(full_backlog);
    run.progress.add(1);

    run.progress.set_message("refused");
    tokio::time::sleep(SPREAD).await;
    let mut bins = Bins::start(&a);
    let began = Instant::now();
    bins.fill_until(&a, || began.elapsed() >= REFUSED - SPREAD)
        .await;
    run.progress.add(1);

    run.progress.set_message("peers return");
    let there = hub(&config, port)?;
    let back = Instant::now();
    let limit = REDIAL_MAX + Duration::from_secs(8);
    bins.fill_until(&a, || linked() == peers.len() || back.elapsed() > limit)
        .await;
    let took = back.elapsed();
    run.progress.add(1);

    let mut figures = Figures::default();
    let (fullest, mean) = (bins.fullest(), bins.mean());
    figures.add("peers", peers.len());
    figures.add("at once", format!("{at_once} of {max_dials}"));
    figures.add(
        "dials",
        format!("{} in {} bins of {BIN:?}", bins.sum(), bins.bins.len()),
    );
    figures.add(
        "fullest bin",
        format!(
            "{fullest}, {:.2} × the mean of {mean:.1}",
            fullest as f64 / mean
        ),
    );
    figures.add("all linked again after", format!("{took:.1?}"));
    figures.require(at_once <= max_dials, || format!("{at_once} dials at once"));
    // With fewer dials at once the bound would not have been tested.
    figures.require(at_once >= max_dials * 9 / 10, || {
        format!("no more than {at_once} at once")
    });
    figures.require(mean >= 5.0, || format!("{mean:.1} dials a bin are too few"));
    figures.require(fullest as f64 <= 3.0 * mean, || {
        "dials come in bursts".into()
    });
    figures.require(linked() == peers.len(), || {
        format!("{} of {} linked", linked(), peers.len())
    });
    figures.require(took <= REDIAL_MAX + Duration::from_secs(1), || {
        format!("back after {took:?}")
    });
    offering.end();
    a.stop(Shutdown::Now).await;
    there.stop(Shutdown::Now).await;
    a.stats().balance()?;
    snapshots.add_to(&mut figures);
    figures.verdict()
}

/// Binds the node that is all the peers, under many addresses.
fn hub(config: &Config, port: u16) -> Result<Transport, Failure> {
    let hub = Transport::builder()
        .config(config.clone())
        .bind((Ipv4Addr::UNSPECIFIED, port))?;
    count(&hub, [1])?;
    Ok(hub)
}

fn peers(from: &Transport, count: usize, port: u16) -> Result<Vec<Peer>, Failure> {
    let peers = (0..count).map(|index| {
        let ip = Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250) as u8 + 1);
        Ok(from.peer(SocketAddr::from((ip, port)))?)
    });
    peers.collect()
}

/// A port at which dials get no answer, because the backlog is full and nothing accepts from it.
pub(super) struct FullBacklog {
    pub(super) port: u16,
    _listener: Socket,
    _waiting: Option<TcpStream>,
}

impl FullBacklog {
    /// At any free port for port 0.
    pub(super) fn at(port: u16) -> Result<Self, Failure> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        listener.listen(0)?;
        let port = listener
            .local_addr()?
            .as_socket()
            .map_or(port, |addr| addr.port());
        // A backlog of 0 holds one connection: this one, or a faster dial of a peer.
        let here = (Ipv4Addr::LOCALHOST, port).into();
        let waiting = TcpStream::connect_timeout(&here, Duration::from_millis(500));
        Ok(FullBacklog {
            port,
            _listener: listener,
            _waiting: waiting.ok(),
        })
    }
}

/// Returns the number of dials to `port` in progress, according to the kernel.
fn dialling(port: u16) -> Result<usize, Failure> {
    const SYN_SENT: &str = "02";

    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let port = format!(":{port:04X}");
    let dialling = table.lines().filter(|line| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state) = (fields.next(), fields.next());
        remote.is_some_and(|remote| remote.ends_with(&port)) && state == Some(SYN_SENT)
    });
    Ok(dialling.count())
}

/// Counts dials in each 100 ms.
struct Bins {
    bins: Vec<u64>,
    dials: u64,
    due: Instant,
}

impl Bins {
    fn start(of: &Transport) -> Self {
        Bins {
            bins: Vec::new(),
            dials: of.stats().links.dials,
            due: Instant::now(),
        }
    }

    async fn fill_until(&mut self, of: &Transport, over: impl Fn() -> bool) {
        while !over() {
            self.due += BIN;
            tokio::time::sleep_until(self.due.into()).await;
            let dials = of.stats().links.dials;
            self.bins.push(dials - self.dials);
            self.dials = dials;
        }
    }

    fn fullest(&self) -> u64 {
        self.bins.iter().copied().max().unwrap_or(0)
    }

    fn sum(&self) -> u64 {
        self.bins.iter().sum()
    }

    fn mean(&self) -> f64 {
        self.sum() as f64 / self.bins.len() as f64
    }
}
