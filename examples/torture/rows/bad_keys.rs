//! Thousands of connections without the right keys beside one honest link with TLS: the link loses nothing
//! and is hardly slower, nothing gets in or out without keys, and every handshake that failed is counted.
//!
//! Eight of thirteen kinds make whole handshakes, which cost the node some hundred microseconds each. In the
//! gate there are about 290 connections a second for seven seconds, of which 180 are whole handshakes, and
//! in the middle 400 of these at once: more than a node has places for.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, Identity, NodeId, Shutdown, Transport};

use super::{
    bad_keys_clients::{KINDS, Material, attack},
    hostile::{self, Latencies, number, pair},
};
use crate::{
    balance_watch::BalanceWatch,
    keys::{Authority, Request},
    row::{Failure, Figures, Row, Run},
    tls_client::tls,
    turn_delay::TurnDelay,
    world::{Child, Cost, ONE_EACH, mib, system, until},
};

pub(crate) const ROW: Row = Row {
    name: "keys",
    what: "connections without the right keys: 0 frames in, 0 bytes out, honest loses 0, p99 ≤ 3 × quiet",
    run: |run| system(beside_honest(run)),
};

/// Of all connections, those that are made at once.
const BURST: usize = 400;

/// The most heap that the node may use for handshakes: 256 at the same time, and each has at most 32 KiB of
/// what came and some 8 KiB of rustls.
const HANDSHAKES: u64 = 256 * (40 << 10);

/// The most heap that it may use beside these: connections that wait to be told why they were refused, and
/// tables.
const FIXED: u64 = 4 << 20;

/// How long an honest node may take to get in: its dial waits for its turn behind hundreds of others.
const GETS_IN: Duration = Duration::from_secs(3);

