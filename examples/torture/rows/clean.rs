//! No fault at all: everything arrives, and the tools say so; and a fault that the tools must see.
//! Were this row not here, the others might hold because nobody looks.

use std::time::Duration;

use actix_transport::{Config, GroupId, Shutdown};
use tokio::runtime::Handle;

use crate::{
    proxy::{Pace, Plan, Proxy, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, ONE_EACH, until},
};

pub(crate) const ROW: Row = Row {
    name: "clean",
    what: "no fault: all frames arrive; one bit turned over: the checksum tells",
    run,
};

const GROUPS: u64 = 4;
const LONG: Duration = Duration::from_secs(30);

fn run(run: &Run) -> Result<Figures, Failure> {
    world::system(async {
        let frames = run.tier.of(20_000, 1_000_000);
        let (clean, corrupt) = send(frames, Plan::default()).await?;
        let mut figures = Figures::default();
        figures.add("frames", frames);
        figures.must(clean.received == frames, || "not all arrived".into());
        clean.tell(corrupt, &mut figures);

        // One of the last frame's own bytes, so that the frames before it are whole.
        let plan = Plan {
            flip: Some((len(0) + 8 + 20) * 8),
            pace: Pace::Jitter(Duration::from_millis(1)),
            ..Plan::default()
        };
        let (_, corrupt) = send(2, plan).await?;
        figures.must(corrupt == 1, || {
            format!("one bit turned over, {corrupt} corrupt")
        });
        figures.add("corrupt with one bit turned over", corrupt);
        figures.verdict()
    })
}

/// A frame's length on the wire.
fn len(sequence: u64) -> u64 {
    8 + 40 + sequence % 100
}

/// Sends frames through a proxy to a node that keeps them; says what became of them, and how many
/// were corrupt.
async fn send(frames: u64, plan: Plan) -> Result<(Reconciled, u64), Failure> {
    let config = Config::default().placement(ONE_EACH);
    let receiver = world::node(config.clone())?;
    let record = Record::default();
    receiver.catch_all(Some(record.keeper()));
    let sender = world::node(config)?;
    let target = receiver.local_addr();
    let proxy = Proxy::start(
        &Handle::current(),
        1,
        target,
        Sockets::default(),
        move |_| plan,
    )?;
    let peer = sender.peer(proxy.addr())?;
    for sequence in 0..frames {
        let group = (sequence % GROUPS) as u32;
        let stamp = Stamp {
            sender: 1,
            incarnation: 0,
            group,
            sequence,
        };
        let payload = stamp.payload((len(sequence) - 8) as usize);
        if peer.send(GroupId::new(group), payload).await.is_err() {
            return Err(Failure::stuck("a send was refused"));
        }
    }
    until("all arrived", LONG, || record.book().frames == frames).await?;
    let stats = peer.stats().frames;
    sender.stop(Shutdown::Drain(LONG)).await;
    proxy.settled(LONG).await;
    receiver.stop(Shutdown::Drain(LONG)).await;
    let book = record.book();
    let reconciled = reconcile(1, &stats, &proxy.ledger(), &book, len);
    Ok((reconciled, book.corrupt))
}
