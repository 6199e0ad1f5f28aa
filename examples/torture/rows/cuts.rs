//! Connections are cut at random under load: every frame is received once, or its loss is
//! explained.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, Peer, Shutdown, Transport};
use futures::future::try_join_all;

use crate::{
    balance_watch::BalanceWatch,
    proxy::{CUTS, Cut, Ended, OnAccept, Pace, Plan, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, ONE_EACH, ProxyRuntime, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "cuts",
    what: "random cuts, 3 senders × 8 groups: none corrupt, duplicate, reordered or unexplained",
    run,
};

const SENDERS: u8 = 3;
const GROUPS: u64 = 8;
const NEVER: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(60);

/// Small buffers, so that a cut loses hundreds of kilobytes instead of megabytes, and writes are
/// often partial.
const SOCKETS: Sockets = Sockets {
    receive_buffer: Some(32 << 10),
    segment: Some(1400),
};

/// The paces of connections, for the figures.
const PACE_NAMES: [&str; 4] = ["free", "byte by byte", "throttled", "with jitter"];

/// Returns the index of a pace in [`PACE_NAMES`].
fn pace_index(pace: Pace) -> usize {
    match pace {
        Pace::Free => 0,
        Pace::OneByOne => 1,
        Pace::Throttle(_) => 2,
        Pace::Jitter(_) => 3,
    }
}

fn run(run: &Run) -> Result<Figures, Failure> {
    world::system(torture(run))
}

async fn torture(run: &Run) -> Result<Figures, Failure> {
    let (frames, cuts) = run.tier.pick((1_000_000, 1_000), (20_000_000, 20_000));
    let began = Instant::now();
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .stale_after(NEVER)
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO);
    let receiver = world::node(config.clone())?;
    let record = Record::default();
    receiver.catch_all(Some(record.recorder()));

    let proxy_runtime = ProxyRuntime::start()?;
    let each = Share {
        seed: run.seed,
        frames: frames / u64::from(SENDERS) + 1,
        cuts: cuts / u64::from(SENDERS) + 1,
    };
    run.progress.total(each.frames * u64::from(SENDERS));
    let senders =
        (1..=SENDERS).map(|id| Sender::start(id, &config, &receiver, &proxy_runtime, each));
    let senders = senders.collect::<Result<Vec<_>, _>>()?;
    let snapshots = BalanceWatch::start(
        senders
            .iter()
            .map(|sender| &sender.transport)
            .chain([&receiver]),
    );
    try_join_all(senders.iter().map(|sender| sender.send(run))).await?;
    run.progress.set_message("draining");
    for sender in &senders {
        let report = sender.transport.stop(Shutdown::Drain(LONG)).await;
        if !report.undelivered.is_empty() {
            return Err(Failure::error("not all frames were written"));
        }
        if !sender.proxy.settled(LONG).await {
            return Err(Failure::error("a connection through the proxy did not end"));
        }
    }
    until("the receiver read all", LONG, || {
        receiver.stats().links.connections == 0
    })
    .await?;
    let truncated = receiver.stats().inbound.truncated;
    receiver.stop(Shutdown::Drain(LONG)).await;
    let received = receiver.stats();
    received.balance()?;

    let mut figures = Figures::default();
    let mut all = Reconciled::default();
    let (mut connections, mut cut, mut by_kind, mut sent) = (0, 0, [0; CUTS.len()], 0);
    let (mut refused, mut paces) = ([0; 2], [0; PACE_NAMES.len()]);
    let arrived = record.lock();
    for sender in &senders {
        let stats = sender.transport.stats();
        stats.balance()?;
        sent += stats.tcp.written.frames;
        let proxied = sender.proxy.connections();
        for connection in &proxied {
            connections += u64::from(connection.ended != Some(Ended::Refused));
            refused[0] += u64::from(connection.ended == Some(Ended::Refused));
            refused[1] += u64::from(connection.ended == Some(Ended::Closed));
            paces[pace_index(connection.pace)] += u64::from(connection.taken.first().is_some());
            if let Some(Ended::Cut(Cut { ending, side, .. })) = connection.ended {
                cut += 1;
                let kind = CUTS.iter().position(|kind| *kind == (ending, side));
                by_kind[kind.expect("one of all")] += 1;
            }
        }
        let id = sender.id;
        let len = |sequence| each.len(id, sequence);
        all.add(reconcile(id, &stats.tcp, &proxied, &arrived, len));
    }
    figures.require(cut >= cuts, || format!("only {cut} cuts"));
    figures.require(sent >= frames, || format!("only {sent} frames"));
    let counted = received.inbound.delivered.frames;
    figures.require(counted == all.received && counted == arrived.frames, || {
        format!(
            "{counted} counted as delivered, {} received",
            arrived.frames
        )
    });
    figures.add("written", sent);
    figures.add("cuts", cut);
    let [a, b, c, d] = by_kind;
    figures.add(
        "of them FIN/RST to the sender, to the receiver",
        format!("{a}/{b}, {c}/{d}"),
    );
    figures.add("connections", connections);
    for (what, number) in ["times refused", "closed at once"].into_iter().zip(refused) {
        figures.add(what, number);
        figures.require(number > 0, || format!("never {what}"));
    }
    for (what, number) in PACE_NAMES.into_iter().zip(paces) {
        figures.add(what, number);
        figures.require(number > 0, || format!("none {what}"));
    }
    figures.add("ended within a frame", truncated);
    figures.add("payload received", mib(arrived.bytes));
    all.add_to(arrived.corrupt, &mut figures);
    snapshots.add_to(&mut figures);
    figures.add(
        "frames/s",
        (sent as f64 / began.elapsed().as_secs_f64()).round(),
    );
    figures.verdict()
}