async fn beside_honest(run: &Run) -> Result<Figures, Failure> {
    let count = run.tier.pick(2_000, 10_000);
    let quiet = Duration::from_secs(run.tier.pick(2, 10));
    let time = Duration::from_secs(run.tier.pick(7, 45));
    let authority = Authority::new("torture");
    let dir = Folder::make(&authority)?;
    let args = ["tls".to_owned(), dir.0.display().to_string()];
    let mut child = Child::start(hostile::ROLE.name, &args)?;
    let to: SocketAddr = child.parse()?;
    let (honest, offering) = hostile::honest_from(node(&authority, 2)?, to)?;
    let snapshots = BalanceWatch::start([&honest]);
    // A second server that is not attacked: other load on this machine affects both alike.
    let mut twin = Child::start(hostile::ROLE.name, &args)?;
    let (honest_twin, twin_offering) = hostile::honest_from(node(&authority, 3)?, twin.parse()?)?;
    let material = Arc::new(Material::new(&authority)?);

    run.progress.total(time.as_secs() * 20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    child.ask("begin")?;
    tokio::time::sleep(quiet).await;
    let alone = Latencies::of(&child.ask("latencies")?)?;

    let before = Cost::of(child.pid())?;
    child.ask("begin")?;
    twin.ask("begin")?;
    let turns = TurnDelay::start()?;
    let began = Instant::now();
    let attacking = std::thread::spawn(move || attack(&material, to, time, count - BURST, BURST));
    let (mut memory, mut newcomers, mut slowest) = (0, 0, Duration::ZERO);
    while !attacking.is_finished() {
        memory = memory.max(Cost::of(child.pid())?.memory);
        slowest = slowest.max(get_in(&authority, 10 + newcomers, to).await?);
        newcomers += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        run.progress.add(4);
    }
    let made = attacking.join();
    let made = made.map_err(|_| Failure::error("the attack panicked"))??;
    let took = began.elapsed();
    let during = Latencies::of(&child.ask("latencies")?)?;
    let twin_meanwhile = Latencies::of(&twin.ask("latencies")?)?;
    let turns = turns.end()?;
    let cpu = Cost::of(child.pid())?.cpu - before.cpu;

    // The honest link, and the nodes that came later.
    let all = made.total() + 1 + newcomers;
    let mut handshakes = (0, 0, 0);
    let counted = until("every handshake is counted", Duration::from_secs(5), || {
        handshakes = child
            .ask("handshakes")
            .ok()
            .and_then(|line| three(&line))
            .unwrap_or_default();
        handshakes.0 + handshakes.1 == all && child.ask("open").is_ok_and(|open| open == "1")
    });
    let counted = counted.await.is_ok();
    let open = number(&child.ask("open")?)?;
    let refused = offering.refused();
    offering.end();
    twin_offering.end();
    honest_twin.stop(Shutdown::Now).await;
    honest.stop(Shutdown::Drain(Duration::from_secs(5))).await;
    let written = honest.stats().tcp.written.frames;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let came = number(&child.ask("received")?)?;
    let (accepted, failed, frames_in) = three(&child.ask("handshakes")?).unwrap_or_default();
    let (base, peak) = pair(&child.ask("heap")?)?;
    let grown = peak.saturating_sub(base);
    let failures = child.ask("failures")?;

    let mut figures = Figures::default();
    for (kind, made) in KINDS.iter().zip(made.by_kind) {
        figures.add(kind.name(), made);
        figures.require(made > 0, || format!("none: {}", kind.name()));
    }
    figures.add("hostile in all", format!("{} in {took:.1?}", made.total()));
    figures.add("handshakes made", accepted);
    figures.add("failed", format!("{failed}: {failures}"));
    figures.require(counted, || {
        format!("{all} connections, {accepted} handshakes made and {failed} failed")
    });
    let others = made.by_kind[KINDS
        .iter()
        .position(|kind| kind.name() == "of another node")
        .expect("a kind")];
    figures.require(accepted <= 1 + newcomers + others, || {
        format!("{accepted} got in, and {others} had a valid certificate of another node")
    });
    figures.add("honest", format!("{written} written, {came} received"));
    figures.require(refused == 0 && came == written, || {
        format!("{came} of {written} received, {refused} refused")
    });
    // Each of the nodes that came later has sent one frame.
    let strange = frames_in.saturating_sub(written + newcomers);
    figures.add("frames in without keys", strange);
    figures.add("bytes out", made.bytes_out);
    figures.require(strange == 0 && frames_in == written + newcomers, || {
        format!("{frames_in} frames came in, {written} and {newcomers} were honest")
    });
    figures.require(made.bytes_out == 0, || {
        format!("{} bytes reached clients without keys", made.bytes_out)
    });
    figures.add("quiet", &alone);
    figures.add("under attack", &during);
    figures.add("undisturbed twin meanwhile", &twin_meanwhile);
    figures.add("turns of a busy thread late by", format!("p99 {turns:.0?}"));
    let limit = alone.p99.max(twin_meanwhile.p99).max(turns) * 3;
    figures.require(during.p99 <= limit, || {
        format!("p99 {:.0?}, {limit:.0?} is allowed", during.p99)
    });
    figures.add(
        "honest newcomers",
        format!("{newcomers}, in after {slowest:.0?} at most"),
    );
    figures.require(slowest <= GETS_IN, || "a newcomer waited too long".into());
    figures.add("heap", format!("+{} at most", mib(grown)));
    figures.require(grown <= HANDSHAKES + FIXED, || {
        format!(
            "{}, and {} is the bound",
            mib(grown),
            mib(HANDSHAKES + FIXED)
        )
    });
    figures.add(
        "resident",
        format!("{}, from {}", mib(memory), mib(before.memory)),
    );
    figures.add(
        "processor",
        format!("{:.0} %", cpu.as_secs_f64() / took.as_secs_f64() * 100.0),
    );
    figures.add("open afterwards", open);
    figures.require(open == 1, || format!("{open} connections are open"));
    snapshots.add_to(&mut figures);
    figures.verdict()
}

/// Binds a node with keys of this authority.
fn node(authority: &Authority, number: u64) -> Result<Transport, Failure> {
    let builder = Transport::builder()
        .config(Config::default().placement(ONE_EACH))
        .identity(Identity::new(NodeId::new(number)).cluster("torture"))
        .tls(tls(&authority.certificate(Request::node(number)))?);
    Ok(builder.bind("127.0.0.1:0")?)
}

/// Returns how long an honest node takes to get in and send a frame, which nobody serves.
async fn get_in(authority: &Authority, number: u64, to: SocketAddr) -> Result<Duration, Failure> {
    let node = node(authority, number)?;
    let began = Instant::now();
    node.try_send(to, GroupId::new(9), &b"here"[..])?;
    let written = || node.stats().tcp.written.frames == 1;
    until("an honest node gets in", Duration::from_secs(10), written).await?;
    let took = began.elapsed();
    node.stop(Shutdown::Drain(Duration::from_secs(1))).await;
    Ok(took)
}

fn three(line: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = line.split(' ').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// A folder with the keys of node 1, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make(authority: &Authority) -> Result<Self, Failure> {
        let name = format!("torture-keys-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0)?;
        let keys = authority.certificate(Request::node(1));
        keys.write(&folder.0, "node-1")?;
        crate::keys::write(&Path::join(&folder.0, "ca.pem"), &keys.ca_pem)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
