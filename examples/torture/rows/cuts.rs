//! Connections are cut at random under load: every frame is received once, or its loss is
//! explained. With sessions, the receiver is also told of every loss, and order holds over the whole run.
//! With TLS, the streams are also cut in handshakes and within encrypted records.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use actix_transport::{
    Config, GroupId, Identity, NodeId, Peer, PeerEvent, Sessions, Shutdown, Transport,
};
use futures::future::try_join_all;

use crate::{
    balance_watch::BalanceWatch,
    keys::{Authority, Request},
    proxy::{CUTS, Cut, Ended, OnAccept, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile, reconcile_sealed},
    row::{Failure, Figures, Row, Run},
    rows::cuts_share::{PACE_NAMES, Share, pace_index},
    stamp::Stamp,
    tls_client::tls,
    world::{self, EventLog, ONE_EACH, ProxyRuntime, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "cuts",
    what: "random cuts, 3 senders × 8 groups: none corrupt, duplicate, reordered or unexplained",
    run: |run| world::system(torture(run, Links::Plain)),
};

pub(crate) const WITH_SESSIONS: Row = Row {
    name: "cuts-sessions",
    what: "the same with sessions: none reordered across connections, and all losses told exactly",
    run: |run| world::system(torture(run, Links::WithSessions)),
};

pub(crate) const WITH_TLS: Row = Row {
    name: "cuts-tls",
    what: "the same with TLS, cut in handshakes and records: no loss but what was cut off, all told exactly",
    run: |run| world::system(torture(run, Links::Encrypted)),
};

/// What the senders and the receiver use.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Links {
    Plain,
    WithSessions,
    /// With TLS, and therefore with sessions.
    Encrypted,
}

const SENDERS: u8 = 3;
const RECEIVER: u64 = 100;
const GROUPS: u64 = 8;
/// A little more than what a sender says in a handshake, so that some cuts are within it and others soon
/// after.
const HANDSHAKE: u64 = 2_000;
const NEVER: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(60);

/// Small buffers, so that a cut loses hundreds of kilobytes instead of megabytes, and writes are
/// often partial.
const SOCKETS: Sockets = Sockets {
    receive_buffer: Some(32 << 10),
    segment: Some(1400),
};

async fn torture(run: &Run, links: Links) -> Result<Figures, Failure> {
    let (frames, cuts) = match links {
        Links::Plain => run.tier.pick((1_000_000, 1_000), (20_000_000, 20_000)),
        Links::WithSessions => run.tier.pick((400_000, 500), (20_000_000, 20_000)),
        Links::Encrypted => run.tier.pick((400_000, 500), (10_000_000, 10_000)),
    };
    let sessions = match links {
        Links::Plain => Sessions::Off,
        Links::WithSessions | Links::Encrypted => Sessions::Required,
    };
    let authority = (links == Links::Encrypted).then(|| Authority::new("torture"));
    let began = Instant::now();
    let config = Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .sessions(sessions)
        .stale_after(NEVER)
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(20))
        .stable_after(Duration::ZERO);
    let receiver = node(&config, RECEIVER, authority.as_ref())?;
    let (record, events) = (Record::default(), EventLog::start(&receiver));
    receiver.catch_all(Some(record.recorder()));

    let proxy_runtime = ProxyRuntime::start()?;
    let each = Share {
        seed: run.seed,
        frames: frames / u64::from(SENDERS) + 1,
        cuts: cuts / u64::from(SENDERS) + 1,
        handshake: if authority.is_some() { HANDSHAKE } else { 0 },
    };
    run.progress.total(each.frames * u64::from(SENDERS));
    let senders = (1..=SENDERS).map(|id| {
        let transport = node(&config, id.into(), authority.as_ref())?;
        Sender::start(id, transport, &receiver, &proxy_runtime, each)
    });
    let senders = senders.collect::<Result<Vec<_>, _>>()?;
    let snapshots = BalanceWatch::start(
        senders
            .iter()
            .map(|sender| &sender.transport)
            .chain([&receiver]),
    );
    let first = match links {
        Links::Plain => 0,
        _ => first_contact(&senders, &receiver).await?,
    };
    let sent = try_join_all(senders.iter().map(|sender| sender.send(run, first))).await?;
    let mut figures = Figures::default();
    if links != Links::Plain {
        all_told(&senders, sent, &receiver).await?;
        add_told(&receiver, &events, &mut figures).await;
    }
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

    let mut all = Reconciled::default();
    let (mut connections, mut cut, mut by_kind, mut sent) = (0, 0, [0; CUTS.len()], 0);
    let mut failures = BTreeMap::<_, u64>::new();
    let (mut refused, mut paces, mut handshakes) = ([0; 2], [0; PACE_NAMES.len()], [0; 2]);
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
            paces[pace_index(connection.pace)] += u64::from(connection.taken.bytes > 0);
            if let Some(Ended::Cut(Cut { ending, side, .. })) = connection.ended {
                cut += 1;
                let kind = CUTS.iter().position(|kind| *kind == (ending, side));
                by_kind[kind.expect("one of all")] += 1;
            }
        }
        let id = sender.id;
        let len = |sequence| each.len(id, sequence);
        all.add(match links {
            Links::Encrypted => reconcile_sealed(id, &stats.tcp, &proxied, &arrived, len),
            _ => reconcile(id, &stats.tcp, &proxied, &arrived, len),
        });
        handshakes[0] += stats.tls.connected;
        handshakes[1] += stats.tls.failed.total();
        for (reason, number) in stats.tls.failed.iter() {
            *failures.entry(format!("{reason:?}")).or_insert(0) += number;
        }
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
    if links == Links::Encrypted {
        let [made, failed] = handshakes;
        figures.add("handshakes made", made);
        figures.add("failed", failed);
        for (reason, number) in failures {
            figures.add("of them", format!("{number} {reason}"));
        }
        figures.require(failed > 0, || "no handshake was cut".into());
        let accepted = received.tls.accepted;
        figures.require(accepted + received.tls.failed.total() >= made, || {
            format!("{made} handshakes made, {accepted} accepted")
        });
    }
    // Too few connections for some of each.
    let is_short = links != Links::Plain;
    for (what, number) in ["times refused", "closed at once"].into_iter().zip(refused) {
        figures.add(what, number);
        figures.require(number > 0 || is_short, || format!("never {what}"));
    }
    for (what, number) in PACE_NAMES.into_iter().zip(paces) {
        figures.add(what, number);
        figures.require(number > 0 || is_short, || format!("none {what}"));
    }
    figures.add("ended within a frame", truncated);
    figures.add("payload received", mib(arrived.bytes));
    all.add_to(arrived.corrupt, &mut figures);
    let across = arrived.reordered_across;
    figures.add("reordered across connections", across);
    figures.require(across == 0 || links == Links::Plain, || {
        format!("{across} out of order across connections")
    });
    snapshots.add_to(&mut figures);
    figures.add(
        "frames/s",
        (sent as f64 / began.elapsed().as_secs_f64()).round(),
    );
    figures.verdict()
}

