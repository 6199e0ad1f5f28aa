//! The transport's own actors panic under load, one after another, at every failpoint. Each is
//! restarted, and every frame is accounted for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix_transport::{Failpoint, Shutdown, Transport, Via};

use super::{
    fragile::{self, POINTS, Tracks},
    fragile_load::{self, Load, LoadControl},
};
use crate::{
    row::{Failure, Figures, Row, Run},
    traffic::Offering,
    world::{Child, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "panics",
    what: "every point of every actor: restarts = panics, frames add up, traffic again ≤ 1 s, no abort",
    run: |run| system(panics(run)),
};

/// Number of the fragile node's peers. All are this node; several spread a burst over several
/// writers.
const FLOWS: u32 = 4;

/// Groups of our frames and of our datagrams. The fragile node uses 0 to 3, and 4 for datagrams.
const OURS: u32 = 8;
const OUR_DATAGRAMS: u32 = 9;

/// Pause after a burst, long enough for the restart delays to start over. An actor that ends ten
/// times without such a pause waits for a second.
const PAUSE_AFTER_BURST: Duration = Duration::from_millis(1_100);
const BURST: u64 = 4;

const TRAFFIC_LIMIT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

async fn panics(run: &Run) -> Result<Figures, Failure> {
    let each = run.tier.pick(20, 1_000);
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

    let control = LoadControl::default();
    control.set_running(true);
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
        fragile_load::frames(ours, us.peer(to)?, &control),
        fragile_load::datagrams(datagrams, &us, to, &control),
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
            slow += u64::from(took > TRAFFIC_LIMIT);
            longest = if took > longest.0 {
                (took, point)
            } else {
                longest
            };
            run.progress.add(1);
        }
        if round % BURST == BURST - 1 {
            tokio::time::sleep(PAUSE_AFTER_BURST).await;
        }
    }
    run.progress.set_message("checking");
    control.set_running(false);
    let [offered, datagrams] = load.map(Offering::end);
    let written = || us.stats().tcp.written.frames == offered;
    until("all written", LONG, written).await?;
    settled(&mut fragile).await?;
    let lost = numbers(&fragile.ask(&format!("lost {OURS} {offered}"))?);
    let came = numbers(&fragile.ask("received")?);
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
    let (mut theirs, mut arrived) = (0, tracks.lock());
    for (group, sent) in (0..).zip(flows) {
        let flow = arrived.flow(group, Via::Tcp);
        theirs += flow.track.received;
        let (came, lost) = (flow.track.received, flow.track.lost(*sent));
        figures.require(came == *sent && lost.frames == 0, || {
            format!("flow {group}: {came} of {sent} received, {lost:?}")
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
    let here_datagrams = arrived.flow(FLOWS, Via::Udp).track.received;
    let there_datagrams = came.saturating_sub(offered - lost);
    let sent_datagrams = datagrams + their_datagrams.iter().sum::<u64>();
    let (came_datagrams, overrun) = (here_datagrams + there_datagrams, overruns()? - overrun);
    figures.add(
        "datagrams",
        format!(
            "{came_datagrams} of {sent_datagrams}, no room for {overrun}, {given_up} frames given up in delivery"
        ),
    );
    figures.require(here.is_ok(), || {
        format!("not all written frames arrived: {sent:?}")
    });
    figures.require(
        restarts == armed && armed == each * POINTS.len() as u64,
        || format!("{armed} panics, {restarts} restarts"),
    );
    figures.require(left == 0, || format!("{left} frames dropped"));
    figures.require(wrong + arrived.faults() == 0, || {
        format!(
            "{wrong} there and {} here duplicate, reordered or missing: {}",
            arrived.faults(),
            arrived.describe_faults()
        )
    });
    figures.require(corrupt + arrived.corrupt == 0, || {
        format!("{corrupt} there and {} here corrupt", arrived.corrupt)
    });
    // Only a reader's panic loses connections, with the bytes in their kernels' buffers.
    figures.require(gaps <= readers, || {
        format!("{gaps} gaps, {readers} ends of readers")
    });
    figures.require(
        came_datagrams + overrun + given_up >= sent_datagrams,
        || "datagrams are missing".into(),
    );
    figures.require(slow == 0, || {
        format!("{slow} times no traffic after {TRAFFIC_LIMIT:?}")
    });
    figures.require(balance == "balanced", || balance.clone());
    figures.verdict()
}

/// Waits until frames offered after the panic have arrived on every flow, both ways.
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
            return Err(Failure::error(format!(
                "no traffic to it: {heard:?} of {offered:?}"
            )));
        }
        heard = numbers(&fragile.ask("progress")?);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Returns whether each of the fragile node's flows has arrived up to `sent`; the last is
/// datagrams.
fn heard_here(tracks: &Tracks, sent: &[u64]) -> bool {
    let mut arrived = tracks.lock();
    (0..).zip(sent).all(|(group, sent)| {
        let via = if group < FLOWS { Via::Tcp } else { Via::Udp };
        arrived.flow(group, via).track.end >= *sent
    })
}

/// Waits until no more frames arrive at the fragile node.
async fn settled(fragile: &mut Child) -> Result<(), Failure> {
    let mut before = String::new();
    loop {
        let now = fragile.ask("progress")?;
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
    found.map_err(|_| Failure::error(format!("not {N} numbers: {numbers:?}")))
}

/// Returns how many datagrams this machine's kernel has dropped so far because a buffer was full.
fn overruns() -> Result<u64, Failure> {
    let table = std::fs::read_to_string("/proc/net/snmp")?;
    let mut rows = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "RcvbufErrors");
    let overruns = found.and_then(|(_, value)| value.parse().ok());
    overruns.ok_or_else(|| Failure::error("the kernel does not count overruns"))
}
