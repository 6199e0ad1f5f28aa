//! A process runs out of file descriptors while connections wait to be accepted and dialled. It
//! waits instead of spinning, its present links keep working, and it recovers when descriptors are
//! free.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, Shutdown, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    traffic::{Counter, Offering, Pace, count, offer},
    world::{Child, Cost, ONE_EACH, Role, node, questions, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "descriptors",
    what: "out of descriptors in accept and in dial: CPU < 5 % more, nothing lost, recovers within 2 s",
    run: |run| system(run_out(run)),
};

pub(crate) const ROLE: Role = Role {
    name: "choked",
    run: child,
};

/// Connections that wait to be accepted, and peers that wait to be dialled.
const WAITING: u64 = 50;

/// The process' limit on descriptors.
const LIMIT: u64 = 256;

/// Groups of the frames: over the honest links, from accepted connections, to dialled peers.
const HONEST: u32 = 1;
const ACCEPTED: u32 = 2;
const DIALLED: u32 = 3;

/// Each honest link sends 50 frames a second.
const PACE: Pace = Pace::Each(Duration::from_millis(20), 1);

const RECOVERY: Duration = Duration::from_secs(2);

async fn run_out(run: &Run) -> Result<Figures, Failure> {
    let time = run
        .tier
        .pick(Duration::from_secs(5), Duration::from_secs(30));
    let mut figures = Figures::default();
    // Reached at many addresses; each is a peer of the child.
    let other = Transport::builder()
        .config(Config::default().placement(ONE_EACH))
        .bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let (honest, dialled) = (count(&other, [HONEST])?, count(&other, [DIALLED])?);
    let mut child = Child::start(ROLE.name, &[other.local_addr().port().to_string()])?;
    let to: SocketAddr = child.parse()?;
    let snapshots = BalanceWatch::start([&other]);
    let peer = other.peer(to)?;
    let offering = Offering::start(PACE, move |_| offer(&peer, HONEST, vec![0; 100]));
    let both = || other.stats().tcp.written.frames > 10 && honest.load(Relaxed) > 10;
    until("links both ways", Duration::from_secs(10), both).await?;

    run.progress.total(2);
    // What the honest links and the snapshots take is not the price of waiting.
    run.progress.set_message("the honest links alone");
    let alone = share_of_processor(child.pid(), time).await?;
    run.progress.add(1);

    run.progress.set_message("out of descriptors");
    let held = child.ask("choke")?;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        // The kernel accepts these into the backlog; the process has no descriptor for them.
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.write_all(&[&16u32.to_be_bytes()[..], &ACCEPTED.to_le_bytes(), &[0; 8]].concat())?;
        waiting.push(stream);
    }
    child.ask("dial")?;
    let (began, came_before) = (Instant::now(), honest.load(Relaxed));
    let share = share_of_processor(child.pid(), time).await?;
    let lasted = began.elapsed();
    let came_meanwhile = honest.load(Relaxed) - came_before;
    let early = dialled.load(Relaxed);
    let meanwhile = child.ask("counters")?;

    run.progress.set_message("descriptors are free again");
    let (freed, limit) = (Instant::now(), Duration::from_secs(20));
    child.send_line("free")?;
    let dials = || dialled.load(Relaxed) == WAITING;
    let all_dialled = until("all dialled", limit, dials)
        .await
        .map(|_| freed.elapsed());
    let all_accepted = child.line()?;
    let all_accepted = all_accepted.parse().map(Duration::from_micros).ok();
    run.progress.add(1);

    let offered = offering.end();
    until("written", limit, || {
        other.stats().tcp.written.frames == offered
    })
    .await?;
    let ended = child.ask("end")?;
    let numbers: Vec<u64> = ended.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [came, written] = numbers[..] else {
        return Err(Failure::error(format!("not two numbers: {ended}")));
    };
    // The frames to the dialled peers are part of what the child wrote.
    let honest_written = written - dialled.load(Relaxed);
    let _ = until("all here", limit, || honest.load(Relaxed) == honest_written).await;
    let honest_came = honest.load(Relaxed);
    figures.add("descriptors", held);
    figures.add("for", format!("{lasted:.1?}"));
    let percents = format!("{:.1} %, before {:.1} %", share * 100.0, alone * 100.0);
    figures.add("processor", &percents);
    figures.add("meanwhile", &meanwhile);
    figures.add("accepted after", format!("{all_accepted:.0?}"));
    figures.add(
        "dialled after",
        format!("{:.0?}", all_dialled.as_ref().ok()),
    );
    figures.add("honest in", format!("{came} of {offered}"));
    figures.add("honest out", format!("{honest_came} of {honest_written}"));
    figures.require(share - alone < 0.05, || {
        format!("{percents} of a processor")
    });
    let stalls: f64 = meanwhile.split(' ').next().map_or(Ok(0.0), str::parse)?;
    figures.require(early == 0 && !meanwhile.contains(" 0 failed"), || {
        format!("descriptors were not used up: {early} dialled, {meanwhile}")
    });
    // Waits between attempts grow to a second. Ten times as many attempts would be a busy loop.
    figures.require(
        stalls > 0.0 && stalls <= 10.0 * lasted.as_secs_f64(),
        || format!("{stalls} attempts to accept"),
    );
    figures.require(came_meanwhile as f64 > lasted.as_secs_f64() * 40.0, || {
        format!("the honest link stalled: {came_meanwhile} frames meanwhile")
    });
    figures.require(came == offered, || format!("{came} of {offered} received"));
    figures.require(honest_came == honest_written, || {
        format!("{honest_came} of {honest_written} received from the child")
    });
    figures.require(all_accepted.is_some_and(|took| took <= RECOVERY), || {
        "accepts too late".into()
    });
    figures.require(all_dialled.is_ok_and(|took| took <= RECOVERY), || {
        "dials too late".into()
    });
    other.stop(Shutdown::Now).await;
    drop(waiting);
    snapshots.add_to(&mut figures);
    figures.verdict()
}

