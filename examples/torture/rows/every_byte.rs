//! Six frames, cut at every byte, by FIN and by RST, on either side; and six frames of which the
//! sender's kernel took every number of bytes and not one more.
//!
//! The first half has the kernel take all and the network lose some: what was whole arrives, what was
//! not is lost, and nothing comes twice. The second half fills the kernel's buffers up to a byte of
//! the six, so that the transport knows of a frame that is written in part: it must come again, whole,
//! on the next connection, and none before it may.

use std::{cell::Cell, time::Duration};

use actix_transport::{Config, GroupId, Peer, Placement, Shutdown, Transport};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    proxy::{CUTS, Cut, Ending, Passage, Plan, Proxy, Side, Sockets},
    reconcile::{Reconciled, Record, reconcile},
    row::{Failure, Figures, Row, Run},
    stamp::Stamp,
    world::{self, until},
};

pub(crate) const ROW: Row = Row {
    name: "every-byte",
    what: "6 frames cut at every byte × FIN/RST × either side: a frame in part arrives once",
    run,
};

/// The payloads, of short stamps and of long ones.
const SIX: [usize; 6] = [8, 41, 13, 64, 32, 37];
const MS: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(30);
/// Cases at a time.
const ABREAST: usize = 48;

/// Small, so that little fills them.
const TIGHT: Sockets = Sockets {
    room: Some(16 << 10),
    segment: Some(1400),
};

/// Where each of the six begins on the wire, behind one another, and where the last ends.
fn bounds() -> [u64; 7] {
    let mut bounds = [0; 7];
    for (index, payload) in SIX.iter().enumerate() {
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

    run.progress.say("cut by the network");
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
        .buffer_unordered(ABREAST);
    let (all, corrupt) = sum(lost.try_collect().await?);
    figures.add("cut on the way", cases().count());
    all.tell(corrupt, &mut figures);

    run.progress.say("cut in the kernel");
    // Learnt as it goes: how much the kernel takes of a connection that nobody reads.
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
            // Where the kernel took another number this time, it is tried anew, with what it took.
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
        .buffer_unordered(ABREAST);
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
        figures.must(false, || problem);
    }
    let covered = covered.iter().filter(|covered| **covered).count();
    figures.add("bytes of the six after which the kernel was full", covered);
    figures.must(covered as u64 > bytes * 9 / 10, || {
        "too few of the six's bytes".into()
    });
    let again = all.again;
    figures.must(again > 0, || "no frame was cut".into());
    all.tell(corrupt, &mut figures);
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
        receiver.catch_all(Some(record.keeper()));
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
        sent.map_err(|err| Failure::stuck(err.to_string()))
    }

    /// Waits until the last frame is there, ends all, and says what became of the frames.
    async fn end(self, last: u64) -> Result<(Reconciled, u64), Failure> {
        let came = |sequence| {
            let book = self.record.book();
            let mut arrivals = book.arrivals.values();
            arrivals.any(|arrivals| arrivals.sequences.contains(&sequence))
        };
        until("the last frame came", LONG, || came(last)).await?;
        self.sender.stop(Shutdown::Drain(LONG)).await;
        self.proxy.settled(LONG).await;
        let gone = || self.receiver.stats().links.connections == 0;
        until("the receiver read all", LONG, gone).await?;
        self.receiver.stop(Shutdown::Drain(LONG)).await;
        let stats = self.sender.stats();
        stats.balance()?;
        self.receiver.stats().balance()?;
        let book = self.record.book();
        // What was lost is never more than a few kilobytes here, so lengths do not matter.
        let found = reconcile(1, &stats.tcp, &self.proxy.ledger(), &book, |_| 100);
        Ok((found, book.corrupt))
    }
}

