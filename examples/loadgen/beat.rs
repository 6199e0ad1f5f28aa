//! The beat role: sends heartbeats to an echo at a fixed pace, on one lane, while bulk frames go to the same
//! peer on the same or another lane. Measures how long the answers take.
//!
//! A heartbeat is sent when it is due, whether or not those before it have been answered.
//!
//! ```text
//! offset  size  field
//! 0       8     number   u64 little-endian
//! 8       8     sent     u64 little-endian: nanoseconds since this process began to send
//! 16      8     run      u64 little-endian: which process; answers to an earlier one are not counted
//! 24      n     filler   zeros
//! ```

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime},
};

use actix::{Actor, Context, Handler};
use actix_transport::{Config, GroupId, Inbound, Lane, Peer, PeerAddr};
use clap::value_parser;
use hdrhistogram::Histogram;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    Failure,
    bulk::{self, Beside},
    node::{Node, NodeArgs},
    report::Report,
};

const GROUP: GroupId = GroupId::new(0);

/// With `--latest`, all heartbeats have this key, so that each replaces the one before if that is still queued.
const KEY: u64 = 0;

/// Bytes of a heartbeat before its filler.
const HEAD: usize = 24;

/// Heartbeats before the measurement, one at a time, so that there is a link and both sides are warm.
const WARMUP: u64 = 100;

/// A heartbeat of the warm-up without an answer after this long is sent again.
const WARMUP_LIMIT: Duration = Duration::from_millis(500);

/// How long to wait at the end for answers on their way: longer than a full queue needs on 1 Gbit/s.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// How often to look whether there are still answers to wait for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Answers in the channel, of which the role takes one after the other. More than come in a second.
const ANSWER_CAPACITY: usize = 4096;

/// The longest round trip that the histogram tells from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// Measures round trips of heartbeats to an echo, beside bulk frames.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where echo listens: ip:port or name:port. Without `--node`, echo needs the address of this
    /// process: its `--reply-to`.
    #[arg(long, value_name = "ADDR")]
    to: PeerAddr,

    /// The time from one heartbeat to the next.
    #[arg(long, value_name = "S", default_value = "5ms", value_parser = pace)]
    every: Duration,

    /// How long to measure.
    #[arg(long, value_name = "S", value_parser = crate::seconds)]
    seconds: Duration,

    /// Bytes of a heartbeat's payload, at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = size)]
    size: usize,

    /// The lane of the heartbeats: normal, control, bulk, or lane-3 to lane-7. With `--node` for both, the
    /// answers take it, too.
    #[arg(long, value_name = "LANE", default_value = "normal", value_parser = crate::lane)]
    lane: Lane,

    /// Lets a heartbeat replace the one before if that is still queued.
    #[arg(long)]
    latest: bool,

    /// How many bulk frames or messages to keep on their way to the same peer: queued, waiting for room, or being
    /// written. Echo counts them and does not answer.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(..=10_000))]
    beside: u32,

    /// Bytes of a bulk frame's payload, at least 8192. By default the frame is 10 MiB long with its header. What is
    /// longer than a frame may be is sent as a message in parts, which needs `--node`.
    #[arg(long, value_name = "BYTES", default_value_t = (10 << 20) - 8, value_parser = bulk_size)]
    beside_size: usize,

    /// The lane of the bulk frames.
    #[arg(long, value_name = "LANE", default_value = "normal", value_parser = crate::lane)]
    beside_lane: Lane,

    /// Gives up if there is no first answer after this many seconds.
    #[arg(long, value_name = "S", default_value = "30s", value_parser = crate::seconds)]
    give_up: Duration,
}

fn pace(text: &str) -> Result<Duration, String> {
    match crate::seconds(text)? {
        Duration::ZERO => Err("there must be some time between two heartbeats".to_string()),
        every => Ok(every),
    }
}

fn size(text: &str) -> Result<usize, String> {
    at_least(HEAD, text)
}

fn bulk_size(text: &str) -> Result<usize, String> {
    at_least(bulk::MIN_SIZE, text)
}

fn at_least(min: usize, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size < min => Err(format!("must be at least {min}")),
        parsed => parsed.map_err(|err| format!("{err}")),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if args.node.udp {
        return Err("--udp cannot be used: datagrams have no lanes".into());
    }
    let config = args.node.config();
    let mut node = Node::bind_for_answers(&args.node, config.clone())?;
    let peer = node.transport.peer(&args.to)?;
    let clock = Clock::start();
    let (answer_tx, answers) = mpsc::channel(ANSWER_CAPACITY);
    let pulse = Pulse { clock, answer_tx }.start();
    node.transport.register(GROUP, pulse.recipient())?;
    node.announce();

    let mut beats = Beats::new(&args, &peer, clock, answers)?;
    let measured = tokio::select! {
        measured = measure(&args, &config, &peer, &mut beats) => measured,
        () = &mut node.interrupt => Ok(BesideSent::default()),
    };
    let replaced = beats.replaced();
    let stats = node.finish().await;
    let beside = *measured.as_ref().unwrap_or(&BesideSent::default());
    let mut report = Report::new("beat", stats)
        .with("lane", args.lane.to_string())
        .with("beats", beats.accepted + beats.refused)
        .with("refused", beats.refused)
        .with("replaced", replaced)
        .with("answered", beats.times.len())
        .with("lost", beats.accepted - replaced - beats.times.len())
        .with("p50_us", beats.micros(0.5))
        .with("p99_us", beats.micros(0.99))
        .with("max_us", beats.micros(1.0))
        .with("beside", args.beside)
        .with("beside_lane", args.beside_lane.to_string())
        .with("beside_written", beside.written)
        .with("beside_bytes_per_second", beside.rate);
    if let Err(err) = measured {
        report.fail(err.to_string());
    }
    report.print(&args.node)
}

