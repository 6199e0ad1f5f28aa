//! Hundreds of peers go away at once and come back at once: the dials to them are spread, and only so
//! many are made at a time.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_transport::{Config, Peer, Shutdown, Transport};
use socket2::{Domain, Socket, Type};

use crate::{
    eye::Eye,
    row::{Failure, Figures, Row, Run},
    traffic::{Offer, Offering, Pace, count, offer},
    world::{ONE_EACH, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "storm",
    what: "peers come back after a 30 s outage: fullest 100 ms bin ≤ 3 × mean, ≤ 64 dials at once",
    run: |run| system(outage(run)),
};

/// The first part of the outage: nobody answers. Long enough for all dials to wait for their time-out.
const SILENT: Duration = Duration::from_secs(10);

/// The second: dials are refused.
const REFUSED: Duration = Duration::from_secs(20);

/// Of that, how long the waits need to grow up and the dials to forget what they had in common.
const SCATTER: Duration = Duration::from_secs(6);

/// The waits' bound, lower than by default: more dials make the bins say more.
const REDIAL_MAX: Duration = Duration::from_secs(2);

const BIN: Duration = Duration::from_millis(100);

async fn outage(run: &Run) -> Result<Figures, Failure> {
    let count_of_peers = run.tier.of(200, 1_000);
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .redial_max(REDIAL_MAX);
    let max_dials = config.max_dials;
    let a = node(config.clone())?;
    let eye = Eye::on([&a]);
    let there = hub(&config, 0)?;
    let port = there.local_addr().port();
    let peers = peers(&a, count_of_peers, port)?;
    let talking = peers.clone();
    let mut next = (0..peers.len()).cycle();
    // Every peer has something to say all the time, or nobody would be dialled.
    let offering = Offering::start(
        Pace::Each(BIN, count_of_peers as u64),
        move |_| match offer(&talking[next.next().unwrap_or(0)], 1, vec![0; 100]) {
            Offer::Full => Offer::Taken,
            offer => offer,
        },
    );
    let linked = || peers.iter().filter(|peer| peer.stats().connected).count();
    until("all linked", Duration::from_secs(30), || {
        linked() == peers.len()
    })
    .await?;
    // Links that lived, so that the waits start over.
    tokio::time::sleep(Duration::from_secs(2)).await;

    run.progress.total(3);
    run.progress.say("nobody answers");
    there.stop(Shutdown::Now).await;
    let silence = Silence::at(port)?;
    let (began, mut at_once, mut looks) = (Instant::now(), 0, [0; 10]);
    while began.elapsed() < SILENT {
        // The table is not read in one moment: dials that end and those that begin may all be in it.
        // What is too many stays so for as long as dials take, which is seconds.
        looks.rotate_left(1);
        looks[looks.len() - 1] = dialling(port)?;
        at_once = at_once.max(looks.into_iter().min().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(silence);
    run.progress.add(1);

    run.progress.say("refused");
    tokio::time::sleep(SCATTER).await;
    let mut bins = Bins::start(&a);
    let began = Instant::now();
    bins.fill_until(&a, || began.elapsed() >= REFUSED - SCATTER)
        .await;
    run.progress.add(1);

    run.progress.say("there again");
    let there = hub(&config, port)?;
    let back = Instant::now();
    let patience = REDIAL_MAX + Duration::from_secs(8);
    bins.fill_until(&a, || linked() == peers.len() || back.elapsed() > patience)
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
    figures.must(at_once <= max_dials, || format!("{at_once} dials at once"));
    // Were there no press, the bound would not have been tried.
    figures.must(at_once >= max_dials * 9 / 10, || {
        format!("no more than {at_once} at once")
    });
    figures.must(mean >= 5.0, || format!("{mean:.1} dials a bin say nothing"));
    figures.must(fullest as f64 <= 3.0 * mean, || {
        "dials come in heaps".into()
    });
    figures.must(linked() == peers.len(), || {
        format!("{} of {} linked", linked(), peers.len())
    });
    figures.must(took <= REDIAL_MAX + Duration::from_secs(1), || {
        format!("back after {took:?}")
    });
    offering.end();
    a.stop(Shutdown::Now).await;
    there.stop(Shutdown::Now).await;
    a.stats().balance()?;
    eye.tell(&mut figures);
    figures.verdict()
}

/// The node that all the peers are, under many addresses.
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
        Ok(from.peer((ip, port).into())?)
    });
    peers.collect()
}

/// A port at which connections are not answered: the backlog is full, and nobody empties it.
struct Silence {
    _listener: Socket,
    _waiting: Option<TcpStream>,
}

impl Silence {
    fn at(port: u16) -> Result<Self, Failure> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        listener.listen(0)?;
        // A backlog of none holds one: this, or one of the peers' dials that was faster.
        let here = (Ipv4Addr::LOCALHOST, port).into();
        let waiting = TcpStream::connect_timeout(&here, Duration::from_millis(500));
        Ok(Silence {
            _listener: listener,
            _waiting: waiting.ok(),
        })
    }
}

/// Connections to `port` that are being made, as the kernel has them.
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

/// How many dials there were, tenth by tenth of a second.
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
