//! Without a fault everything arrives and every check passes; faults that the checks must detect
//! are detected. Without this row the others could pass because they check nothing.
//!
//! It also tests a queue that drops frames: no dropped frame is received, and all others are.

use std::{collections::BTreeSet, time::Duration};

use actix_transport::{Config, GroupId, Overflow, ReceiveStats, SendStats, Shutdown, Transport};
use tokio::runtime::Handle;

use crate::{
    balance_watch::BalanceWatch,
    proxy::{Pace, Plan, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, ONE_EACH, until},
};

pub(crate) const ROW: Row = Row {
    name: "clean",
    what: "no fault: all frames arrive, no dropped one does; a flipped bit is always detected",
    run,
};

const GROUPS: u64 = 4;
/// Frames offered in one burst to a queue that drops.
const BURST: u64 = 2_000;
const LONG: Duration = Duration::from_secs(30);

fn run(run: &Run) -> Result<Figures, Failure> {
    world::system(async {
        let frames = run.tier.pick(20_000, 1_000_000);
        let mut figures = Figures::default();
        let snapshots = all_arrive(frames, &mut figures).await?;
        flipped_bits(&mut figures).await?;
        drops(run.tier.pick(20_000, 200_000), &mut figures).await?;
        snapshots.add_to(&mut figures);
        figures.verdict()
    })
}

/// Returns the length of a frame on the wire.
fn len(sequence: u64) -> u64 {
    8 + 40 + sequence % 100
}

fn frame(sequence: u64) -> (GroupId, Vec<u8>) {
    let stamp = Stamp {
        sender: 1,
        incarnation: 0,
        group: (sequence % GROUPS) as u32,
        sequence,
    };
    let payload = stamp.payload((len(sequence) - 8) as usize);
    (GroupId::new(stamp.group), payload)
}

/// Sends frames without a fault; all must arrive.
async fn all_arrive(frames: u64, figures: &mut Figures) -> Result<BalanceWatch, Failure> {
    let link = TestLink::new(Config::default(), Plan::default())?;
    let snapshots = BalanceWatch::start([&link.sender, &link.receiver]);
    link.send(frames).await?;
    let record = link.record.clone();
    until("all arrived", LONG, || record.lock().frames == frames).await?;
    let end = link.end().await?;
    figures.add("frames", frames);
    figures.require(end.reconciled.received == frames, || {
        "not all arrived".into()
    });
    end.reconciled.add_to(end.corrupt, figures);
    Ok(snapshots)
}

/// Flips one bit in the second of two frames: each bit of the header, and one in each byte of the
/// payload. The first frame must arrive intact, and the second must be recognised as corrupt.
async fn flipped_bits(figures: &mut Figures) -> Result<(), Failure> {
    let (mut corrupt, mut malformed) = (0, 0);
    let header = 0..8 * 8;
    let payload = (8..len(1)).map(|byte| byte * 8 + byte % 8);
    for bit in header.chain(payload) {
        let plan = Plan {
            flip: Some(len(0) * 8 + bit),
            pace: Pace::Jitter(Duration::from_millis(1)),
            ..Plan::default()
        };
        let link = TestLink::new(Config::default(), plan)?;
        link.send(2).await?;
        let end = link.end().await?;
        let ended = end.inbound.malformed + end.inbound.truncated;
        figures.require(end.frames - end.corrupt == 1, || {
            format!("bit {bit}: {} intact", end.frames - end.corrupt)
        });
        figures.require(end.corrupt + ended > 0, || {
            format!("bit {bit} was flipped and not detected")
        });
        corrupt += u64::from(end.corrupt > 0);
        malformed += u64::from(end.corrupt == 0);
    }
    figures.add(
        "one bit flipped: corrupt frames, ended connections",
        format!("{corrupt}, {malformed}"),
    );
    figures.require(corrupt > 0 && malformed > 0, || {
        "not both kinds of damage occurred".into()
    });
    Ok(())
}