/// Binds a node, with an identity that is used if sessions are on, and with keys of this authority, if any.
fn node(config: &Config, id: u64, authority: Option<&Authority>) -> Result<Transport, Failure> {
    let builder = Transport::builder().config(config.clone());
    let builder = builder.identity(Identity::new(NodeId::new(id)).cluster("torture"));
    let builder = match authority {
        Some(authority) => builder.tls(tls(&authority.certificate(Request::node(id)))?),
        None => builder,
    };
    Ok(builder.bind("127.0.0.1:0")?)
}

/// Sends one frame from each, and waits until it is received. What is lost before the first contact is not
/// counted by the receiver. Returns how many frames each has sent.
async fn first_contact(senders: &[Sender], receiver: &Transport) -> Result<u64, Failure> {
    for sender in senders {
        sender.send_one(0).await?;
    }
    let came = || receiver.stats().inbound.numbered == u64::from(SENDERS);
    until("the first contact", LONG, came).await?;
    Ok(1)
}

/// Waits until the receiver knows of every frame that was accepted, as received or as missing. A receiver
/// learns of a loss from what comes behind it, so a sender whose last frames were lost sends one more.
async fn all_told(
    senders: &[Sender],
    mut sent: Vec<u64>,
    receiver: &Transport,
) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < LONG {
        let (all, wait) = (sent.iter().sum::<u64>(), Duration::from_secs(1));
        let told = || receiver.stats().inbound.announced == all;
        if until("told", wait, told).await.is_ok() {
            return Ok(());
        }
        for (sender, next) in senders.iter().zip(&mut sent) {
            sender.send_one(*next).await?;
            *next += 1;
        }
    }
    let (inbound, all) = (receiver.stats().inbound, sent.iter().sum::<u64>());
    Err(Failure::error(format!(
        "{all} accepted, but the receiver was told of {} received and {} missing",
        inbound.numbered, inbound.missing
    )))
}

/// Adds what the receiver was told of missing frames.
async fn add_told(receiver: &Transport, events: &EventLog, figures: &mut Figures) {
    let inbound = receiver.stats().inbound;
    let in_events = || -> u64 {
        let events = events.all().into_iter();
        let lost = events.map(|(_, event)| match event {
            PeerEvent::Gap { lost, .. } => lost,
            _ => 0,
        });
        lost.sum()
    };
    let same = until("told", LONG, || in_events() == inbound.missing).await;
    figures.require(same.is_ok(), || {
        format!("{} missing, but {} in events", inbound.missing, in_events())
    });
    figures.add("accepted", inbound.announced);
    figures.add("of them told as missing", inbound.missing);
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
        transport: Transport,
        receiver: &Transport,
        proxy_runtime: &ProxyRuntime,
        share: Share,
    ) -> Result<Self, Failure> {
        let target = receiver.local_addr();
        // A node may end a connection before its cut, in the handshake.
        let spare = if share.handshake > 0 { 10 } else { 0 };
        let mut cuts = 0;
        let plan = move |number| {
            let plan = share.plan(id, number, cuts < share.cuts + spare);
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

    /// Sends its frames, and then more until all cuts have been made. Returns how many.
    async fn send(&self, run: &Run, first: u64) -> Result<u64, Failure> {
        let mut sequence = first;
        loop {
            if sequence % 1024 == first {
                run.progress.add(1024);
                let enough = sequence >= self.share.frames;
                let cut = self.proxy.count().1 as u64 >= self.share.cuts;
                if enough && cut || sequence >= 3 * self.share.frames {
                    return Ok(sequence);
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
            if !full_speed && sequence.is_multiple_of(32) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.send_one(sequence).await?;
            sequence += 1;
        }
    }

    async fn send_one(&self, sequence: u64) -> Result<(), Failure> {
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
        sent.map_err(|err| Failure::error(err.to_string()))
    }
}
