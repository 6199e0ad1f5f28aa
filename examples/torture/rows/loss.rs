//! Packets lost on the way: TCP makes up for it, and of datagrams every one is accounted for.

use std::time::{Duration, Instant};

use actix_transport::{Config, GroupId, PeerEvent, Transport};
use tokio::time::sleep;

use crate::{
    eye::Eye,
    netns::Namespace,
    row::{Failure, Figures, Row, Run, Tier},
    sink::Sink,
    stamp::Stamp,
    tally::Seen,
    world::{self, ONE_EACH, Watch, mib, until},
};

pub(crate) const ROW: Row = Row {
    name: "loss",
    what: "packets lost: TCP none corrupt, doubled, reordered; UDP sent = delivered + lost, exactly",
    run,
};

const MS: Duration = Duration::from_millis(1);
/// At 20 % it takes TCP a while to get through what is queued.
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
    let mut sink = Sink::start(&namespace.inside(), &format!("{}:0", namespace.there))?;
    lose(&namespace, percent)?;
    let config = Config::default()
        .placement(ONE_EACH)
        .max_frame(64 << 10)
        // Little waits, so that the end is not far when the time is over.
        .queue_bytes(256 << 10)
        .stale_after(Duration::from_secs(600))
        .connect_timeout(Duration::from_secs(30))
        .user_timeout(LONG);
    let bind = format!("{}:0", namespace.here);
    let transport = Transport::builder().config(config).bind(bind.as_str())?;
    let (watch, eye) = (Watch::on(&transport), Eye::on([&transport]));
    let peer = transport.peer(sink.addr)?;
    let (lost_before, no_room_before) = (lost(&namespace)?, sink.tally()?.1);
    let began = Instant::now();
    let (mut streamed, mut datagrams) = (0, 0);
    let mut shown = 0;
    while began.elapsed() < time {
        // As much as goes through.
        for _ in 0..20 {
            let payload =
                stamp(1, streamed).payload([40, 300, 3_000, 20_000][streamed as usize % 4]);
            if peer.try_send(GroupId::new(1), payload).is_err() {
                break;
            }
            streamed += 1;
        }
        // Some ten thousand a second, each within one packet.
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
        // The links that were lost took some along; the one that stands brings all up to the last.
        let last = sink.tally()?.0.came().of.get(&(1, 0)).and_then(Seen::last);
        let all = last.is_some_and(|last| last + 1 == streamed);
        if all || !peer.stats().connected || Instant::now() > deadline {
            break;
        }
        sleep(20 * MS).await;
    }
    // Whatever of datagrams is still on the cable.
    sleep(200 * MS).await;
    let (tally, no_room) = sink.tally()?;
    let no_room = no_room - no_room_before;
    let (packets, gone) = lost(&namespace)?;
    let (packets, gone) = (packets - lost_before.0, gone - lost_before.1);
    let came = tally.came();
    let arrived = came.streamed();
    let text = |text: &str| format!("{percent} %: {text}");
    figures.must(came.wrong().is_none(), || {
        text(&came.wrong().unwrap_or_default())
    });
    // A link that was given up takes what was on it along, in one piece, and nothing else is missing.
    let lost_links = transport.stats().links.disconnects;
    let gaps = came.of.get(&(1, 0)).map_or(1, |seen| seen.gaps(streamed));
    figures.must(gaps <= lost_links, || {
        text(&format!(
            "{written} written, {arrived} came, {gaps} gaps, {lost_links} links lost"
        ))
    });
    figures.must(written == streamed, || {
        text(&format!("{streamed} accepted, {written} written"))
    });
    figures.must(lost_links == 0 || percent > 5, || {
        text(&format!("{lost_links} links lost"))
    });
    eye.holds()?;
    let sent = stats.udp.written.frames;
    figures.must(sent == datagrams, || {
        text("datagrams were refused by the system")
    });
    figures.must(sent == came.datagrams + gone + no_room, || {
        text(&format!(
            "{sent} datagrams, {} came, {gone} lost, {no_room} no room",
            came.datagrams
        ))
    });
    figures.must(gone > 0 && packets > 0, || text("nothing was lost"));
    figures.add("loss", format!("{percent} %"));
    figures.add("TCP packets lost", packets);
    figures.add("frames written", written);
    figures.add("received", arrived);
    figures.add("links lost, and gaps", format!("{lost_links}, {gaps}"));
    for (at, event) in watch.all() {
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
        // The stream and the datagrams count for themselves.
        sender: group,
        incarnation: 0,
        group,
        sequence,
    }
}

/// Has so many of a hundred packets dropped, both ways.
fn lose(namespace: &Namespace, percent: u32) -> Result<(), Failure> {
    let steps = [
        "nft add table inet torture".into(),
        "nft add counter inet torture stream".into(),
        "nft add counter inet torture datagrams".into(),
        "nft add chain inet torture in { type filter hook input priority 0 ; }".into(),
        "nft add chain inet torture out { type filter hook output priority 0 ; }".into(),
        rule("in", "tcp", percent, "stream"),
        rule("out", "tcp", percent, "stream"),
        rule("in", "udp", percent, "datagrams"),
    ];
    for step in steps {
        let done = namespace.run(&step);
        done.map_err(|failure| Failure::skipped(format!("needs nft: {failure}")))?;
    }
    Ok(())
}

fn rule(chain: &str, protocol: &str, percent: u32, counter: &str) -> String {
    format!(
        "nft add rule inet torture {chain} meta l4proto {protocol} \
         numgen random mod 100 < {percent} counter name {counter} drop"
    )
}

/// How many packets of connections and how many datagrams were dropped.
fn lost(namespace: &Namespace) -> Result<(u64, u64), Failure> {
    let count = |counter: &str| {
        let said = namespace.run(&format!("nft list counter inet torture {counter}"))?;
        let mut words = said
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        let packets = words.nth(1).and_then(|word| word.parse().ok());
        packets.ok_or_else(|| Failure::stuck(format!("nft says `{said}`")))
    };
    Ok((count("stream")?, count("datagrams")?))
}
