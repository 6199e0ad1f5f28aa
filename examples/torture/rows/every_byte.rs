//! Six frames cut after every byte, by FIN and by RST, on either side; and six frames of which the
//! sender's kernel took every possible number of bytes.
//!
//! In the first half the kernel takes everything and the network loses a part: complete frames
//! arrive, the others are lost, and none is received twice. In the second half the kernel's buffers
//! are full after a certain byte of the six, so the transport knows which frame it has written in
//! part. It must send this frame again, whole, on the next connection, and none before it.

use std::{cell::Cell, time::Duration};

use actix_transport::{Config, GroupId, Peer, Placement, Shutdown, Transport};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    proxy::{CUTS, Cut, Ending, Plan, Proxy, ProxyConnection, Side, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, until},
};

pub(crate) const ROW: Row = Row {
    name: "every-byte",
    what: "6 frames cut at every byte × FIN/RST × either side: a partial frame is received once",
    run,
};

/// Payload lengths of the six frames, with short and with long stamps.
const PAYLOADS: [usize; 6] = [8, 41, 13, 64, 32, 37];
const MS: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(30);
/// Cases that run concurrently.
const AT_A_TIME: usize = 48;

/// Small buffers, so that little data fills them.
const SMALL: Sockets = Sockets {
    receive_buffer: Some(16 << 10),
    segment: Some(1400),
};

/// Returns the offset of each of the six frames on the wire, and the end of the last.
fn bounds() -> [u64; 7] {
    let mut bounds = [0; 7];
    for (index, payload) in PAYLOADS.iter().enumerate() {
        bounds[index + 1] = bounds[index] + 8 + *payload as u64;
    }
    bounds
}

fn run(run: &Run) -> Result<Figures, Failure> {
    world::system(torture(run))
}

async fn torture(run: &Run) -> Result<Figures, Failure> {
    let bytes = bounds()[6];
    let cases = || (0..=bytes).flat_map(|at| CUTS.map(|(ending, side)| (at, ending, side)));
    run.progress.total(2 * cases().count() as u64);
    let mut figures = Figures::default();

    run.progress.set_message("cut by the network");
    let lost = stream::iter(cases())
        .map(|(at, ending, side)| async move {
            let cut = Cut {
                after: at,
                ending,
                side,
            };
            run.progress.add(1);
            cut_on_the_way(cut).await
        })
        .buffer_unordered(AT_A_TIME);
    let (all, corrupt) = sum(lost.try_collect().await?);
    figures.add("cut on the way", cases().count());
    all.add_to(corrupt, &mut figures);

    run.progress.set_message("cut in the kernel");
    // How much the kernel takes of a connection that nobody reads; each case updates it.
    let room = Cell::new(
        fill(1 << 20, Ending::Fin, Side::Sender)
            .await?
            .took
            .unwrap_or(0),
    );
    let room = &room;
    let again = stream::iter(cases())
        .map(|(at, ending, side)| async move {
            run.progress.add(1);
            let mut found = fill(room.get() - at, ending, side).await?;
            // If the kernel took another number of bytes this time, try again with that number.
            for _ in 0..3 {
                let Some(took) = found
                    .took
                    .filter(|took| found.into != Some(at) && *took > 8 << 10)
                else {
                    break;
                };
                room.set(took);
                let (before, corrupt) = (found.all, found.corrupt);
                found = fill(room.get() - at, ending, side).await?;
                found.all.add(before);
                found.corrupt += corrupt;
            }
            Ok::<_, Failure>(found)
        })
        .buffer_unordered(AT_A_TIME);
    let again: Vec<Filled> = again.try_collect().await?;
    let mut covered = vec![false; bytes as usize + 1];
    let mut all = Reconciled::default();
    let (mut corrupt, mut problems) = (0, Vec::new());
    for found in again {
        if let Some(into) = found.into
            && let Some(covered) = covered.get_mut(into as usize)
        {
            *covered = true;
        }
        all.add(found.all);
        corrupt += found.corrupt;
        problems.extend(found.problem);
    }
    figures.add("cut in the kernel", cases().count());
    for problem in problems {
        figures.require(false, || problem);
    }
    let covered = covered.iter().filter(|covered| **covered).count();
    figures.add("bytes of the six after which the kernel was full", covered);
    figures.require(covered as u64 > bytes * 9 / 10, || {
        "too few byte positions were covered".into()
    });
    let resent = all.resent;
    figures.require(resent > 0, || "no frame was cut".into());
    all.add_to(corrupt, &mut figures);
    figures.verdict()
}

