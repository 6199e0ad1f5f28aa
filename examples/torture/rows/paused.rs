//! A peer is paused for seconds. Frames that go stale meanwhile are dropped and counted, and
//! nothing too old is written when the peer resumes.
//!
//! The age of a frame when it was written is not known exactly. But a sample of the counters shows
//! which frames were written before it. So each frame has a lower and an upper bound for its age:
//! from the last sample before it was written, and from the first sample after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, Peer};
use tokio::time::sleep;

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run, Tier},
    sink::Sink,
    stamp::Stamp,
    world::{self, ONE_EACH, until},
};

pub(crate) const ROW: Row = Row {
    name: "paused",
    what: "a peer paused for 1–10 s: nothing older than the stale limit + 50 ms is written",
    run,
};

const STALE: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(50);
const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);

fn run(run: &Run) -> Result<Figures, Failure> {
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let pauses: Vec<u64> = match run.tier {
        Tier::Gate => vec![1_000, 10_000, 2_000, 3_000, 1_500],
        Tier::Long => (0..50).map(|_| draw.u64(1_000..=10_000)).collect(),
    };
    run.progress.total(pauses.iter().sum());
    world::system(async {
        let sink = Sink::start(&[], "127.0.0.1:0")?;
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .stale_after(STALE)
            .queue_frames(1 << 20)
            .queue_bytes(1 << 30)
            .user_timeout(Duration::from_secs(600));
        let transport = world::node(config)?;
        let peer = transport.peer(sink.addr)?;
        let (sampler, snapshots) = (
            Sampler::start(peer.clone())?,
            BalanceWatch::start([&transport]),
        );
        let offering = Arc::new(AtomicBool::new(true));
        let (going, offered) = (offering.clone(), peer.clone());
        let offer = actix::spawn(async move { offer(&offered, &going).await });
        let mut sink = pause_sink(run, sink, &pauses).await?;
        offering.store(false, Relaxed);
        let accepted_at = offer.await??;
        let done = || {
            let frames = peer.stats().frames;
            frames.queued.is_zero() && frames.in_flight.is_zero()
        };
        until("all written or dropped", LONG, done).await?;
        let frames = peer.stats().frames;
        let samples = sampler.stop();
        let deadline = Instant::now() + LONG;
        let log = loop {
            let (log, _) = sink.receive_log()?;
            if log.lock().frames >= frames.written.frames || Instant::now() > deadline {
                break log;
            }
            sleep(10 * MS).await;
        };
        let came = log.lock();
        transport.stats().balance()?;

        let mut figures = Figures::default();
        let count = came.frames;
        let (accepted, dropped) = (frames.accepted.frames, frames.dropped.stale.frames);
        let order: Vec<u64> = came
            .by_sender
            .values()
            .flat_map(|seen| seen.sequences())
            .collect();
        let ages = ages(&order, &samples.seen, &accepted_at);
        let (late, timely): (Vec<_>, Vec<_>) = ages
            .into_iter()
            .partition(|age| age.at_least > STALE + SLACK);
        // If two samples are far apart, the bounds say little.
        let unknown = timely.iter().filter(|age| age.at_most > STALE + SLACK);
        let unknown = unknown.count() as u64;
        figures.require(unknown <= count / 100, || {
            format!("{unknown} of {count} may have been too old: the samples are too far apart")
        });
        // A frame that was begun is finished at any age: at most one for each pause.
        let begun = |rank: u64| samples.longest_at(rank) > STALE / 2;
        let wrong: Vec<_> = late.iter().filter(|age| !begun(age.rank)).collect();
        figures.require(wrong.is_empty(), || format!("written too late: {wrong:?}"));
        figures.require(late.len() <= pauses.len(), || {
            format!("{} written late", late.len())
        });
        let oldest = timely.iter().map(|age| age.at_least).max();
        let oldest = oldest.unwrap_or_default();
        let epoch = peer.stats().epoch;
        figures.require(epoch == 1, || format!("{epoch} connections"));
        figures.require(dropped > 0, || "nothing went stale".into());
        let written = frames.written.frames;
        figures.require(accepted == written + dropped, || {
            "some frames are neither written nor stale".into()
        });
        figures.require(count == written, || {
            format!("{written} written, {count} received")
        });
        figures.require(came.faults().is_none(), || {
            came.faults().unwrap_or_default()
        });
        figures.add("pauses", pauses.len());
        figures.add("stale after", format!("{STALE:?}"));
        figures.add("oldest when written, at least", format!("{oldest:.0?}"));
        figures.add("possibly too old", unknown);
        figures.add("begun before a pause and finished after it", late.len());
        figures.add("accepted", accepted);
        figures.add("written and received", count);
        figures.add("stale", dropped);
        figures.add("samples of the counters", samples.count);
        figures.add(
            "longest between two samples",
            format!("{:.1?}", samples.longest_gap),
        );
        snapshots.add_to(&mut figures);
        figures.verdict()
    })
}

