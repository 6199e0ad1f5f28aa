//! A process that is out of descriptors, for real, with connections to accept and to make: it waits
//! and does not spin, what it has goes on, and it recovers when there are some again.

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
    eye::Eye,
    row::{Failure, Figures, Row, Run},
    traffic::{Offering, Pace, Tally, count, offer},
    world::{Child, Cost, ONE_EACH, Role, node, questions, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "descriptors",
    what: "out of descriptors in accept and in dial: CPU < 5 %, nothing lost, recovers within 2 s",
    run: |run| system(drought(run)),
};

pub(crate) const ROLE: Role = Role {
    name: "choked",
    run: choked,
};

/// Who waits to be accepted, and who waits to be dialled.
const WAITING: u64 = 50;

/// Descriptors that the process may have.
const LIMIT: u64 = 256;

/// Where the honest links' frames go, those of who waits to be accepted, and those of who is dialled.
const HONEST: u32 = 1;
const ACCEPTED: u32 = 2;
const DIALLED: u32 = 3;

/// The honest links': 50 frames a second.
const PACE: Pace = Pace::Each(Duration::from_millis(20), 1);

const RECOVERY: Duration = Duration::from_secs(2);

async fn drought(run: &Run) -> Result<Figures, Failure> {
    let time = run.tier.of(Duration::from_secs(5), Duration::from_secs(30));
    let mut figures = Figures::default();
    // Reached by many addresses, each a peer of its own.
    let other = Transport::builder()
        .config(Config::default().placement(ONE_EACH))
        .bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let (honest, dialled) = (count(&other, [HONEST])?, count(&other, [DIALLED])?);
    let mut child = Child::start(ROLE.name, &[other.local_addr().port().to_string()])?;
    let to: SocketAddr = child.parse()?;
    let eye = Eye::on([&other]);
    let peer = other.peer(to)?;
    let offering = Offering::start(PACE, move |_| offer(&peer, HONEST, vec![0; 100]));
    let both = || other.stats().tcp.written.frames > 10 && honest.load(Relaxed) > 10;
    until("links both ways", Duration::from_secs(10), both).await?;

    run.progress.total(1);
    run.progress.say("out of descriptors");
    let held = child.ask("choke")?;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        // The kernel takes them in; the process has no descriptor for them.
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.write_all(&[&16u32.to_be_bytes()[..], &ACCEPTED.to_le_bytes(), &[0; 8]].concat())?;
        waiting.push(stream);
    }
    child.ask("dial")?;
    let (began, before) = (Instant::now(), Cost::of(child.pid())?.cpu);
    let came_before = honest.load(Relaxed);
    tokio::time::sleep(time).await;
    let (lasted, used) = (began.elapsed(), Cost::of(child.pid())?.cpu - before);
    let share = used.as_secs_f64() / lasted.as_secs_f64();
    let came_meanwhile = honest.load(Relaxed) - came_before;
    let early = dialled.load(Relaxed);
    let meanwhile = child.ask("counters")?;

    run.progress.say("some again");
    let (freed, limit) = (Instant::now(), Duration::from_secs(20));
    child.tell("free")?;
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
        return Err(Failure::stuck(format!("not two numbers: {ended}")));
    };
    // Of what the child wrote, those that waited to be dialled are no honest ones.
    let honest_written = written - dialled.load(Relaxed);
    let _ = until("all here", limit, || honest.load(Relaxed) == honest_written).await;
    let honest_came = honest.load(Relaxed);
    figures.add("descriptors", held);
    figures.add("for", format!("{lasted:.1?}"));
    figures.add("processor", format!("{:.1} %", share * 100.0));
    figures.add("meanwhile", &meanwhile);
    figures.add("accepted after", format!("{all_accepted:.0?}"));
    figures.add(
        "dialled after",
        format!("{:.0?}", all_dialled.as_ref().ok()),
    );
    figures.add("honest in", format!("{came} of {offered}"));
    figures.add("honest out", format!("{honest_came} of {honest_written}"));
    figures.must(share < 0.05, || {
        format!("{:.1} % of a processor", share * 100.0)
    });
    let stalls: f64 = meanwhile.split(' ').next().map_or(Ok(0.0), str::parse)?;
    figures.must(early == 0 && !meanwhile.contains(" 0 failed"), || {
        format!("there were descriptors: {early} dialled, {meanwhile}")
    });
    // The waits are bounded by a second: who tries ten times as often turns in circles, if slowly.
    figures.must(
        stalls > 0.0 && stalls <= 10.0 * lasted.as_secs_f64(),
        || format!("{stalls} tries to accept"),
    );
    figures.must(came_meanwhile as f64 > lasted.as_secs_f64() * 40.0, || {
        format!("the honest link stood: {came_meanwhile} frames meanwhile")
    });
    figures.must(came == offered, || format!("{came} of {offered} came in"));
    figures.must(honest_came == honest_written, || {
        format!("{honest_came} of {honest_written} came out")
    });
    figures.must(all_accepted.is_some_and(|took| took <= RECOVERY), || {
        "accepts late".into()
    });
    figures.must(all_dialled.is_ok_and(|took| took <= RECOVERY), || {
        "dials late".into()
    });
    other.stop(Shutdown::Now).await;
    drop(waiting);
    eye.tell(&mut figures);
    figures.verdict()
}

// ---- the other process -------------------------------------------------------------------------

/// A node that runs out of descriptors when it is told to.
fn choked(args: &[String]) -> Result<(), Failure> {
    let port: u16 = args
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or_default();
    system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            // The back-off of the dials is bounded by this, and so is the recovery.
            .redial_max(Duration::from_secs(1))
            .stale_after(Duration::from_secs(300));
        let node = node(config)?;
        let (honest, accepted) = (count(&node, [HONEST])?, count(&node, [ACCEPTED])?);
        let eye = Eye::on([&node]);
        let peer = node.peer((Ipv4Addr::LOCALHOST, port).into())?;
        let mut offering = Some(Offering::start(PACE, move |_| {
            offer(&peer, HONEST, vec![0; 100])
        }));
        println!("{}", node.local_addr());
        let mut hoard = Vec::new();
        let mut questions = questions();
        while let Some(question) = questions.recv().await {
            match &*question {
                "choke" => {
                    hoard = hoard_all()?;
                    println!("{LIMIT}, {} of them taken away", hoard.len());
                }
                "dial" => {
                    for index in 1..=WAITING {
                        let to = (Ipv4Addr::new(127, 0, 3, index as u8), port);
                        node.try_send(to.into(), GroupId::new(DIALLED), vec![0; 8])
                            .map_err(|err| Failure::stuck(err.to_string()))?;
                    }
                    println!("dialling");
                }
                "free" => {
                    hoard.clear();
                    println!("{}", recovered(&accepted).await?.as_micros());
                }
                "end" => {
                    let _ = offering.take().map(Offering::end);
                    node.stop(Shutdown::Drain(Duration::from_secs(5))).await;
                    eye.holds()?;
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

/// Lowers the limit, and takes what is left below it.
fn hoard_all() -> Result<Vec<File>, Failure> {
    let limit = Rlimit {
        current: Some(LIMIT),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(std::iter::from_fn(|| File::open("/dev/null").ok()).collect())
}

/// Waits until all who waited were heard; says how long that took.
async fn recovered(accepted: &Tally) -> Result<Duration, Failure> {
    let all = || accepted.load(Relaxed) == WAITING;
    until("all accepted", Duration::from_secs(20), all).await
}
