//! Connections that make a node hold memory and places: large frames that trickle in or never end, and
//! peers that leave while a handler is stuck. An honest link beside them loses nothing and is hardly
//! slower, and what they can take is bounded.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_transport::Shutdown;

use super::hostile::{self, Latencies, STUCK, number};
use crate::{
    balance_watch::BalanceWatch,
    processor_wait::ProcessorWait,
    row::{Failure, Figures, Row, Run},
    world::{Child, Cost, mib, pause, system},
};

pub(crate) const TRICKLE: Row = Row {
    name: "trickle",
    what: "half of a large frame, then byte by byte: memory ≤ 1.25 × received, honest p99 ≤ 3 × quiet",
    run: |run| system(trickle(run)),
};

pub(crate) const GONE: Row = Row {
    name: "gone",
    what: "peers leave while a handler is stuck: their places are free, honest p99 ≤ 3 × quiet",
    run: |run| system(gone(run)),
};

pub(crate) const INBOUND_MEMORY: Row = Row {
    name: "inbound-memory",
    what: "frames that never end: memory within `inbound_bytes`, honest p99 ≤ 3 × quiet",
    run: |run| system(inbound_memory(run)),
};

/// The longest frame.
const FRAME: usize = 10 << 20;

/// What the node may hold beside what the row allows: its own buffers, tables and fragmentation.
const FIXED: u64 = 24 << 20;

async fn trickle(run: &Run) -> Result<Figures, Failure> {
    const SENT: usize = 5_300_000;
    const EVERY: Duration = Duration::from_millis(260);

    let count = run.tier.pick(20, 100);
    let bound = (count * (SENT * 5 / 4 + (64 << 10))) as u64;
    beside_honest(run, 2 * bound, bound, Duration::ZERO, move |to, until| {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(dial_with(to, &frame(SENT))?);
        }
        while Instant::now() < until {
            pause(EVERY);
            for stream in &mut streams {
                stream.write_all(&[0])?;
            }
        }
        Ok(())
    })
    .await
}

async fn gone(run: &Run) -> Result<Figures, Failure> {
    let count = run.tier.pick(500, 1_000);
    let bytes = [&[0, 0, 0, 12], &STUCK.to_le_bytes()[..], b"held"].concat();
    beside_honest(run, 256 << 20, 0, Duration::ZERO, move |to, until| {
        for _ in 0..count {
            drop(dial_with(to, &bytes)?);
        }
        pause(until.saturating_duration_since(Instant::now()));
        Ok(())
    })
    .await
}

async fn inbound_memory(run: &Run) -> Result<Figures, Failure> {
    const BUDGET: u64 = 64 << 20;

    let count = run.tier.pick(50, 200);
    // They send their 500 MB as fast as they can: five turns of others, of 1 ms each.
    let turns = Duration::from_millis(5);
    beside_honest(run, BUDGET, BUDGET, turns, move |to, until| {
        let bytes = frame(FRAME - 1);
        // Those that are closed on the way have done their part.
        let open: Vec<_> = (0..count).map(|_| dial_with(to, &bytes)).collect();
        pause(until.saturating_duration_since(Instant::now()));
        drop(open);
        Ok(())
    })
    .await
}

/// The first `sent` bytes of a frame of `FRAME` bytes, for a group that nobody serves.
fn frame(sent: usize) -> Vec<u8> {
    let mut bytes = vec![0; sent];
    bytes[..4].copy_from_slice(&(FRAME as u32).to_be_bytes());
    bytes[4] = 9;
    bytes
}

fn dial_with(to: SocketAddr, bytes: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Runs `attack` against a node with this `inbound_bytes` that has an honest link. The attack may make
/// the node hold `memory` bytes more, and leaves no connection open. The honest link may take three times as
/// long as without it, and in any case `always_allowed`.
async fn beside_honest(
    run: &Run,
    inbound_bytes: u64,
    memory: u64,
    always_allowed: Duration,
    attack: impl FnOnce(SocketAddr, Instant) -> std::io::Result<()> + Send + 'static,
) -> Result<Figures, Failure> {
    let seconds = run.tier.pick(8, 40);
    let time = Duration::from_secs(seconds);
    let mut child = Child::start(hostile::ROLE.name, &[inbound_bytes.to_string()])?;
    let to: SocketAddr = child.parse()?;
    let (honest, offering) = hostile::honest(to)?;
    let snapshots = BalanceWatch::start([&honest]);
    // A second node that is not attacked: other load on this machine affects both alike.
    let mut twin = Child::start(hostile::ROLE.name, &[])?;
    let (honest_twin, twin_offering) = hostile::honest(twin.parse()?)?;
    run.progress.total(seconds * 20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    child.ask("begin")?;
    tokio::time::sleep(time / 2).await;
    let alone = Latencies::of(&child.ask("latencies")?)?;

    let before = Cost::of(child.pid())?.memory;
    let attacking = std::thread::spawn(move || attack(to, Instant::now() + time));
    child.ask("begin")?;
    twin.ask("begin")?;
    let waiting = ProcessorWait::start(child.pid())?;
    let mut most = before;
    while !attacking.is_finished() {
        most = most.max(Cost::of(child.pid())?.memory);
        tokio::time::sleep(Duration::from_millis(50)).await;
        run.progress.add(1);
    }
    let attacked = attacking.join();
    attacked.map_err(|_| Failure::error("the attack panicked"))??;
    let during = Latencies::of(&child.ask("latencies")?)?;
    let twin_meanwhile = Latencies::of(&twin.ask("latencies")?)?;
    let waited = waiting.end()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let open = number(&child.ask("open")?)?;

    let refused = offering.refused();
    offering.end();
    twin_offering.end();
    honest_twin.stop(Shutdown::Now).await;
    honest.stop(Shutdown::Drain(Duration::from_secs(5))).await;
    let written = honest.stats().tcp.written.frames;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let came = number(&child.ask("received")?)?;

    let mut figures = Figures::default();
    figures.add("closed by the node", child.ask("counters")?);
    figures.add("honest", format!("{written} written, {came} received"));
    figures.add("quiet", &alone);
    figures.add("under attack", &during);
    figures.add("undisturbed twin meanwhile", &twin_meanwhile);
    figures.add(
        "meanwhile its threads waited for a processor",
        format!("p99 {waited:.0?}"),
    );
    figures.add("memory", format!("+{} at most", mib(most - before)));
    figures.add("open afterwards", open);
    figures.require(refused == 0 && came == written, || {
        format!("{came} of {written} received, {refused} refused")
    });
    let quiet = alone.p99.max(twin_meanwhile.p99);
    // As in `hostile`: threads that the attack makes work wait longer for a processor than those of the twin.
    let bound = (quiet * 3).max(always_allowed) + waited;
    figures.require(during.p99 <= bound, || {
        format!("p99 {:.0?}, quiet it is {quiet:.0?}", during.p99)
    });
    let bound = memory + FIXED;
    figures.require(most - before <= bound, || {
        format!("{}, and {} is the bound", mib(most - before), mib(bound))
    });
    figures.require(open == 1, || format!("{open} connections are open"));
    snapshots.add_to(&mut figures);
    figures.verdict()
}