/// Six frames, the connection cut while they are on the way, and six more.
async fn cut_on_the_way(cut: Cut) -> Result<(Reconciled, u64), Failure> {
    let case = Case::start(Sockets::default(), move |number| Plan {
        cut: (number == 0).then_some(cut),
        ..Plan::default()
    })?;
    for (sequence, payload) in (0..).zip(SIX) {
        case.send(sequence, payload)?;
    }
    // A connection that is reset at once may never have been one.
    let noticed = || {
        let links = case.sender.stats().links;
        links.disconnects > 0 || links.dials > 1
    };
    until("the cut was noticed", LONG, noticed).await?;
    for (sequence, payload) in (6..).zip(SIX) {
        case.send(sequence, payload)?;
    }
    let whole = bounds()[1..]
        .iter()
        .filter(|end| **end <= cut.after)
        .count() as u64;
    let (proxy, receiver) = (case.proxy.ledger(), cut.side == Side::Receiver);
    let forwarded = proxy[0].forwarded.clone();
    let (mut found, corrupt) = case.end(11).await?;
    // All six were written at once, so that the proxy had as many as it was to have, unless the
    // sender saw the end before it wrote.
    let early = forwarded.bytes == 0;
    if !early && (forwarded.bytes != cut.after || forwarded.frames != whole) {
        let problem = format!("{cut:?}: forwarded {} bytes", forwarded.bytes);
        found.unexplained.push(problem);
    }
    // The second six are all there, and of the first what was whole: less than that only when the
    // receiver's kernel was told to forget.
    let forgets = receiver && cut.ending == Ending::Rst;
    if found.received < 6 + whole && !forgets && !early {
        let problem = format!("{cut:?}: {} came, {whole} were whole", found.received);
        found.unexplained.push(problem);
    }
    Ok((found, corrupt))
}

/// What became of frames behind a connection that was filled.
struct Filled {
    all: Reconciled,
    corrupt: u64,
    /// Bytes that the kernel took, where that can be known.
    took: Option<u64>,
    /// How many bytes of the six.
    into: Option<u64>,
    problem: Option<String>,
}

/// A filler of `filler` bytes on the wire, the six, and nobody who reads, until the connection is
/// cut. What was whole by the sender's count must not come again, the one behind it must.
async fn fill(filler: u64, ending: Ending, side: Side) -> Result<Filled, Failure> {
    let case = Case::start(TIGHT, move |number| Plan {
        hole: (number == 0).then_some(0),
        ..Plan::default()
    })?;
    case.send(0, filler as usize - 8)?;
    for (sequence, payload) in (1..).zip(SIX) {
        case.send(sequence, payload)?;
    }
    // More than any kernel takes.
    case.send(7, 512 << 10)?;
    let stands = || {
        case.proxy
            .ledger()
            .first()
            .is_some_and(|passage| passage.stood)
    };
    until("the connection stands", LONG, stands).await?;
    let writing = || {
        let frames = case.peer.stats().frames;
        frames.written.frames + frames.in_flight.frames > 0
    };
    until("the writer writes", LONG, writing).await?;
    // The kernel takes what it takes at once, but nobody says when it is full.
    sleep(20 * MS).await;
    case.proxy.refuse(true).await?;
    case.proxy.cut(ending, side);
    until("the cut was noticed", LONG, || {
        case.sender.stats().links.disconnects == 1
    })
    .await?;
    let written = case.peer.stats().frames.written.frames;
    case.proxy.refuse(false).await?;
    case.send(8, 8)?;
    let (proxy, sees_all) = (
        &case.proxy,
        (ending == Ending::Fin) == (side == Side::Sender),
    );
    let drained = || proxy.ledger()[0].drained;
    if sees_all {
        let read = until("the proxy read the rest", LONG, drained).await;
        read.map_err(|failure| {
            let Passage {
                taken,
                ended,
                failed,
                ..
            } = &proxy.ledger()[0];
            let bytes = taken.bytes;
            Failure::stuck(format!("{failure}: {bytes} bytes, {ended:?}, {failed:?}"))
        })?;
    }
    let first = proxy.ledger()[0].clone();
    let second = async {
        until("the next connection", LONG, || {
            proxy
                .ledger()
                .iter()
                .skip(1)
                .any(|passage| passage.taken.first().is_some())
        })
        .await?;
        let ledger = proxy.ledger();
        let mut later = ledger
            .iter()
            .skip(1)
            .filter_map(|passage| passage.taken.first());
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
