//! Packets are lost on the way: TCP sends them again, and every lost datagram is accounted for.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, PeerEvent, Transport};
use tokio::time::sleep;

use crate::{
    balance_watch::BalanceWatch,
    netns::Namespace,
    packet_loss::PacketLoss,
    receive_log::FromSender,
    row::{Failure, Figures, Row, Run, Tier},
    sink::Sink,
    stamp::Stamp,
    world::{self, EventLog, ONE_EACH, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "loss",
    what: "packets lost: TCP none corrupt, duplicate, reordered; UDP sent = delivered + lost, exactly",
    run,
};

const MS: Duration = Duration::from_millis(1);
/// With 20 % loss TCP needs a while for what is queued.
const LONG: Duration = Duration::from_secs(180);

fn run(run: &Run) -> Result<Figures, Failure> {
    let (percents, time): (&[u32], _) = match run.tier {
        Tier::Gate => (&[1], Duration::from_secs(10)),
        Tier::Long => (&[1, 5, 20], Duration::from_secs(60)),
    };
    run.progress.total(percents.len() as u64 * time.as_secs());
    world::system(async {
        let mut figures = Figures::default();
        for &percent in percents {
            lossy(run, percent, time, &mut figures).await?;
        }
        figures.verdict()
    })
}

async fn lossy(
    run: &Run,
    percent: u32,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let namespace = Namespace::new()?;
    let mut sink = Sink::start(&namespace.exec_prefix(), &format!("{}:0", namespace.there))?;
    let loss = PacketLoss::start(&namespace, percent)?;
    let config = Config::default()
        .placement(ONE_EACH)
        .max_frame(64 << 10)
        // A small queue, so that draining it at the end takes little time.
        .queue_bytes(256 << 10)
        .stale_after(Duration::from_secs(600))
        .connect_timeout(Duration::from_secs(30))
        .user_timeout(LONG);
    let bind = format!("{}:0", namespace.here);
    let transport = Transport::builder().config(config).bind(bind.as_str())?;
    let (events, snapshots) = (
        EventLog::start(&transport),
        BalanceWatch::start([&transport]),
    );
    let peer = transport.peer(sink.addr)?;
    let (lost_before, no_room_before) = (loss.lost(&namespace)?, sink.receive_log()?.1);
    let began = Instant::now();
    let (mut streamed, mut datagrams) = (0, 0);
    let mut shown = 0;
    while began.elapsed() < time {
        // As much as the link takes.
        for _ in 0..20 {
            let payload =
                stamp(1, streamed).payload([40, 300, 3_000, 20_000][streamed as usize % 4]);
            if peer.try_send(GroupId::new(1), payload).is_err() {
                break;
            }
            streamed += 1;
        }
        // Some ten thousand datagrams a second, each in one packet.
        for _ in 0..20 {
            let payload = stamp(2, datagrams).payload([40, 300, 1_300][datagrams as usize % 3]);
            let sent = transport.send_datagram(sink.addr, GroupId::new(2), payload);
            datagrams += u64::from(sent.is_ok());
        }
        sleep(2 * MS).await;
        let second = began.elapsed().as_secs().min(time.as_secs());
        run.progress.add(second - shown);
        shown = second;
    }
    let drained = || {
        let stats = transport.stats();
        let (tcp, udp) = (stats.tcp, stats.udp);
        tcp.queued.is_zero()
            && tcp.in_flight.is_zero()
            && udp.queued.is_zero()
            && udp.in_flight.is_zero()
    };
    until("all written", LONG, drained).await?;
    let stats = transport.stats();
    stats.balance()?;
    let written = stats.tcp.written.frames;
    let deadline = Instant::now() + LONG;
    loop {
        // A lost link loses frames; the present one carries everything up to the last.
        let last = sink
            .receive_log()?
            .0
            .lock()
            .by_sender
            .get(&(1, 0))
            .and_then(FromSender::last);
        let all = last.is_some_and(|last| last + 1 == streamed);
        if all || !peer.stats().connected || Instant::now() > deadline {
            break;
        }
        sleep(20 * MS).await;
    }
    // Wait for datagrams that are still on the way.
    sleep(200 * MS).await;
    let (log, no_room) = sink.receive_log()?;
    let no_room = no_room - no_room_before;
    let lost = loss.lost(&namespace)?;
    let packets = lost.tcp - lost_before.tcp;
    let gone = lost.datagrams - lost_before.datagrams;
    let came = log.lock();
    let arrived = came.streamed();
    let text = |text: &str| format!("{percent} %: {text}");
    figures.require(came.faults().is_none(), || {
        text(&came.faults().unwrap_or_default())
    });
    // A link that was given up loses one run of frames; nothing else may be missing.
    let lost_links = transport.stats().links.disconnects;
    let gaps = came
        .by_sender
        .get(&(1, 0))
        .map_or(1, |seen| seen.gaps(streamed));
    figures.require(gaps <= lost_links, || {
        text(&format!(
            "{written} written, {arrived} received, {gaps} gaps, {lost_links} links lost"
        ))
    });
    figures.require(written == streamed, || {
        text(&format!("{streamed} accepted, {written} written"))
    });
    figures.require(lost_links == 0 || percent > 5, || {
        text(&format!("{lost_links} links lost"))
    });
    snapshots.check()?;
    let sent = stats.udp.written.frames;
    figures.require(sent == datagrams, || {
        text("datagrams were refused by the system")
    });
    figures.require(sent == came.datagrams + gone + no_room, || {
        text(&format!(
            "{sent} datagrams, {} received, {gone} lost, {no_room} no room",
            came.datagrams
        ))
    });
    figures.require(gone > 0 && packets > 0, || text("nothing was lost"));
    figures.add("loss", format!("{percent} %, by {loss:?}"));
    figures.add("TCP packets lost", packets);
    figures.add("frames written", written);
    figures.add("received", arrived);
    figures.add("links lost, and gaps", format!("{lost_links}, {gaps}"));
    for (at, event) in events.all() {
        if let PeerEvent::Down { reason, .. } = event {
            let after = at - began;
            figures.add("for", format!("{reason:?} after {after:.0?}"));
        }
    }
    figures.add("payload received", mib(came.bytes));
    figures.add(
        "corrupt, duplicate, reordered",
        came.corrupt + came.duplicate + came.reordered,
    );
    figures.add("datagrams sent", sent);
    figures.add("delivered", came.datagrams);
    figures.add("lost on the way", gone);
    figures.add("no room in the kernel", no_room);
    Ok(())
}

fn stamp(group: u32, sequence: u64) -> Stamp {
    Stamp {
        // Frames and datagrams have separate sequences, so each kind has its own sender number.
        sender: group,
        incarnation: 0,
        group,
        sequence,
    }
}
