//! A link whose other end is out of reach without a word: the cable is pulled, or the answers go
//! nowhere. The transport gives it up in time, and comes back when it can.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, Peer, PeerEvent, Transport};
use tokio::time::sleep;

use crate::{
    netns::Namespace,
    row::{Failure, Figures, Row, Run},
    sink::Sink,
    stamp::Stamp,
    tally::Seen,
    world::{self, ONE_EACH, Stall, Watch, until},
};

pub(crate) const ROW: Row = Row {
    name: "half-open",
    what: "cable pulled, answers in a black hole: the link is down within TCP_USER_TIMEOUT + 1 s",
    run,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const USER_TIMEOUT: Duration = Duration::from_millis(1_500);
const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Copy, Clone)]
enum Fault {
    Cable,
    BlackHole,
}

fn run(run: &Run) -> Result<Figures, Failure> {
    let times = run.tier.of(1, 20);
    run.progress.total(2 * times);
    world::system(async {
        let namespace = Namespace::new()?;
        let mut sink = Sink::start(&namespace.inside(), &format!("{}:0", namespace.there))?;
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .user_timeout(USER_TIMEOUT)
            .connect_timeout(SECOND)
            .redial_max(SECOND / 2)
            .stale_after(SECOND);
        let bind = format!("{}:0", namespace.here);
        let transport = Transport::builder().config(config).bind(bind.as_str())?;
        let watch = Watch::on(&transport);
        let peer = transport.peer(sink.addr)?;
        let mut figures = Figures::default();
        let mut sequence = 0;
        let (stall, mut worst) = (Stall::watch()?, Duration::ZERO);
        for fault in [Fault::Cable, Fault::BlackHole] {
            let (mut slowest, mut back) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..times {
                stall.take();
                let (down, again) =
                    once(fault, &namespace, &transport, &watch, &peer, &mut sequence).await?;
                let stood = stall.take();
                worst = worst.max(stood);
                figures.must(down <= USER_TIMEOUT + SECOND + stood, || {
                    format!("{fault:?}: down after {down:?}")
                });
                slowest = slowest.max(down);
                back = back.max(again);
                run.progress.add(1);
            }
            let (what, then) = match fault {
                Fault::Cable => ("cable pulled, down after at most", "back after at most"),
                Fault::BlackHole => ("black hole, down after at most", "back after at most"),
            };
            figures.add(what, format!("{slowest:.2?}"));
            figures.add(then, format!("{back:.0?}"));
        }
        let (tally, _) = sink.tally()?;
        let came = tally.came();
        figures.must(came.wrong().is_none(), || came.wrong().unwrap_or_default());
        transport.stats().balance()?;
        let tcp = transport.stats().tcp;
        figures.must(came.frames <= tcp.written.frames, || {
            "more came than was written".into()
        });
        // What is lost is lost with a link: one gap for each, and no other.
        let gaps = |seen: &Seen| seen.gaps(seen.last().map_or(0, |last| last + 1));
        let gaps = came.of.values().map(gaps).sum::<u64>();
        let links = transport.stats().links;
        figures.must(gaps <= links.disconnects, || {
            let runs: Vec<_> = came.of.values().map(|seen| &seen.runs).collect();
            format!("{gaps} gaps: {runs:?}, {links:?}, {:?}", watch.all())
        });
        figures.add("times each", times);
        figures.add("machine stood still for at most", format!("{worst:.0?}"));
        figures.add("TCP_USER_TIMEOUT", format!("{USER_TIMEOUT:?}"));
        figures.add("written", tcp.written.frames);
        figures.add("received", came.frames);
        figures.add("gaps", gaps);
        figures.add("links lost", links.disconnects);
        figures.add("stale", tcp.dropped.stale.frames);
        figures.verdict()
    })
}

/// One fault: says how long it took until the link was told to be down, and, the fault mended, until
/// there was one again.
async fn once(
    fault: Fault,
    namespace: &Namespace,
    transport: &Transport,
    watch: &Watch,
    peer: &Peer,
    sequence: &mut u64,
) -> Result<(Duration, Duration), Failure> {
    let set = |on| match fault {
        Fault::Cable => namespace.pulled(on),
        Fault::BlackHole => namespace.black_hole(on),
    };
    // Something is on its way all the time: what is not acknowledged is what counts.
    let mut offer = async || {
        let stamp = Stamp {
            sender: 1,
            incarnation: 0,
            group: 1,
            sequence: *sequence,
        };
        let sent = peer.try_send(GroupId::new(1), stamp.payload(200));
        *sequence += u64::from(sent.is_ok());
        sleep(5 * MS).await;
    };
    let settled = Instant::now();
    while !peer.stats().connected || settled.elapsed() < SECOND / 4 {
        offer().await;
        if settled.elapsed() > LONG {
            return Err(Failure::stuck("no link"));
        }
    }
    set(true)?;
    let began = Instant::now();
    let down = loop {
        offer().await;
        let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
        if let Some((at, _)) = watch.first(began, down) {
            break at - began;
        }
        if began.elapsed() > LONG {
            return Err(Failure::stuck(format!(
                "{fault:?}: the link is never told to be down"
            )));
        }
    };
    set(false)?;
    let began = Instant::now();
    while !peer.stats().connected {
        offer().await;
        if began.elapsed() > LONG {
            return Err(Failure::stuck(format!("{fault:?}: no link again")));
        }
    }
    let again = began.elapsed();
    until("balanced", LONG, || transport.stats().balance().is_ok()).await?;
    Ok((down, again))
}