/// What was sent beside the heartbeats.
#[derive(Copy, Clone, Default)]
struct BesideSent {
    /// Whole frames or messages.
    written: u64,
    /// Bytes per second.
    rate: u64,
}

async fn measure(
    args: &Args,
    config: &Config,
    peer: &Peer,
    beats: &mut Beats,
) -> Result<BesideSent, Failure> {
    if timeout(args.give_up, beats.warm_up()).await.is_err() {
        return Err(format!("no answer for {:?}", args.give_up).into());
    }
    let bulk = peer.lane(args.beside_lane);
    let written = || bulk.stats().frames.written.bytes;
    let (begun, written_before) = (Instant::now(), written());
    let mut beside = Beside::start(&bulk, args.beside, args.beside_size, config);
    let mut due = interval(args.every);
    // If this process was late, the next heartbeat keeps its distance.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = pin!(sleep(args.seconds));
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            _ = due.tick() => beats.send(),
            Some(answer) = beats.answers.recv() => beats.note(answer),
            failure = beside.failure() => return Err(format!("nothing more is sent beside: {failure}").into()),
        }
    }
    let rate = (written() - written_before) as f64 / begun.elapsed().as_secs_f64();
    let rate = if args.beside == 0 { 0 } else { rate as u64 };
    let sent = BesideSent {
        written: beside.written(),
        rate,
    };
    drop(beside);
    // What is still missing then counts as lost.
    let _ = timeout(LAST_ANSWERS, beats.until_answered()).await;
    match beats.times.is_empty() && beats.accepted > 0 {
        true => Err("no answer at all".into()),
        false => Ok(sent),
    }
}

/// The heartbeats and their answers.
struct Beats {
    lane: Peer,
    latest: bool,
    payload: Vec<u8>,
    clock: Clock,
    answers: mpsc::Receiver<Answer>,
    /// The number of the next one.
    next: u64,
    /// The number of the first one that is measured.
    first: u64,
    /// Since then:
    accepted: u64,
    refused: u64,
    /// In nanoseconds.
    times: Histogram<u64>,
    /// How many had been replaced before.
    replaced_before: u64,
}

impl Beats {
    fn new(
        args: &Args,
        peer: &Peer,
        clock: Clock,
        answers: mpsc::Receiver<Answer>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            lane: peer.lane(args.lane),
            latest: args.latest,
            payload: vec![0; args.size],
            clock,
            answers,
            next: 0,
            first: 0,
            accepted: 0,
            refused: 0,
            times: Histogram::new_with_max(LONGEST.as_nanos() as u64, 3)?,
            replaced_before: 0,
        })
    }

    /// Makes round trips one at a time, and counts none of them.
    async fn warm_up(&mut self) {
        for _ in 0..WARMUP {
            loop {
                let number = self.next;
                self.send();
                let answers = &mut self.answers;
                let answer = async {
                    while answers.recv().await.map(|answer| answer.number) != Some(number) {}
                };
                if timeout(WARMUP_LIMIT, answer).await.is_ok() {
                    break;
                }
            }
        }
        (self.first, self.accepted, self.refused) = (self.next, 0, 0);
        self.replaced_before = self.all_replaced();
    }

    fn send(&mut self) {
        let head = [self.next, self.clock.nanos(), self.clock.run];
        let (bytes, _) = self.payload.as_chunks_mut();
        for (field, value) in bytes.iter_mut().zip(head) {
            *field = value.to_le_bytes();
        }
        self.next += 1;
        let payload = &self.payload[..];
        let sent = match self.latest {
            true => self.lane.try_send_latest(GROUP, KEY, payload),
            false => self.lane.try_send(GROUP, payload),
        };
        match sent {
            Ok(()) => self.accepted += 1,
            Err(_) => self.refused += 1,
        }
    }

    fn note(&mut self, Answer { number, nanos }: Answer) {
        if number >= self.first {
            self.times.saturating_record(nanos);
        }
    }

    /// Takes answers until none is missing.
    async fn until_answered(&mut self) {
        while self.times.len() + self.replaced() < self.accepted {
            let answer = timeout(POLL_INTERVAL, self.answers.recv()).await;
            if let Ok(Some(answer)) = answer {
                self.note(answer);
            }
        }
    }

    fn replaced(&self) -> u64 {
        self.all_replaced() - self.replaced_before
    }

    /// Bulk frames are never replaced, so these are heartbeats.
    fn all_replaced(&self) -> u64 {
        self.lane.stats().frames.dropped.replaced.frames
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Tells the times of this process from those of others.
#[derive(Copy, Clone)]
struct Clock {
    start: Instant,
    run: u64,
}

impl Clock {
    fn start() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            start: Instant::now(),
            run: now.as_nanos() as u64,
        }
    }

    fn nanos(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// A heartbeat that came back.
struct Answer {
    number: u64,
    /// The time of its round trip.
    nanos: u64,
}

/// Receives the answers.
struct Pulse {
    clock: Clock,
    answer_tx: mpsc::Sender<Answer>,
}

impl Actor for Pulse {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Pulse {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        for payload in inbound {
            let (head, _) = payload.as_chunks();
            let [number, sent, run, ..] = *head else {
                continue;
            };
            let [number, sent, run] = [number, sent, run].map(u64::from_le_bytes);
            if run == self.clock.run {
                let nanos = self.clock.nanos().saturating_sub(sent);
                // If the channel is closed, the measurement is over.
                let _ = self.answer_tx.try_send(Answer { number, nanos });
            }
        }
    }
}
