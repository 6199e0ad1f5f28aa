//! The call role: makes calls, many at a time, and measures how long the answers take and why calls fail.

use std::{process, sync::Arc, time::Duration};

use actix_transport::{CallError, Lane, Peer, PeerAddr};
use clap::value_parser;
use tokio::time::{sleep, timeout};

use crate::{
    Failure,
    callers::{self, Tally},
    node::{Node, NodeArgs},
    payload::{self, fill},
    report::Report,
    serve::GROUP,
    threads::Threads,
};

/// How often to look whether answers still come.
const LOOK: Duration = Duration::from_millis(50);

/// The number of the first call, which is made again until it is answered: the other node may still be starting.
const FIRST: u64 = u64::MAX;

/// The pause before it is made again.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes calls to a serve, a fixed number at a time.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Where serve listens: ip:port or name:port.
    #[arg(long, value_name = "ADDR")]
    to: PeerAddr,

    /// How many calls to measure.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: u64,

    /// How many calls to make before, so that both sides warm up.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    warmup: u64,

    /// Bytes of a call, at least 8.
    #[arg(long, value_name = "BYTES", value_parser = payload::numbered_size)]
    size: usize,

    /// How many calls are under way at a time.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    in_flight: u32,

    /// How long a call waits for its answer.
    #[arg(long, value_name = "S", default_value = "5s", value_parser = crate::seconds)]
    deadline: Duration,

    /// The lane of the calls and of their answers: normal, control, bulk, or lane-3 to lane-7.
    #[arg(long, value_name = "LANE", default_value = "normal", value_parser = crate::lane)]
    lane: Lane,

    /// Where the callers run: on the arbiter of this role, which with `--placement current` is that of the transport,
    /// or on a multi-threaded tokio runtime.
    #[arg(long = "runtime", value_enum, default_value_t = Threads::Current)]
    threads: Threads,

    /// Gives up after this many seconds without an answer.
    #[arg(long, value_name = "S", default_value = "30s", value_parser = crate::seconds)]
    give_up: Duration,
}

pub(crate) async fn run(mut args: Args) -> Result<(), Failure> {
    // Several of these may run at the same time, and must be different nodes.
    args.node.for_calls(u64::from(process::id()))?;
    let in_flight = args.in_flight as usize;
    let mut config = args.node.config();
    config.peer_calls = config.peer_calls.max(in_flight);
    config.max_calls = config.max_calls.max(in_flight);
    let mut node = Node::start(&args.node, config)?;
    let peer = node.transport.peer(&args.to)?.lane(args.lane);
    node.announce();

    let tally = Tally::new(args.warmup, args.count)?;
    let measured = tokio::select! {
        measured = measure(&args, peer, &tally) => measured,
        () = &mut node.interrupt => Ok(()),
    };
    let stats = node.finish().await;
    let ended = tally.ended();
    let calls = serde_json::to_value(stats.calls)?;
    let mut report = Report::new("call", stats)
        .with("lane", args.lane.to_string())
        .with("in_flight", args.in_flight)
        .with("answered", ended.nanos.len())
        .with("failed", ended.failed())
        .with("failures", serde_json::to_value(&ended.failures)?)
        .with("seconds", ended.seconds())
        .with("calls_per_second", ended.rate().round() as u64)
        .with("p50_us", ended.micros(0.5))
        .with("p99_us", ended.micros(0.99))
        .with("p999_us", ended.micros(0.999))
        .with("max_us", ended.micros(1.0))
        .with("calls", calls);
    match measured {
        Err(err) => report.fail(err.to_string()),
        Ok(()) if ended.failed() > 0 => report.fail(format!("{} calls failed", ended.failed())),
        Ok(()) => {}
    }
    report.print(&args.node)
}

async fn measure(args: &Args, peer: Peer, tally: &Arc<Tally>) -> Result<(), Failure> {
    let threads = args.threads.start()?;
    let (size, deadline) = (args.size, args.deadline);
    let call = move |number| call(peer.clone(), number, size, deadline);
    let gave_up = || format!("no answer for {:?}", args.give_up).into();

    let reached = async {
        while call(FIRST).await.is_err() {
            sleep(PAUSE).await;
        }
    };
    if timeout(args.give_up, reached).await.is_err() {
        return Err(gave_up());
    }
    let warm_up = Tally::new(0, args.warmup)?;
    for tally in [&warm_up, tally] {
        let runtime = threads.for_callers();
        tokio::select! {
            made = callers::make(&runtime, args.in_flight as usize, tally, call.clone()) => made?,
            () = silence(tally, args.give_up) => return Err(gave_up()),
        }
    }
    Ok(())
}

/// Makes one call. Returns why it failed.
async fn call(
    peer: Peer,
    number: u64,
    size: usize,
    deadline: Duration,
) -> Result<(), &'static str> {
    let mut payload = vec![0; size];
    fill(&mut payload, number);
    let answer = peer.call(GROUP, payload).deadline(deadline).await;
    let answer = answer.map_err(|err| reason(&err))?;
    // An answer that is too short has no number.
    match payload::number(&answer).is_none_or(|answered| answered == number) {
        true => Ok(()),
        false => Err("wrong_answer"),
    }
}

/// Waits until no call has been answered for this long.
async fn silence(tally: &Tally, limit: Duration) {
    while tally.silence() < limit {
        sleep(LOOK).await;
    }
}

fn reason(err: &CallError) -> &'static str {
    match err {
        CallError::Deadline { sent: true } => "deadline",
        CallError::Deadline { sent: false } => "deadline_unsent",
        CallError::Unreachable { .. } => "unreachable",
        CallError::Lost { sent: true } => "lost",
        CallError::Lost { sent: false } => "lost_unsent",
        CallError::TooLarge { .. } => "too_large",
        CallError::Full => "full",
        CallError::NoHandler => "no_handler",
        CallError::Refused => "refused",
        CallError::Unanswered => "unanswered",
        CallError::Failed { .. } => "failed",
        CallError::Unsupported => "unsupported",
        CallError::Stopped => "stopped",
        _ => "other",
    }
}