fn sum(found: Vec<(Reconciled, u64)>) -> (Reconciled, u64) {
    let mut all = Reconciled::default();
    let mut corrupt = 0;
    for (one, bad) in found {
        all.add(one);
        corrupt += bad;
    }
    (all, corrupt)
}

/// A sender, a proxy and a receiver, all on this thread.
struct Case {
    sender: Transport,
    peer: Peer,
    proxy: Proxy,
    receiver: Transport,
    record: Record,
}

impl Case {
    fn start(
        sockets: Sockets,
        plan: impl FnMut(u64) -> Plan + Send + 'static,
    ) -> Result<Self, Failure> {
        let config = Config::default()
            .placement(Placement::Current)
            .udp(false)
            .stale_after(NEVER)
            .redial_first(MS)
            .redial_max(5 * MS)
            .stable_after(Duration::ZERO);
        let receiver = world::node(config.clone())?;
        let record = Record::default();
        receiver.catch_all(Some(record.recorder()));
        let sender = world::node(config)?;
        let target = receiver.local_addr();
        let proxy = Proxy::start(&Handle::current(), 1, target, sockets, plan)?;
        Ok(Case {
            peer: sender.peer(proxy.addr())?,
            sender,
            proxy,
            receiver,
            record,
        })
    }

    fn send(&self, sequence: u64, payload: usize) -> Result<(), Failure> {
        let group = (sequence % 3) as u32;
        let stamp = Stamp {
            sender: 1,
            incarnation: 0,
            group,
            sequence,
        };
        let sent = self
            .peer
            .try_send(GroupId::new(group), stamp.payload(payload));
        sent.map_err(|err| Failure::error(err.to_string()))
    }

    /// Waits for the last frame, stops everything, and reconciles the frames.
    async fn end(self, last: u64) -> Result<(Reconciled, u64), Failure> {
        let came = |sequence| {
            let arrived = self.record.lock();
            let mut arrivals = arrived.arrivals.values();
            arrivals.any(|arrivals| arrivals.sequences.contains(&sequence))
        };
        until("the last frame arrived", LONG, || came(last)).await?;
        self.sender.stop(Shutdown::Drain(LONG)).await;
        self.proxy.settled(LONG).await;
        let closed = || self.receiver.stats().links.connections == 0;
        until("the receiver read all", LONG, closed).await?;
        self.receiver.stop(Shutdown::Drain(LONG)).await;
        let stats = self.sender.stats();
        stats.balance()?;
        self.receiver.stats().balance()?;
        let arrived = self.record.lock();
        // At most a few kilobytes are lost here, so the lengths do not matter.
        let found = reconcile(1, &stats.tcp, &self.proxy.connections(), &arrived, |_| 100);
        Ok((found, arrived.corrupt))
    }
}

/// Sends six frames, cuts the connection while they are on the way, and sends six more.
async fn cut_on_the_way(cut: Cut) -> Result<(Reconciled, u64), Failure> {
    let case = Case::start(Sockets::default(), move |number| Plan {
        cut: (number == 0).then_some(cut),
        ..Plan::default()
    })?;
    for (sequence, payload) in (0..).zip(PAYLOADS) {
        case.send(sequence, payload)?;
    }
    // A connection that is reset at once may not count as connected.
    let noticed = || {
        let links = case.sender.stats().links;
        links.disconnects > 0 || links.dials > 1
    };
    until("the cut was noticed", LONG, noticed).await?;
    for (sequence, payload) in (6..).zip(PAYLOADS) {
        case.send(sequence, payload)?;
    }
    let whole = bounds()[1..]
        .iter()
        .filter(|end| **end <= cut.after)
        .count() as u64;
    let (proxy, receiver) = (case.proxy.connections(), cut.side == Side::Receiver);
    let forwarded = proxy[0].forwarded.clone();
    let (mut found, corrupt) = case.end(11).await?;
    // All six were written at once, so the proxy forwarded up to the cut, unless the sender saw
    // the end before it wrote.
    let early = forwarded.bytes == 0;
    if !early && (forwarded.bytes != cut.after || forwarded.frames != whole) {
        let problem = format!("{cut:?}: forwarded {} bytes", forwarded.bytes);
        found.unexplained.push(problem);
    }
    // The second six all arrive, and the complete ones of the first. Fewer arrive only if a reset
    // discards bytes in the receiver's kernel.
    let forgets = receiver && cut.ending == Ending::Rst;
    if found.received < 6 + whole && !forgets && !early {
        let problem = format!(
            "{cut:?}: {} received, {whole} were complete",
            found.received
        );
        found.unexplained.push(problem);
    }
    Ok((found, corrupt))
}