/// The work of one sender.
#[derive(Debug, Copy, Clone)]
struct Share {
    seed: u64,
    frames: u64,
    cuts: u64,
}

impl Share {
    /// Returns a random generator for a number that is the same at every call.
    fn draw(&self, id: u8, what: u64, number: u64) -> fastrand::Rng {
        let seed = self.seed ^ u64::from(id) << 56 ^ what << 48 ^ number;
        fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Returns the length of a frame on the wire: from 8 B to 256 KiB of payload. Most are short,
    /// so that a million frames take about a minute.
    fn len(&self, id: u8, sequence: u64) -> u64 {
        let mut draw = self.draw(id, 1, sequence);
        let (shortest, longest) = match draw.u32(..1000) {
            0..900 => (8, 256),
            900..995 => (256, 8 << 10),
            _ => (8 << 10, 256 << 10),
        };
        // Logarithmic: as many lengths between 1 and 2 as between 100 and 200.
        let doublings = f64::log2(f64::from(longest) / f64::from(shortest)) * draw.f64();
        8 + (f64::from(shortest) * doublings.exp2()) as u64
    }

    /// Returns what happens to a connection.
    fn plan(&self, id: u8, number: u64, cuts_left: bool) -> Plan {
        if !cuts_left {
            return Plan::default();
        }
        let mut draw = self.draw(id, 2, number);
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        // A frame has some 700 bytes on average. The frames that resets lose are not in this
        // calculation, so the cuts must be closer together.
        let apart = self.frames * 500 / self.cuts;
        let after = match draw.u32(..4) {
            // Within the first frames.
            0 => draw.u64(..100),
            _ => draw.u64(..2 * apart),
        };
        let (on_accept, pace, after) = match draw.u32(..100) {
            0..3 => (OnAccept::Close, Pace::Free, after),
            3..5 => (OnAccept::Forward, Pace::OneByOne, after.min(300)),
            5..8 => (
                OnAccept::Forward,
                Pace::Jitter(Duration::from_millis(2)),
                after,
            ),
            8..10 => (OnAccept::Forward, Pace::Throttle(4 << 20), after),
            _ => (OnAccept::Forward, Pace::Free, after),
        };
        Plan {
            on_accept,
            pace,
            cut: Some(Cut {
                after,
                ending,
                side,
            }),
            ..Plan::default()
        }
    }
}

/// One sender and its proxy.
struct Sender {
    id: u8,
    share: Share,
    transport: Transport,
    peer: Peer,
    proxy: Proxy,
}

impl Sender {
    fn start(
        id: u8,
        config: &Config,
        receiver: &Transport,
        proxy_runtime: &ProxyRuntime,
        share: Share,
    ) -> Result<Self, Failure> {
        let transport = world::node(config.clone())?;
        let target = receiver.local_addr();
        let mut cuts = 0;
        let plan = move |number| {
            let plan = share.plan(id, number, cuts < share.cuts);
            cuts += u64::from(plan.cut.is_some() && plan.on_accept == OnAccept::Forward);
            plan
        };
        let proxy = Proxy::start(&proxy_runtime.runtime, id, target, SOCKETS, plan)?;
        Ok(Sender {
            id,
            share,
            peer: transport.peer(proxy.addr())?,
            transport,
            proxy,
        })
    }

    /// Sends its frames, and then more until all cuts have been made.
    async fn send(&self, run: &Run) -> Result<(), Failure> {
        let mut sequence = 0;
        loop {
            if sequence % 1024 == 0 {
                run.progress.add(1024);
                let enough = sequence >= self.share.frames;
                let cut = self.proxy.count().1 as u64 >= self.share.cuts;
                if enough && cut || sequence >= 3 * self.share.frames {
                    return Ok(());
                }
                // Sometimes dials are refused for a moment.
                if self.share.draw(self.id, 3, sequence).u32(..50) == 0 {
                    self.proxy.set_refusing(true).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    self.proxy.set_refusing(false).await?;
                }
            }
            // Two fifths of the time at full speed, else at a rate that the network can carry, so
            // that cuts happen with full and with empty buffers.
            let full_speed = self.share.draw(self.id, 4, sequence / 4096).u32(..5) < 2;
            if !full_speed && sequence % 32 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let group = (sequence % GROUPS) as u32;
            let stamp = Stamp {
                sender: self.id.into(),
                incarnation: 0,
                group,
                sequence,
            };
            let len = self.share.len(self.id, sequence) - 8;
            let payload = stamp.payload(len as usize);
            let sent = self.peer.send(GroupId::new(group), payload).await;
            sent.map_err(|err| Failure::error(err.to_string()))?;
            sequence += 1;
        }
    }
}
