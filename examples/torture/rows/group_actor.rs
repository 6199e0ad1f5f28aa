//! An actor panics, stops and is unregistered again and again, beside other actors that work
//! normally. The others lose nothing, and each frame for this actor is in exactly one counter.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, Shutdown, Transport};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    track::Track,
    traffic::{Counter, Offering, Pace, offer, serve},
    world::{EXPECTED_PANIC, ONE_EACH, node, silence_expected_panics, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "group-actor",
    what: "an actor panics, stops, is unregistered: other groups lose 0, its frames add up",
    run: |run| system(ends(run)),
};

/// Number of groups that are left alone, and the group whose actor ends again and again.
const OTHERS: u32 = 8;
const SHORT_LIVED: u32 = 99;

/// Number of frames after which an actor ends.
const LIFE: u64 = 1_000;

/// How an actor ends.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum End {
    Panic,
    Stop,
    Unregistered,
}

const ENDS: [End; 3] = [End::Panic, End::Stop, End::Unregistered];

async fn ends(run: &Run) -> Result<Figures, Failure> {
    silence_expected_panics();
    let ends = run.tier.pick(100, 10_000);
    // The long run is ten times as fast.
    let (every, hurry) = run.tier.pick(
        (Duration::from_millis(100), 1),
        (Duration::from_millis(10), 10),
    );
    let mut figures = Figures::default();
    let (a, b) = (
        node(Config::default().placement(ONE_EACH))?,
        node(Config::default().placement(ONE_EACH))?,
    );
    let snapshots = BalanceWatch::start([&a, &b]);
    let tracks: Arc<Mutex<BTreeMap<u32, Track>>> = Arc::default();
    let (noting, corrupt, others) = (tracks.clone(), Counter::default(), Counter::default());
    let (bad, by_others) = (corrupt.clone(), others.clone());
    serve(&b, 0..OTHERS, move |mut inbound| {
        let mut tracks = noting.lock().expect("no holder of this lock panics");
        let (group, from) = (inbound.group().get(), inbound.from().socket_addr());
        let track = tracks.entry(group).or_default();
        while let Some(payload) = inbound.next_slice() {
            by_others.fetch_add(1, Relaxed);
            match Stamp::check(payload) {
                Some(stamp) if stamp.group == group => track.note(from, stamp.sequence),
                _ => drop(bad.fetch_add(1, Relaxed)),
            }
        }
    })?;
    let (to_others, to_short_lived) = (a.peer(b.local_addr())?, a.peer(b.local_addr())?);
    let offerings = [
        Offering::start(Pace::Each(Duration::from_millis(1), 8), move |number| {
            let (group, sequence) = (number as u32 % OTHERS, number / u64::from(OTHERS));
            offer(&to_others, group, stamp(group, sequence).payload(100))
        }),
        Offering::start(
            Pace::Each(Duration::from_millis(1), 20 * hurry),
            move |number| {
                offer(
                    &to_short_lived,
                    SHORT_LIVED,
                    stamp(SHORT_LIVED, number).payload(64),
                )
            },
        ),
    ];

    run.progress.total(ends);
    let taken = Counter::default();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..ends {
        ticks.tick().await;
        let end = ENDS[number as usize % ENDS.len()];
        let short_lived = ShortLived {
            end,
            left: LIFE,
            taken: taken.clone(),
        };
        let actor = short_lived.start();
        // Fails while the former actor lives, so this also checks that it has ended.
        b.register(GroupId::new(SHORT_LIVED), actor.clone().recipient())?;
        if end == End::Unregistered {
            tokio::time::sleep(every / 2).await;
            b.unregister(GroupId::new(SHORT_LIVED));
            continue;
        }
        until("the actor ended", Duration::from_secs(10), || {
            !actor.connected()
        })
        .await?;
        run.progress.set_done(number);
    }
    let [to_others, _] = offerings.map(Offering::end);
    let settled = || {
        let (sent, came) = (a.stats().tcp, b.stats().inbound);
        sent.written == sent.accepted && came.received == sent.written && came.in_delivery.is_zero()
    };
    until("all received", Duration::from_secs(10), settled).await?;
    let (inbound, links) = (b.stats().inbound, b.stats().links);
    let sum = inbound.delivered + inbound.dropped.actor_gone + inbound.dropped.no_group;
    let (by_others, short_lived) = (others.load(Relaxed), taken.load(Relaxed));
    figures.add("ends", ends);
    figures.add("received", inbound.received.frames);
    figures.add("delivered", inbound.delivered.frames);
    figures.add("actor gone", inbound.dropped.actor_gone.frames);
    figures.add("no group", inbound.dropped.no_group.frames);
    figures.add("other groups", format!("{by_others} of {to_others}"));
    figures.require(sum == inbound.received, || {
        format!("{sum} of {}", inbound.received)
    });
    let counted = inbound.delivered.frames;
    figures.require(counted == by_others + short_lived, || {
        format!(
            "{counted} delivered, {} taken by actors",
            by_others + short_lived
        )
    });
    let drops = [inbound.dropped.actor_gone, inbound.dropped.no_group];
    figures.require(drops.iter().all(|drop| !drop.is_zero()), || {
        "not every kind of drop occurred".into()
    });
    figures.require(by_others == to_others, || {
        format!("{by_others} of {to_others} received by the others")
    });
    figures.require(corrupt.load(Relaxed) == 0, || {
        format!("{} corrupt", corrupt.load(Relaxed))
    });
    for (group, track) in &*tracks.lock().expect("no holder of this lock panics") {
        let whole = track.duplicates + track.reordered + track.gaps == 0;
        figures.require(whole, || format!("group {group}: {track:?}"));
    }
    figures.require(links.restarts == 0, || {
        format!("{} actors of the transport ended", links.restarts)
    });
    figures.require(a.stats().links.connects == 1, || "the link was lost".into());
    end([a, b]).await?;
    snapshots.add_to(&mut figures);
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

/// An actor that ends after some frames.
struct ShortLived {
    end: End,
    /// Frames until its end.
    left: u64,
    taken: Counter,
}

impl Actor for ShortLived {
    type Context = Context<Self>;
}

impl Handler<Inbound> for ShortLived {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, ctx: &mut Context<Self>) {
        while inbound.next_slice().is_some() {
            self.taken.fetch_add(1, Relaxed);
            self.left = self.left.saturating_sub(1);
            match self.end {
                End::Panic if self.left == 0 => panic!("{EXPECTED_PANIC}"),
                // It handles the rest of this batch, and no further one.
                End::Stop if self.left == 0 => ctx.stop(),
                _ => {}
            }
        }
    }
}