/// Returns what a process takes of one processor.
async fn share_of_processor(pid: u32, time: Duration) -> Result<f64, Failure> {
    let (began, before) = (Instant::now(), Cost::of(pid)?.cpu);
    tokio::time::sleep(time).await;
    let used = Cost::of(pid)?.cpu - before;
    Ok(used.div_duration_f64(began.elapsed()))
}

// ---- the other process -------------------------------------------------------------------------

/// The child: a node that runs out of descriptors on command.
fn child(args: &[String]) -> Result<(), Failure> {
    let port: u16 = args
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or_default();
    system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            // Bounds the back-off between dials, and so the time to recover.
            .redial_max(Duration::from_secs(1))
            .stale_after(Duration::from_secs(300));
        let node = node(config)?;
        let (honest, accepted) = (count(&node, [HONEST])?, count(&node, [ACCEPTED])?);
        let snapshots = BalanceWatch::start([&node]);
        let peer = node.peer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let mut offering = Some(Offering::start(PACE, move |_| {
            offer(&peer, HONEST, vec![0; 100])
        }));
        println!("{}", node.local_addr());
        let mut taken = Vec::new();
        let mut questions = questions();
        while let Some(question) = questions.recv().await {
            match &*question {
                "choke" => {
                    taken = take_all()?;
                    println!("{LIMIT}, {} of them used up", taken.len());
                }
                "dial" => {
                    for index in 1..=WAITING {
                        let to = (Ipv4Addr::new(127, 0, 3, index as u8), port);
                        node.try_send(SocketAddr::from(to), GroupId::new(DIALLED), vec![0; 8])
                            .map_err(|err| Failure::error(err.to_string()))?;
                    }
                    println!("dialling");
                }
                "free" => {
                    taken.clear();
                    println!("{}", recovered(&accepted).await?.as_micros());
                }
                "end" => {
                    let _ = offering.take().map(Offering::end);
                    node.stop(Shutdown::Drain(Duration::from_secs(5))).await;
                    snapshots.check()?;
                    println!(
                        "{} {}",
                        honest.load(Relaxed),
                        node.stats().tcp.written.frames
                    );
                }
                _ => {
                    let links = node.stats().links;
                    let failed = links.dials - links.connects;
                    println!(
                        "{} stalled accepts, {failed} failed dials",
                        links.accept_stalls
                    );
                }
            }
        }
        Ok(())
    })
}

/// Lowers the limit, and opens files until no descriptor is left.
fn take_all() -> Result<Vec<File>, Failure> {
    let limit = Rlimit {
        current: Some(LIMIT),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(std::iter::from_fn(|| File::open("/dev/null").ok()).collect())
}

/// Waits until a frame of each waiting connection has arrived, and returns how long that took.
async fn recovered(accepted: &Counter) -> Result<Duration, Failure> {
    let all = || accepted.load(Relaxed) == WAITING;
    until("all accepted", Duration::from_secs(20), all).await
}
