//! A peer that stands still for seconds: what went stale meanwhile is dropped and counted, and nothing
//! that is too old is written when it goes on.
//!
//! How old a frame was when it was written cannot be asked, but a frame that was not yet written when
//! the counters were looked at was written later, and one that was, before. So each frame has an age
//! that it had at least, and one that it had at most.

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
    eye::Eye,
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
        let (sampler, eye) = (Sampler::start(peer.clone())?, Eye::on([&transport]));
        let offering = Arc::new(AtomicBool::new(true));
        let (going, offered) = (offering.clone(), peer.clone());
        let offer = actix::spawn(async move { offer(&offered, &going).await });
        let mut tallied = pause_and_look(run, sink, &pauses).await?;
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
        let tally = loop {
            let (tally, _) = tallied.tally()?;
            if tally.came().frames >= frames.written.frames || Instant::now() > deadline {
                break tally;
            }
            sleep(10 * MS).await;
        };
        let came = tally.came();
        transport.stats().balance()?;

        let mut figures = Figures::default();
        let count = came.frames;
        let (accepted, dropped) = (frames.accepted.frames, frames.dropped.stale.frames);
        let order: Vec<u64> = came.of.values().flat_map(|seen| seen.sequences()).collect();
        let ages = ages(&order, &samples.seen, &accepted_at);
        let (late, timely): (Vec<_>, Vec<_>) = ages
            .into_iter()
            .partition(|age| age.at_least > STALE + SLACK);
        // Between two looks that are far apart anything may have been written.
        let unknown = timely.iter().filter(|age| age.at_most > STALE + SLACK);
        let unknown = unknown.count() as u64;
        figures.must(unknown <= count / 100, || {
            format!("{unknown} of {count} may have been too old: nobody looked")
        });
        // A frame that has begun is finished whatever its age: one a pause, the first behind it.
        let begun = |rank: u64| samples.longest_at(rank) > STALE / 2;
        let wrong: Vec<_> = late.iter().filter(|age| !begun(age.rank)).collect();
        figures.must(wrong.is_empty(), || format!("written too late: {wrong:?}"));
        figures.must(late.len() <= pauses.len(), || {
            format!("{} written late", late.len())
        });
        let oldest = timely.iter().map(|age| age.at_least).max();
        let oldest = oldest.unwrap_or_default();
        let epoch = peer.stats().epoch;
        figures.must(epoch == 1, || format!("{epoch} connections"));
        figures.must(dropped > 0, || "nothing went stale".into());
        let written = frames.written.frames;
        figures.must(accepted == written + dropped, || {
            "some neither written nor stale".into()
        });
        figures.must(count == written, || {
            format!("{written} written, {count} came")
        });
        figures.must(came.wrong().is_none(), || came.wrong().unwrap_or_default());
        figures.add("pauses", pauses.len());
        figures.add("stale after", format!("{STALE:?}"));
        figures.add("oldest when written, at least", format!("{oldest:.0?}"));
        figures.add("may have been older than they may be", unknown);
        figures.add("begun before the pause and finished behind it", late.len());
        figures.add("accepted", accepted);
        figures.add("written and received", count);
        figures.add("stale", dropped);
        figures.add("looked at the counters", samples.looks);
        figures.add(
            "longest between two looks",
            format!("{:.1?}", samples.blind),
        );
        eye.tell(&mut figures);
        figures.verdict()
    })
}

/// Pauses the sink again and again.
async fn pause_and_look(run: &Run, sink: Sink, pauses: &[u64]) -> Result<Sink, Failure> {
    sleep(500 * MS).await;
    for &pause in pauses {
        sink.child.stop()?;
        sleep(pause as u32 * MS).await;
        sink.child.go_on()?;
        run.progress.add(pause);
        // What is queued flows, and what follows is fresh.
        sleep(700 * MS).await;
    }
    Ok(sink)
}

/// Sends some 15 MB a second, more than the kernel keeps of half a second; says when each frame was
/// accepted.
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
            sent.map_err(|err| Failure::stuck(err.to_string()))?;
            // Behind it, so that a frame is no younger than this says.
            accepted_at.push(Instant::now());
        }
        sleep(3 * MS).await;
    }
    Ok(accepted_at)
}

/// Looks at the counters all the time, on a thread of its own.
struct Sampler {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Samples>,
}

#[derive(Default)]
struct Samples {
    /// How many frames were written, and when that was seen first and last.
    seen: Vec<(u64, Instant, Instant)>,
    looks: u64,
    /// The longest time between two looks.
    blind: Duration,
}

impl Sampler {
    fn start(peer: Peer) -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = thread::Builder::new()
            .name("sampler".into())
            .spawn(move || {
                let mut samples = Samples::default();
                let mut last = Instant::now();
                while !told.load(Relaxed) {
                    // Before it is looked: what is not written then was not written now.
                    let now = Instant::now();
                    let written = peer.stats().frames.written.frames;
                    samples.looks += 1;
                    samples.blind = samples.blind.max(now - last);
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
    /// For how long `rank` frames, and no more, were written.
    fn longest_at(&self, rank: u64) -> Duration {
        let at = self.seen.iter().find(|(written, ..)| *written == rank);
        at.map_or(Duration::ZERO, |(_, first, last)| *last - *first)
    }
}

/// How old a frame was when it was written.
#[derive(Debug)]
struct Age {
    /// Its place in the order of writing, which on one connection is that of coming.
    rank: u64,
    at_least: Duration,
    at_most: Duration,
}

fn ages(order: &[u64], seen: &[(u64, Instant, Instant)], accepted_at: &[Instant]) -> Vec<Age> {
    let mut looks = seen.iter().peekable();
    let mut unwritten = None;
    let ages = (0..).zip(order).map(|(rank, &sequence)| {
        // The last look at which no more than those before it were written, and the first at which
        // it was.
        while let Some((_, _, last)) = looks.next_if(|(written, ..)| *written <= rank) {
            unwritten = Some(*last);
        }
        let written = looks.peek().map(|(_, first, _)| *first);
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
