//! An actor that panics, stops and is taken out of the table, time and again, beside others that do
//! their work: the others lose nothing, and every frame of its own has one fate.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, Shutdown, Transport};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    eye::Eye,
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    track::Track,
    traffic::{Offering, Pace, Tally, offer, serve},
    world::{ONE_EACH, WANTED, hush, node, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "group-actor",
    what: "an actor that panics, stops, goes and comes: other groups lose 0, its frames add up",
    run: |run| system(deaths(run)),
};

/// The groups that nothing happens to, and the one that everything happens to.
const OTHERS: u32 = 8;
const FRAIL: u32 = 99;

/// How many frames a life lasts.
const LIFE: u64 = 1_000;

/// How a life ends.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum End {
    Panic,
    Stop,
    Unregistered,
}

const ENDS: [End; 3] = [End::Panic, End::Stop, End::Unregistered];

async fn deaths(run: &Run) -> Result<Figures, Failure> {
    hush();
    let deaths = run.tier.of(100, 10_000);
    // The long run is ten times as hurried.
    let (every, hurry) = run.tier.of(
        (Duration::from_millis(100), 1),
        (Duration::from_millis(10), 10),
    );
    let mut figures = Figures::default();
    let (a, b) = (
        node(Config::default().placement(ONE_EACH))?,
        node(Config::default().placement(ONE_EACH))?,
    );
    let eye = Eye::on([&a, &b]);
    let tracks: Arc<Mutex<BTreeMap<u32, Track>>> = Arc::default();
    let (noting, corrupt, others) = (tracks.clone(), Tally::default(), Tally::default());
    let (bad, well) = (corrupt.clone(), others.clone());
    serve(&b, 0..OTHERS, move |mut inbound| {
        let mut tracks = noting.lock().expect("nobody panics here");
        let (group, from) = (inbound.group().get(), inbound.from());
        let track = tracks.entry(group).or_default();
        while let Some(payload) = inbound.next_slice() {
            well.fetch_add(1, Relaxed);
            match Stamp::check(payload) {
                Some(stamp) if stamp.group == group => track.note(from, stamp.sequence),
                _ => drop(bad.fetch_add(1, Relaxed)),
            }
        }
    })?;
    let (to_others, to_frail) = (a.peer(b.local_addr())?, a.peer(b.local_addr())?);
    let offerings = [
        Offering::start(Pace::Each(Duration::from_millis(1), 8), move |number| {
            let (group, sequence) = (number as u32 % OTHERS, number / u64::from(OTHERS));
            offer(&to_others, group, stamp(group, sequence).payload(100))
        }),
        Offering::start(
            Pace::Each(Duration::from_millis(1), 20 * hurry),
            move |number| offer(&to_frail, FRAIL, stamp(FRAIL, number).payload(64)),
        ),
    ];

    run.progress.total(deaths);
    let taken = Tally::default();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..deaths {
        ticks.tick().await;
        let end = ENDS[number as usize % ENDS.len()];
        let frail = Frail {
            end,
            left: LIFE,
            taken: taken.clone(),
        };
        let life = frail.start();
        // Refused as long as the one before lives: it does not.
        b.register(GroupId::new(FRAIL), life.clone().recipient())?;
        if end == End::Unregistered {
            tokio::time::sleep(every / 2).await;
            b.unregister(GroupId::new(FRAIL));
            continue;
        }
        until("the end of a life", Duration::from_secs(10), || {
            !life.connected()
        })
        .await?;
        run.progress.at(number);
    }
    let [to_others, _] = offerings.map(Offering::end);
    let settled = || {
        let (sent, came) = (a.stats().tcp, b.stats().inbound);
        sent.written == sent.accepted && came.received == sent.written && came.in_delivery.is_zero()
    };
    until("all received", Duration::from_secs(10), settled).await?;
    let (inbound, links) = (b.stats().inbound, b.stats().links);
    let sum = inbound.delivered + inbound.dropped.actor_gone + inbound.dropped.no_group;
    let (well, frail) = (others.load(Relaxed), taken.load(Relaxed));
    figures.add("ends", deaths);
    figures.add("received", inbound.received.frames);
    figures.add("delivered", inbound.delivered.frames);
    figures.add("actor gone", inbound.dropped.actor_gone.frames);
    figures.add("no group", inbound.dropped.no_group.frames);
    figures.add("other groups", format!("{well} of {to_others}"));
    figures.must(sum == inbound.received, || {
        format!("{sum} of {}", inbound.received)
    });
    let counted = inbound.delivered.frames;
    figures.must(counted == well + frail, || {
        format!("{counted} delivered, {} taken by actors", well + frail)
    });
    let fates = [inbound.dropped.actor_gone, inbound.dropped.no_group];
    figures.must(fates.iter().all(|fate| !fate.is_zero()), || {
        "not every fate".into()
    });
    figures.must(well == to_others, || {
        format!("{well} of {to_others} came to the others")
    });
    figures.must(corrupt.load(Relaxed) == 0, || {
        format!("{} corrupt", corrupt.load(Relaxed))
    });
    for (group, track) in &*tracks.lock().expect("nobody panics here") {
        let whole = track.doubled + track.disordered + track.holes == 0;
        figures.must(whole, || format!("group {group}: {track:?}"));
    }
    figures.must(links.restarts == 0, || {
        format!("{} of our own actors died", links.restarts)
    });
    figures.must(a.stats().links.connects == 1, || {
        "the link did not stand".into()
    });
    end([a, b]).await?;
    eye.tell(&mut figures);
    figures.verdict()
}

fn stamp(group: u32, sequence: u64) -> Stamp {
    Stamp {
        sender: 1,
        incarnation: 0,
        group,
        sequence,
    }
}

async fn end<const N: usize>(transports: [Transport; N]) -> Result<(), Failure> {
    for transport in transports {
        transport.stop(Shutdown::Now).await;
        transport.stats().balance()?;
    }
    Ok(())
}

/// An actor that does not live long.
struct Frail {
    end: End,
    /// Frames until its end.
    left: u64,
    taken: Tally,
}

impl Actor for Frail {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Frail {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, ctx: &mut Context<Self>) {
        while inbound.next_slice().is_some() {
            self.taken.fetch_add(1, Relaxed);
            self.left = self.left.saturating_sub(1);
            match self.end {
                End::Panic if self.left == 0 => panic!("{WANTED}"),
                // What it has in hand it finishes; what comes behind that, it does not.
                End::Stop if self.left == 0 => ctx.stop(),
                _ => {}
            }
        }
    }
}
