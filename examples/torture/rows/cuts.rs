//! Connections cut at random, again and again, under load: every frame is received once or is
//! missing for a reason.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, Peer, Shutdown, Transport};
use futures::future::try_join_all;

use crate::{
    eye::Eye,
    proxy::{CUTS, Cut, Ended, Meet, Pace, Plan, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, Beside, ONE_EACH, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "cuts",
    what: "random cuts, 3 senders × 8 groups: none corrupt, doubled, reordered or unexplained",
    run,
};

const SENDERS: u8 = 3;
const GROUPS: u64 = 8;
const NEVER: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(60);

/// Small, so that a cut costs hundreds of kilobytes and not megabytes, and writes are partial often.
const SOCKETS: Sockets = Sockets {
    room: Some(32 << 10),
    segment: Some(1400),
};

/// How connections went that took a frame.
const PACES: [&str; 4] = ["free", "byte by byte", "throttled", "with jitter"];

/// The place of a pace among them.
fn place(pace: Pace) -> usize {
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
    let (frames, cuts) = run.tier.of((1_000_000, 1_000), (20_000_000, 20_000));
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
    receiver.catch_all(Some(record.keeper()));

    let beside = Beside::start()?;
    let each = Share {
        seed: run.seed,
        frames: frames / u64::from(SENDERS) + 1,
        cuts: cuts / u64::from(SENDERS) + 1,
    };
    run.progress.total(each.frames * u64::from(SENDERS));
    let senders = (1..=SENDERS).map(|id| Sender::start(id, &config, &receiver, &beside, each));
    let senders = senders.collect::<Result<Vec<_>, _>>()?;
    let eye = Eye::on(
        senders
            .iter()
            .map(|sender| &sender.transport)
            .chain([&receiver]),
    );
    try_join_all(senders.iter().map(|sender| sender.send(run))).await?;
    run.progress.say("draining");
    for sender in &senders {
        let report = sender.transport.stop(Shutdown::Drain(LONG)).await;
        if !report.undelivered.is_empty() {
            return Err(Failure::stuck("not all was written in the end"));
        }
        if !sender.proxy.settled(LONG).await {
            return Err(Failure::stuck(
                "a connection through the proxy does not end",
            ));
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
    let (mut refused, mut paces) = ([0; 2], [0; PACES.len()]);
    let book = record.book();
    for sender in &senders {
        let stats = sender.transport.stats();
        stats.balance()?;
        sent += stats.tcp.written.frames;
        let ledger = sender.proxy.ledger();
        for passage in &ledger {
            connections += u64::from(passage.ended != Some(Ended::Refused));
            refused[0] += u64::from(passage.ended == Some(Ended::Refused));
            refused[1] += u64::from(passage.ended == Some(Ended::Closed));
            paces[place(passage.pace)] += u64::from(passage.taken.first().is_some());
            if let Some(Ended::Cut(Cut { ending, side, .. })) = passage.ended {
                cut += 1;
                let kind = CUTS.iter().position(|kind| *kind == (ending, side));
                by_kind[kind.expect("one of all")] += 1;
            }
        }
        let id = sender.id;
        let len = |sequence| each.len(id, sequence);
        all.add(reconcile(id, &stats.tcp, &ledger, &book, len));
    }
    figures.must(cut >= cuts, || format!("only {cut} cuts"));
    figures.must(sent >= frames, || format!("only {sent} frames"));
    let counted = received.inbound.delivered.frames;
    figures.must(counted == all.received && counted == book.frames, || {
        format!("{counted} counted as delivered, {} came", book.frames)
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
        figures.must(number > 0, || format!("never {what}"));
    }
    for (what, number) in PACES.into_iter().zip(paces) {
        figures.add(what, number);
        figures.must(number > 0, || format!("none {what}"));
    }
    figures.add("ended within a frame", truncated);
    figures.add("payload received", mib(book.bytes));
    all.tell(book.corrupt, &mut figures);
    eye.tell(&mut figures);
    figures.add(
        "frames/s",
        (sent as f64 / began.elapsed().as_secs_f64()).round(),
    );
    figures.verdict()
}

/// What one sender does.
#[derive(Debug, Copy, Clone)]
struct Share {
    seed: u64,
    frames: u64,
    cuts: u64,
}

impl Share {
    /// What is drawn for a number, the same whenever it is asked for.
    fn draw(&self, id: u8, what: u64, number: u64) -> fastrand::Rng {
        let seed = self.seed ^ u64::from(id) << 56 ^ what << 48 ^ number;
        fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The length of a frame on the wire: from 8 B to 256 KiB of payload, most of them short, so that
    /// a million fit into a minute.
    fn len(&self, id: u8, sequence: u64) -> u64 {
        let mut draw = self.draw(id, 1, sequence);
        let (shortest, longest) = match draw.u32(..1000) {
            0..900 => (8, 256),
            900..995 => (256, 8 << 10),
            _ => (8 << 10, 256 << 10),
        };
        // As many between 1 and 2 as between 100 and 200.
        let doublings = f64::log2(f64::from(longest) / f64::from(shortest)) * draw.f64();
        8 + (f64::from(shortest) * doublings.exp2()) as u64
    }

    /// What befalls a connection.
    fn plan(&self, id: u8, number: u64, cuts_left: bool) -> Plan {
        if !cuts_left {
            return Plan::default();
        }
        let mut draw = self.draw(id, 2, number);
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        // A frame has some 700 bytes in the mean. What resets take with them is not counted here, so
        // cuts must be closer than that.
        let apart = self.frames * 500 / self.cuts;
        let after = match draw.u32(..4) {
            // Within the first frames.
            0 => draw.u64(..100),
            _ => draw.u64(..2 * apart),
        };
        let (meet, pace, after) = match draw.u32(..100) {
            0..3 => (Meet::Close, Pace::Free, after),
            3..5 => (Meet::Forward, Pace::OneByOne, after.min(300)),
            5..8 => (Meet::Forward, Pace::Jitter(Duration::from_millis(2)), after),
            8..10 => (Meet::Forward, Pace::Throttle(4 << 20), after),
            _ => (Meet::Forward, Pace::Free, after),
        };
        Plan {
            meet,
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

/// One of those who send, with the proxy that it sends through.
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
        beside: &Beside,
        share: Share,
    ) -> Result<Self, Failure> {
        let transport = world::node(config.clone())?;
        let target = receiver.local_addr();
        let mut cuts = 0;
        let plan = move |number| {
            let plan = share.plan(id, number, cuts < share.cuts);
            cuts += u64::from(plan.cut.is_some() && plan.meet == Meet::Forward);
            plan
        };
        let proxy = Proxy::start(&beside.runtime, id, target, SOCKETS, plan)?;
        Ok(Sender {
            id,
            share,
            peer: transport.peer(proxy.addr())?,
            transport,
            proxy,
        })
    }

    /// Sends its frames, and more until all cuts have been made.
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
                // A door that is closed for a moment.
                if self.share.draw(self.id, 3, sequence).u32(..50) == 0 {
                    self.proxy.refuse(true).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    self.proxy.refuse(false).await?;
                }
            }
            // Some of the time as much as goes, most of it what the network carries away, so that a
            // cut finds buffers full, and empty.
            let hurry = self.share.draw(self.id, 4, sequence / 4096).u32(..5) < 2;
            if !hurry && sequence % 32 == 0 {
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
            sent.map_err(|err| Failure::stuck(err.to_string()))?;
            sequence += 1;
        }
    }
}
