//! No fault at all: everything arrives, and the tools say so; and faults that the tools must see.
//! Were this row not here, the others might hold because nobody looks.
//!
//! Beside it, what a queue drops on a connection that nothing happens to: of what was dropped nothing
//! comes, and all of the rest does.

use std::{collections::BTreeSet, time::Duration};

use actix_transport::{Config, GroupId, Overflow, ReceiveStats, SendStats, Shutdown, Transport};
use tokio::runtime::Handle;

use crate::{
    eye::Eye,
    proxy::{Pace, Plan, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, ONE_EACH, until},
};

pub(crate) const ROW: Row = Row {
    name: "clean",
    what: "no fault: all frames arrive, none of the dropped; any bit turned over: it is told",
    run,
};

const GROUPS: u64 = 4;
/// Frames that are offered in one go to a queue that drops.
const HEAP: u64 = 2_000;
const LONG: Duration = Duration::from_secs(30);

fn run(run: &Run) -> Result<Figures, Failure> {
    world::system(async {
        let frames = run.tier.of(20_000, 1_000_000);
        let mut figures = Figures::default();
        let eye = whole(frames, &mut figures).await?;
        bits(&mut figures).await?;
        drops(run.tier.of(20_000, 200_000), &mut figures).await?;
        eye.tell(&mut figures);
        figures.verdict()
    })
}

/// A frame's length on the wire.
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

/// Everything arrives.
async fn whole(frames: u64, figures: &mut Figures) -> Result<Eye, Failure> {
    let way = Way::new(Config::default(), Plan::default())?;
    let eye = Eye::on([&way.sender, &way.receiver]);
    way.send(frames).await?;
    let record = way.record.clone();
    until("all arrived", LONG, || record.book().frames == frames).await?;
    let end = way.end().await?;
    figures.add("frames", frames);
    figures.must(end.reconciled.received == frames, || {
        "not all arrived".into()
    });
    end.reconciled.tell(end.corrupt, figures);
    Ok(eye)
}

/// One bit of the second of two frames turned over: any bit of its header, and one of each byte of its
/// payload. The first is whole; of the second nobody takes a word.
async fn bits(figures: &mut Figures) -> Result<(), Failure> {
    let (mut corrupt, mut senseless) = (0, 0);
    let header = 0..8 * 8;
    let payload = (8..len(1)).map(|byte| byte * 8 + byte % 8);
    for bit in header.chain(payload) {
        let plan = Plan {
            flip: Some(len(0) * 8 + bit),
            pace: Pace::Jitter(Duration::from_millis(1)),
            ..Plan::default()
        };
        let way = Way::new(Config::default(), plan)?;
        way.send(2).await?;
        let end = way.end().await?;
        let ended = end.inbound.malformed + end.inbound.truncated;
        figures.must(end.frames - end.corrupt == 1, || {
            format!("bit {bit}: {} whole", end.frames - end.corrupt)
        });
        figures.must(end.corrupt + ended > 0, || {
            format!("bit {bit} turned over, and nobody saw it")
        });
        corrupt += u64::from(end.corrupt > 0);
        senseless += u64::from(end.corrupt == 0);
    }
    figures.add(
        "one bit turned over, a corrupt frame, or none that ends",
        format!("{corrupt}, {senseless}"),
    );
    figures.must(corrupt > 0 && senseless > 0, || {
        "lengths and contents are not both turned over".into()
    });
    Ok(())
}

