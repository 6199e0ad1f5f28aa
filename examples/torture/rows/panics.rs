//! The transport's own actors panic, one after another, at every point where that can be arranged,
//! under load: each is started anew, and every frame is where it must be.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix_transport::{Failpoint, Shutdown, Transport, Via};

use super::{
    fragile::{self, POINTS, Tracks},
    fragile_load::{self, Hand, Load},
};
use crate::{
    row::{Failure, Figures, Row, Run},
    traffic::Offering,
    world::{Child, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "panics",
    what: "every point of every actor: restarts = panics, frames add up, traffic again ≤ 1 s, no abort",
    run: |run| system(strikes(run)),
};

/// The fragile node's peers, all of them us, so that a burst of panics is spread over some writers.
const FLOWS: u32 = 4;

/// Our own flows' group, and that of our datagrams; the fragile one's are 0 to 3 and, for datagrams, 4.
const OURS: u32 = 8;
const OUR_DATAGRAMS: u32 = 9;

/// After a burst, everybody lives long enough for the waits between lives to start over: one who ends
/// ten times without that waits for as long as a second.
const REST: Duration = Duration::from_millis(1_100);
const BURST: u64 = 4;

const AGAIN: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

async fn strikes(run: &Run) -> Result<Figures, Failure> {
    let each = run.tier.of(20, 1_000);
    let mut figures = Figures::default();
    let us = Transport::builder()
        .config(fragile::config())
        .bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let tracks = Tracks::default();
    tracks.serve(&us)?;
    let port = us.local_addr().port();
    let flows = (1..=FLOWS).map(|host| format!("127.0.0.{host}:{port}"));
    let mut args: Vec<String> = ["127.0.0.1:0", "0", "0"].map(String::from).to_vec();
    args.push(format!("127.0.0.1:{port}"));
    args.extend(flows);
    let mut fragile = Child::start(fragile::ROLE.name, &args)?;
    let to: SocketAddr = fragile.parse()?;

    let hand = Hand::default();
    hand.go(true);
    let (ours, datagrams) = (
        Load {
            incarnation: 0,
            group: OURS,
        },
        Load {
            incarnation: 0,
            group: OUR_DATAGRAMS,
        },
    );
    let load = [
        fragile_load::frames(ours, us.peer(to)?, &hand),
        fragile_load::datagrams(datagrams, &us, to, &hand),
    ];
    fragile.ask("go")?;
    let overrun = overruns()?;
    run.progress.total(each * POINTS.len() as u64);
    let (mut longest, mut slow) = ((Duration::ZERO, Failpoint::Listener), 0);
    for round in 0..each {
        for (index, point) in POINTS.into_iter().enumerate() {
            let struck = numbers(&fragile.ask(&format!("strike {index}"))?);
            let (restarted, began) = (struck.first().copied().unwrap_or(0), Instant::now());
            let offered = load.each_ref().map(Offering::taken);
            traffic_again(&mut fragile, &tracks, &struck[1..], &offered).await?;
            let took = Duration::from_micros(restarted) + began.elapsed();
            slow += u64::from(took > AGAIN);
            longest = if took > longest.0 {
                (took, point)
            } else {
                longest
            };
            run.progress.add(1);
        }
        if round % BURST == BURST - 1 {
            tokio::time::sleep(REST).await;
        }
    }
    run.progress.say("reckoning");
    hand.go(false);
    let [offered, datagrams] = load.map(Offering::end);
    let written = || us.stats().tcp.written.frames == offered;
    until("all written", LONG, written).await?;
    settled(&mut fragile).await?;
    let lost = numbers(&fragile.ask(&format!("lost {OURS} {offered}"))?);
    let came = numbers(&fragile.ask("came")?);
    let counts = numbers(&fragile.ask("end")?);
    let sent = numbers(&fragile.line()?);
    let balance = fragile.line()?;
    let ([lost, gaps], [came, wrong, corrupt], [armed, restarts, left, given_up]) =
        (fixed(&lost)?, fixed(&came)?, fixed(&counts)?);
    let (flows, their_datagrams) = sent.split_at(FLOWS as usize);
    let all_here = || heard_here(&tracks, &sent);
    let here = until("all here", LONG, all_here).await;
    us.stop(Shutdown::Now).await;
    us.stats().balance()?;

    let readers = each;
    figures.add("panics", armed);
    figures.add("restarts", restarts);
    figures.add(
        "traffic again after",
        format!("{:.0?} at most ({:?})", longest.0, longest.1),
    );
    let (mut theirs, mut book) = (0, tracks.book());
    for (group, sent) in (0..).zip(flows) {
        let flow = book.flow(group, Via::Tcp);
        theirs += flow.track.came;
        let (came, lost) = (flow.track.came, flow.track.lost(*sent));
        figures.must(came == *sent && lost.frames == 0, || {
            format!("flow {group}: {came} of {sent} came, {lost:?}")
        });
    }
    figures.add(
        "from it",
        format!("{theirs} of {}", flows.iter().sum::<u64>()),
    );
    figures.add(
        "to it",
        format!(
            "{} of {offered}, gaps at {gaps} ends of links",
            offered - lost
        ),
    );
    let here_datagrams = book.flow(FLOWS, Via::Udp).track.came;
    let there_datagrams = came.saturating_sub(offered - lost);
    let sent_datagrams = datagrams + their_datagrams.iter().sum::<u64>();
    let (came_datagrams, overrun) = (here_datagrams + there_datagrams, overruns()? - overrun);
    figures.add(
        "datagrams",
        format!(
            "{came_datagrams} of {sent_datagrams}, no room for {overrun}, {given_up} frames given up in delivery"
        ),
    );
    figures.must(here.is_ok(), || {
        format!("not all that was written came: {sent:?}")
    });
    figures.must(
        restarts == armed && armed == each * POINTS.len() as u64,
        || format!("{armed} panics, {restarts} restarts"),
    );
    figures.must(left == 0, || format!("{left} frames dropped"));
    figures.must(wrong + book.wrong() == 0, || {
        format!(
            "{wrong} there and {} here twice, out of order or missing: {}",
            book.wrong(),
            book.story()
        )
    });
    figures.must(corrupt + book.corrupt == 0, || {
        format!("{corrupt} there and {} here corrupt", book.corrupt)
    });
    // Only a reader that goes takes connections with it, and what their kernels held.
    figures.must(gaps <= readers, || {
        format!("{gaps} gaps, {readers} ends of readers")
    });
    figures.must(
        came_datagrams + overrun + given_up >= sent_datagrams,
        || "datagrams are missing".into(),
    );
    figures.must(slow == 0, || {
        format!("{slow} times no traffic after {AGAIN:?}")
    });
    figures.must(balance == "balanced", || balance.clone());
    figures.verdict()
}

/// Waits until frames that were offered after the panic have come, on every flow, both ways.
async fn traffic_again(
    fragile: &mut Child,
    tracks: &Tracks,
    sent: &[u64],
    offered: &[u64],
) -> Result<(), Failure> {
    until("traffic from it", LONG, || heard_here(tracks, sent)).await?;
    let mut heard = Vec::new();
    let began = Instant::now();
    while heard.len() < offered.len() || heard.iter().zip(offered).any(|(end, sent)| end < sent) {
        if began.elapsed() > LONG {
            return Err(Failure::stuck(format!(
                "no traffic to it: {heard:?} of {offered:?}"
            )));
        }
        heard = numbers(&fragile.ask("heard")?);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Whether each of the fragile node's flows has come so far; the last are its datagrams.
fn heard_here(tracks: &Tracks, sent: &[u64]) -> bool {
    let mut book = tracks.book();
    (0..).zip(sent).all(|(group, sent)| {
        let via = if group < FLOWS { Via::Tcp } else { Via::Udp };
        book.flow(group, via).track.end >= *sent
    })
}

/// Waits until nothing more comes to the fragile node.
async fn settled(fragile: &mut Child) -> Result<(), Failure> {
    let mut before = String::new();
    loop {
        let now = fragile.ask("heard")?;
        if now == before {
            return Ok(());
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) fn numbers(line: &str) -> Vec<u64> {
    line.split(' ')
        .filter_map(|word| word.parse().ok())
        .collect()
}

pub(super) fn fixed<const N: usize>(numbers: &[u64]) -> Result<[u64; N], Failure> {
    let found = numbers.try_into();
    found.map_err(|_| Failure::stuck(format!("not {N} numbers: {numbers:?}")))
}

/// Datagrams that this machine's kernel had no room for so far.
fn overruns() -> Result<u64, Failure> {
    let table = std::fs::read_to_string("/proc/net/snmp")?;
    let mut rows = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "RcvbufErrors");
    let overruns = found.and_then(|(_, value)| value.parse().ok());
    overruns.ok_or_else(|| Failure::stuck("the kernel does not count overruns"))
}