/// Pauses the sink again and again.
async fn pause_sink(run: &Run, sink: Sink, pauses: &[u64]) -> Result<Sink, Failure> {
    sleep(500 * MS).await;
    for &pause in pauses {
        sink.child.stop()?;
        sleep(pause as u32 * MS).await;
        sink.child.resume()?;
        run.progress.add(pause);
        // Long enough to write what is queued, so that the next frames are fresh.
        sleep(700 * MS).await;
    }
    Ok(sink)
}

/// Sends some 15 MB a second, so that half a second's worth is more than the kernel's buffers hold.
/// Returns when each frame was accepted.
async fn offer(peer: &Peer, going: &AtomicBool) -> Result<Vec<Instant>, Failure> {
    let mut accepted_at = Vec::new();
    while going.load(Relaxed) {
        for len in [100, 40_000, 700, 12_000] {
            let stamp = Stamp {
                sender: 1,
                incarnation: 0,
                group: 1,
                sequence: accepted_at.len() as u64,
            };
            let sent = peer.try_send(GroupId::new(1), stamp.payload(len));
            sent.map_err(|err| Failure::error(err.to_string()))?;
            // Read after the send, so that no frame is younger than this.
            accepted_at.push(Instant::now());
        }
        sleep(3 * MS).await;
    }
    Ok(accepted_at)
}

/// Samples the counters all the time, on its own thread.
struct Sampler {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Samples>,
}

#[derive(Default)]
struct Samples {
    /// The number of written frames, with the first and last time it was seen.
    seen: Vec<(u64, Instant, Instant)>,
    count: u64,
    /// The longest time between two samples.
    longest_gap: Duration,
}

impl Sampler {
    fn start(peer: Peer) -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = thread::Builder::new()
            .name("sampler".into())
            .spawn(move || {
                let mut samples = Samples::default();
                let mut last = Instant::now();
                while !stop.load(Relaxed) {
                    // Read before the sample: frames not in the sample were written after this.
                    let now = Instant::now();
                    let written = peer.stats().frames.written.frames;
                    samples.count += 1;
                    samples.longest_gap = samples.longest_gap.max(now - last);
                    last = now;
                    match samples.seen.last_mut() {
                        Some((same, _, until)) if *same == written => *until = now,
                        _ => samples.seen.push((written, now, now)),
                    }
                    thread::sleep(MS / 2);
                }
                samples
            })?;
        Ok(Sampler { over, thread })
    }

    fn stop(self) -> Samples {
        self.over.store(true, Relaxed);
        self.thread.join().expect("the sampler does not panic")
    }
}

impl Samples {
    /// Returns how long exactly `rank` frames were written.
    fn longest_at(&self, rank: u64) -> Duration {
        let at = self.seen.iter().find(|(written, ..)| *written == rank);
        at.map_or(Duration::ZERO, |(_, first, last)| *last - *first)
    }
}

/// Bounds for the age of a frame when it was written.
#[derive(Debug)]
struct Age {
    /// Its place in the order of writing, which on one connection is the order of arrival.
    rank: u64,
    at_least: Duration,
    at_most: Duration,
}

fn ages(order: &[u64], seen: &[(u64, Instant, Instant)], accepted_at: &[Instant]) -> Vec<Age> {
    let mut samples = seen.iter().peekable();
    let mut unwritten = None;
    let ages = (0..).zip(order).map(|(rank, &sequence)| {
        // The last sample before the frame was written, and the first after.
        while let Some((_, _, last)) = samples.next_if(|(written, ..)| *written <= rank) {
            unwritten = Some(*last);
        }
        let written = samples.peek().map(|(_, first, _)| *first);
        let accepted = accepted_at.get(sequence as usize).copied();
        let age = |look: Option<Instant>| {
            let (look, accepted) = look.zip(accepted)?;
            Some(look.saturating_duration_since(accepted))
        };
        Age {
            rank,
            at_least: age(unwritten).unwrap_or_default(),
            at_most: age(written).unwrap_or(Duration::MAX),
        }
    });
    ages.collect()
}