/// More than goes through: what is dropped, as the oldest of a full queue or as stale, does not come.
async fn drops(frames: u64, figures: &mut Figures) -> Result<(), Failure> {
    let config = Config::default()
        .overflow(Overflow::DropOldest)
        .queue_frames(1_000)
        .stale_after(Duration::from_millis(50))
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(20));
    let way = Way::new(config, Plan::default())?;
    let eye = Eye::on([&way.sender, &way.receiver]);
    let peer = way.sender.peer(way.proxy.addr())?;
    // The first heap finds nobody there until a part of it is stale.
    way.proxy.refuse(true).await?;
    let mut refused = 0;
    for sequence in 0..frames {
        // Heaps that are more than the queue holds, and pauses in which a part of it flows.
        if sequence % HEAP == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if sequence == HEAP {
            let stale = || !way.sender.stats().tcp.dropped.stale.is_zero();
            until("something stale", LONG, stale).await?;
            way.proxy.refuse(false).await?;
        }
        let (group, payload) = frame(sequence);
        // What a link has in its hands is not dropped for another: if that is all, it is refused.
        refused += u64::from(peer.try_send(group, payload).is_err());
    }
    let end = way.end().await?;
    let SendStats {
        accepted,
        written,
        dropped,
        ..
    } = end.sent;
    let all = written + dropped.stale + dropped.overflow;
    figures.must(
        accepted.frames + refused == frames && all == accepted,
        || format!("{accepted} accepted, {written} written, {dropped:?}"),
    );
    figures.must(
        !dropped.stale.is_zero() && !dropped.overflow.is_zero(),
        || format!("not every drop: {dropped:?}"),
    );
    // Each that came is another of those accepted, and they are as many as were written: so none of
    // the others came.
    figures.must(end.frames == written.frames, || {
        format!("{written} written, {} came", end.frames)
    });
    let twice = end.frames - end.distinct;
    figures.must(end.corrupt + twice + end.reordered == 0, || {
        format!(
            "{} corrupt, {twice} twice, {} out of order",
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
    eye.holds()
}

/// A sender, a proxy, and a node that keeps what comes.
struct Way {
    sender: Transport,
    proxy: Proxy,
    receiver: Transport,
    record: Record,
}

/// What became of it.
struct End {
    reconciled: Reconciled,
    sent: SendStats,
    inbound: ReceiveStats,
    frames: u64,
    /// Frames that are not another one once more.
    distinct: u64,
    reordered: u64,
    corrupt: u64,
}

impl Way {
    fn new(config: Config, plan: Plan) -> Result<Self, Failure> {
        let receiver = world::node(Config::default().placement(ONE_EACH))?;
        let record = Record::default();
        receiver.catch_all(Some(record.keeper()));
        let sender = world::node(config.placement(ONE_EACH))?;
        let target = receiver.local_addr();
        let sockets = Sockets::default();
        let proxy = Proxy::start(&Handle::current(), 1, target, sockets, move |_| plan)?;
        Ok(Way {
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
                return Err(Failure::stuck("a send was refused"));
            }
        }
        Ok(())
    }

    /// Waits until all is written or dropped, and all that was written has come or its connection is
    /// over.
    async fn end(self) -> Result<End, Failure> {
        self.sender.stop(Shutdown::Drain(LONG)).await;
        // What was written to a connection may be there before the proxy knows of it.
        let made = self.sender.stats().links.connects as usize;
        let known = || self.proxy.count().0 >= made;
        until("the proxy accepted", LONG, known).await?;
        if !self.proxy.settled(LONG).await {
            return Err(Failure::stuck(
                "a connection through the proxy does not end",
            ));
        }
        let receiver = &self.receiver;
        let ledger = self.proxy.ledger();
        let stood = ledger.iter().filter(|passage| passage.stood).count() as u64;
        let over = || {
            let links = receiver.stats().links;
            links.accepted == stood && links.connections == 0
        };
        until("the receiver read all", LONG, over).await?;
        receiver.stop(Shutdown::Drain(LONG)).await;
        let sent = self.sender.stats().tcp;
        let book = self.record.book();
        Ok(End {
            reconciled: reconcile(1, &sent, &ledger, &book, len),
            distinct: {
                let all = book.arrivals.values().flat_map(|came| &came.sequences);
                all.collect::<BTreeSet<_>>().len() as u64
            },
            reordered: book.arrivals.values().map(|came| came.reordered).sum(),
            sent,
            inbound: receiver.stats().inbound,
            frames: book.frames,
            corrupt: book.corrupt,
        })
    }
}