/// Result of a case with a full connection.
struct Filled {
    all: Reconciled,
    corrupt: u64,
    /// Bytes that the kernel took, where that can be known.
    took: Option<u64>,
    /// How many of them belong to the six.
    into: Option<u64>,
    problem: Option<String>,
}

/// Sends a filler of `filler` bytes and the six on a connection that nobody reads, until it is cut.
/// Frames that were written, by the sender's count, must not be sent again; the next one must.
async fn fill(filler: u64, ending: Ending, side: Side) -> Result<Filled, Failure> {
    let case = Case::start(SMALL, move |number| Plan {
        black_hole: (number == 0).then_some(0),
        ..Plan::default()
    })?;
    case.send(0, filler as usize - 8)?;
    for (sequence, payload) in (1..).zip(PAYLOADS) {
        case.send(sequence, payload)?;
    }
    // More than any kernel takes.
    case.send(7, 512 << 10)?;
    let established = || {
        case.proxy
            .connections()
            .first()
            .is_some_and(|connection| connection.established)
    };
    until("the connection is established", LONG, established).await?;
    let writing = || {
        let frames = case.peer.stats().frames;
        frames.written.frames + frames.in_flight.frames > 0
    };
    until("the writer writes", LONG, writing).await?;
    // The kernel takes bytes at once, but nothing reports when it is full.
    sleep(20 * MS).await;
    case.proxy.set_refusing(true).await?;
    case.proxy.cut(ending, side);
    until("the cut was noticed", LONG, || {
        case.sender.stats().links.disconnects == 1
    })
    .await?;
    let written = case.peer.stats().frames.written.frames;
    case.proxy.set_refusing(false).await?;
    case.send(8, 8)?;
    let (proxy, sees_all) = (
        &case.proxy,
        (ending == Ending::Fin) == (side == Side::Sender),
    );
    let drained = || proxy.connections()[0].drained;
    if sees_all {
        let read = until("the proxy read the rest", LONG, drained).await;
        read.map_err(|failure| {
            let ProxyConnection {
                taken,
                ended,
                failed,
                ..
            } = &proxy.connections()[0];
            let bytes = taken.bytes;
            Failure::error(format!("{failure}: {bytes} bytes, {ended:?}, {failed:?}"))
        })?;
    }
    let first = proxy.connections()[0].clone();
    let second = async {
        until("the next connection", LONG, || {
            proxy
                .connections()
                .iter()
                .skip(1)
                .any(|connection| connection.taken.first().is_some())
        })
        .await?;
        let connections = proxy.connections();
        let mut later = connections
            .iter()
            .skip(1)
            .filter_map(|connection| connection.taken.first());
        Ok::<_, Failure>(later.next())
    };
    let next = second.await?;
    let took = sees_all.then_some(first.taken.bytes);
    let (all, corrupt) = case.end(8).await?;
    let mut problem = None;
    if next != Some(written) {
        problem = Some(format!(
            "{ending:?} {side:?}: {written} written, then {next:?} on the next connection"
        ));
    }
    if sees_all && first.taken.frames != written {
        let taken = first.taken.frames;
        problem = Some(format!(
            "{ending:?} {side:?}: {written} written, the kernel took {taken}"
        ));
    }
    Ok(Filled {
        all,
        corrupt,
        into: took.and_then(|took| took.checked_sub(filler)),
        took,
        problem,
    })
}
