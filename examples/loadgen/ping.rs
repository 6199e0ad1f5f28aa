//! The ping role: sends one question at a time to an echo and measures the time to its answer.

use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler};
use actix_transport::{GroupId, Inbound, PeerAddr};
use clap::value_parser;
use hdrhistogram::Histogram;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Failure,
    link::Link,
    node::{Node, NodeArgs},
    payload::{self, fill},
    report::Report,
};

/// A question without an answer after this long counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Answers in the channel. Usually there is one; more are late answers.
const ANSWER_CAPACITY: usize = 64;

const GROUP: GroupId = GroupId::new(0);

/// Measures round trips to an echo, one frame at a time.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where echo listens: ip:port or name:port. Without `--node`, echo needs the address of this
    /// process: its `--reply-to`.
    #[arg(long, value_name = "ADDR")]
    to: PeerAddr,

    /// How many round trips to measure.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: u64,

    /// How many round trips to make before, so that both sides warm up.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    warmup: u64,

    /// Bytes of a payload, at least 8: the number in an answer shows which question it belongs to.
    #[arg(long, value_name = "BYTES", value_parser = payload::numbered_size)]
    size: usize,

    /// Gives up after this many seconds without an answer.
    #[arg(long, value_name = "S", default_value = "30s", value_parser = crate::seconds)]
    give_up: Duration,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    // After this time the answer no longer counts, so a queued question is no longer needed.
    let config = args.node.config().stale_after(ANSWER_LIMIT);
    let mut node = Node::bind_for_answers(&args.node, config)?;
    let link = Link::new(&node.transport, &args.to, args.node.udp)?;
    let (nonzero, pongs) = mpsc::channel(ANSWER_CAPACITY);
    let pong = Pong { nonzero }.start();
    node.transport.register(GROUP, pong.recipient())?;
    node.announce();

    let mut times = Times::new()?;
    let pinged = tokio::select! {
        pinged = ping(&args, &link, pongs, &mut times) => pinged,
        () = &mut node.interrupt => Ok(()),
    };
    let stats = node.finish().await;
    let mut report = Report::new("ping", stats)
        .with("answered", times.answered.len())
        .with("lost", times.lost)
        .with("p50_us", times.micros(0.5))
        .with("p99_us", times.micros(0.99))
        .with("p999_us", times.micros(0.999))
        .with("max_us", times.micros(1.0));
    if let Err(err) = pinged {
        report.fail(err.to_string());
    }
    report.print(&args.node)
}

async fn ping(
    args: &Args,
    link: &Link,
    mut pongs: mpsc::Receiver<u64>,
    times: &mut Times,
) -> Result<(), Failure> {
    let mut payload = vec![0; args.size];
    let mut last_answer = Instant::now();
    for number in 0..args.warmup.saturating_add(args.count) {
        fill(&mut payload, number);
        let asked = Instant::now();
        link.send(GROUP, &payload[..]).await?;
        // Skips answers to earlier questions, and to those of an earlier ping process.
        let answer = async { while pongs.recv().await != Some(number) {} };
        let answered = timeout(ANSWER_LIMIT, answer).await.is_ok();
        if number >= args.warmup {
            times.add(answered.then(|| asked.elapsed()));
        }
        if answered {
            last_answer = Instant::now();
        } else if last_answer.elapsed() >= args.give_up {
            return Err(format!("no answer for {:?}", args.give_up).into());
        }
    }
    match times.answered.is_empty() {
        true => Err("no answer at all".into()),
        false => Ok(()),
    }
}

/// Receives the answers and passes on their numbers.
struct Pong {
    nonzero: mpsc::Sender<u64>,
}

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Pong {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        for number in inbound.filter_map(|payload| payload::number(&payload)) {
            // If the channel is full or closed, this answer is not awaited any more.
            let _ = self.nonzero.try_send(number);
        }
    }
}

struct Times {
    /// In nanoseconds.
    answered: Histogram<u64>,
    lost: u64,
}

impl Times {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            answered: Histogram::new_with_max(ANSWER_LIMIT.as_nanos() as u64 * 2, 3)?,
            lost: 0,
        })
    }

    fn add(&mut self, time: Option<Duration>) {
        match time {
            Some(time) => self.answered.saturating_record(time.as_nanos() as u64),
            None => self.lost += 1,
        }
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.answered.value_at_quantile(quantile) as f64 / 1000.0
    }
}