/// Offers more frames than the link can carry. Frames dropped as stale or as the oldest of a full
/// queue must not arrive.
async fn drops(frames: u64, figures: &mut Figures) -> Result<(), Failure> {
    let config = Config::default()
        .overflow(Overflow::DropOldest)
        .queue_frames(1_000)
        .stale_after(Duration::from_millis(50))
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(20));
    let link = TestLink::new(config, Plan::default())?;
    let snapshots = BalanceWatch::start([&link.sender, &link.receiver]);
    let peer = link.sender.peer(link.proxy.addr())?;
    // The first burst waits for a connection until a part of it is stale.
    link.proxy.set_refusing(true).await?;
    let mut refused = 0;
    for sequence in 0..frames {
        // Bursts are larger than the queue; in the pauses a part of each is written.
        if sequence % BURST == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if sequence == BURST {
            let stale = || !link.sender.stats().tcp.dropped.stale.is_zero();
            until("something stale", LONG, stale).await?;
            link.proxy.set_refusing(false).await?;
        }
        let (group, payload) = frame(sequence);
        // A batch that the link has taken is not dropped for new frames: the offer is refused then.
        refused += u64::from(peer.try_send(group, payload).is_err());
    }
    let end = link.end().await?;
    let SendStats {
        accepted,
        written,
        dropped,
        ..
    } = end.sent;
    let all = written + dropped.stale + dropped.overflow;
    figures.require(
        accepted.frames + refused == frames && all == accepted,
        || format!("{accepted} accepted, {written} written, {dropped:?}"),
    );
    figures.require(
        !dropped.stale.is_zero() && !dropped.overflow.is_zero(),
        || format!("not both kinds of drop: {dropped:?}"),
    );
    // All received frames are distinct and were accepted, and their number is that of the written
    // ones. So no dropped frame was received.
    figures.require(end.frames == written.frames, || {
        format!("{written} written, {} received", end.frames)
    });
    let twice = end.frames - end.distinct;
    figures.require(end.corrupt + twice + end.reordered == 0, || {
        format!(
            "{} corrupt, {twice} duplicate, {} reordered",
            end.corrupt, end.reordered
        )
    });
    figures.add(
        "of a queue that drops: accepted, stale, overflow, written and received",
        format!(
            "{}, {}, {}, {}",
            accepted.frames, dropped.stale.frames, dropped.overflow.frames, end.frames
        ),
    );
    snapshots.check()
}

/// A sender, a proxy, and a receiver that records its frames.
struct TestLink {
    sender: Transport,
    proxy: Proxy,
    receiver: Transport,
    record: Record,
}

/// The counts at the end.
struct Results {
    reconciled: Reconciled,
    sent: SendStats,
    inbound: ReceiveStats,
    frames: u64,
    /// Frames without duplicates.
    distinct: u64,
    reordered: u64,
    corrupt: u64,
}

impl TestLink {
    fn new(config: Config, plan: Plan) -> Result<Self, Failure> {
        let receiver = world::node(Config::default().placement(ONE_EACH))?;
        let record = Record::default();
        receiver.catch_all(Some(record.recorder()));
        let sender = world::node(config.placement(ONE_EACH))?;
        let target = receiver.local_addr();
        let sockets = Sockets::default();
        let proxy = Proxy::start(&Handle::current(), 1, target, sockets, move |_| plan)?;
        Ok(TestLink {
            sender,
            proxy,
            receiver,
            record,
        })
    }

    async fn send(&self, frames: u64) -> Result<(), Failure> {
        let peer = self.sender.peer(self.proxy.addr())?;
        for sequence in 0..frames {
            let (group, payload) = frame(sequence);
            if peer.send(group, payload).await.is_err() {
                return Err(Failure::error("a send was refused"));
            }
        }
        Ok(())
    }

    /// Waits until all frames are written or dropped, and all written ones have arrived or their
    /// connection has ended.
    async fn end(self) -> Result<Results, Failure> {
        self.sender.stop(Shutdown::Drain(LONG)).await;
        // The sender may have written to a connection that the proxy has not accepted yet.
        let made = self.sender.stats().links.connects as usize;
        let known = || self.proxy.count().0 >= made;
        until("the proxy accepted", LONG, known).await?;
        if !self.proxy.settled(LONG).await {
            return Err(Failure::error("a connection through the proxy did not end"));
        }
        let receiver = &self.receiver;
        let connections = self.proxy.connections();
        let established = connections
            .iter()
            .filter(|connection| connection.established)
            .count() as u64;
        let over = || {
            let links = receiver.stats().links;
            links.accepted == established && links.connections == 0
        };
        until("the receiver read all", LONG, over).await?;
        receiver.stop(Shutdown::Drain(LONG)).await;
        let sent = self.sender.stats().tcp;
        let arrived = self.record.lock();
        Ok(Results {
            reconciled: reconcile(1, &sent, &connections, &arrived, len),
            distinct: {
                let all = arrived.arrivals.values().flat_map(|came| &came.sequences);
                all.collect::<BTreeSet<_>>().len() as u64
            },
            reordered: arrived.arrivals.values().map(|came| came.reordered).sum(),
            sent,
            inbound: receiver.stats().inbound,
            frames: arrived.frames,
            corrupt: arrived.corrupt,
        })
    }
}
