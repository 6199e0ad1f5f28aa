//! The other end of a link becomes unreachable without notice: the cable is pulled, or its answers
//! are dropped. The transport gives up the link in time, and connects again when it can.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, Peer, PeerEvent, Transport};
use tokio::time::sleep;

use crate::{
    netns::Namespace,
    receive_log::FromSender,
    row::{Failure, Figures, Row, Run},
    sink::Sink,
    stamp::Stamp,
    world::{self, EventLog, ONE_EACH, WakeDelay, until},
};

pub(crate) const ROW: Row = Row {
    name: "half-open",
    what: "cable pulled, answers dropped: the link is down within TCP_USER_TIMEOUT + 1 s",
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
    let times = run.tier.pick(1, 20);
    run.progress.total(2 * times);
    world::system(async {
        let namespace = Namespace::new()?;
        let mut sink = Sink::start(&namespace.exec_prefix(), &format!("{}:0", namespace.there))?;
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .user_timeout(USER_TIMEOUT)
            .connect_timeout(SECOND)
            .redial_max(SECOND / 2)
            .stale_after(SECOND);
        let bind = format!("{}:0", namespace.here);
        let transport = Transport::builder().config(config).bind(bind.as_str())?;
        let events = EventLog::start(&transport);
        let peer = transport.peer(sink.addr)?;
        let mut figures = Figures::default();
        let mut sequence = 0;
        let (wake_delay, mut worst) = (WakeDelay::start()?, Duration::ZERO);
        for fault in [Fault::Cable, Fault::BlackHole] {
            let (mut slowest, mut back) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..times {
                wake_delay.take();
                let (down, again) =
                    once(fault, &namespace, &transport, &events, &peer, &mut sequence).await?;
                let delay = wake_delay.take();
                worst = worst.max(delay);
                figures.require(down <= USER_TIMEOUT + SECOND + delay, || {
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
        let (log, _) = sink.receive_log()?;
        let came = log.lock();
        figures.require(came.faults().is_none(), || {
            came.faults().unwrap_or_default()
        });
        transport.stats().balance()?;
        let tcp = transport.stats().tcp;
        figures.require(came.frames <= tcp.written.frames, || {
            "more frames received than written".into()
        });
        // Frames are lost only with a link: at most one gap for each.
        let gaps = |seen: &FromSender| seen.gaps(seen.last().map_or(0, |last| last + 1));
        let gaps = came.by_sender.values().map(gaps).sum::<u64>();
        let links = transport.stats().links;
        figures.require(gaps <= links.disconnects, || {
            let runs: Vec<_> = came.by_sender.values().map(|seen| &seen.runs).collect();
            format!("{gaps} gaps: {runs:?}, {links:?}, {:?}", events.all())
        });
        figures.add("times each", times);
        figures.add("threads woken late by at most", format!("{worst:.0?}"));
        figures.add("TCP_USER_TIMEOUT", format!("{USER_TIMEOUT:?}"));
        figures.add("written", tcp.written.frames);
        figures.add("received", came.frames);
        figures.add("gaps", gaps);
        figures.add("links lost", links.disconnects);
        figures.add("stale", tcp.dropped.stale.frames);
        figures.verdict()
    })
}

/// Sets and removes one fault. Returns how long it took until the link was reported down, and then
/// until there was a link again.
async fn once(
    fault: Fault,
    namespace: &Namespace,
    transport: &Transport,
    events: &EventLog,
    peer: &Peer,
    sequence: &mut u64,
) -> Result<(Duration, Duration), Failure> {
    let set = |on| match fault {
        Fault::Cable => namespace.set_cable_pulled(on),
        Fault::BlackHole => namespace.set_black_hole(on),
    };
    // Frames are sent all the time, because the timeout counts unacknowledged data.
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
            return Err(Failure::error("no link"));
        }
    }
    set(true)?;
    let began = Instant::now();
    let down = loop {
        offer().await;
        let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
        if let Some((at, _)) = events.first(began, down) {
            break at - began;
        }
        if began.elapsed() > LONG {
            return Err(Failure::error(format!(
                "{fault:?}: the link was not reported down"
            )));
        }
    };
    set(false)?;
    let began = Instant::now();
    while !peer.stats().connected {
        offer().await;
        if began.elapsed() > LONG {
            return Err(Failure::error(format!("{fault:?}: no link again")));
        }
    }
    let again = began.elapsed();
    until("balanced", LONG, || transport.stats().balance().is_ok()).await?;
    Ok((down, again))
}
