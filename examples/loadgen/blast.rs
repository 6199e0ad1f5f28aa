//! The blast: sends as fast as the link takes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::Arbiter;
use actix_transport::{
    Config, Count, GroupId, Lane, LaneConfig, Overflow, PeerAddr, Shutdown, Stats, Transport,
};
use clap::value_parser;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    Failure,
    link::Link,
    node::{Node, NodeArgs, Where},
    payload::fill,
    report::Report,
};

/// From this size on, the queue keeps an owned payload where it is instead of copying it.
const GIVE_AWAY: usize = 8 << 10;

/// The longest message that is sent as one frame.
const LONGEST_WHOLE: usize = 64 << 10;

/// How often to check for progress.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Longer than any run.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends as fast as the link takes it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,

    /// Addresses to send to, in turns: ip:port or name:port.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', required = true)]
    to: Vec<PeerAddr>,

    /// The lane to send on: normal, control, bulk, or lane-3 to lane-7.
    #[arg(long, value_name = "LANE", default_value = "normal", value_parser = crate::lane,
          conflicts_with = "udp")]
    lane: Lane,

    /// How many frames or messages to send in all.
    #[arg(long, value_name = "N")]
    frames: u64,

    /// Bytes of a payload.
    #[arg(long, value_name = "BYTES")]
    size: usize,

    /// Sends each payload as a message, which may be longer than a frame, and waits until it is written before it makes
    /// the next one. A message of more than 64 KiB is sent in parts, which needs `--node`. Best on `--lane bulk`. The
    /// report counts messages, and the bytes of their parts.
    #[arg(long, conflicts_with_all = ["udp", "burst"])]
    large: bool,

    /// Frames that are given to the transport in one call.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..=10_000))]
    burst: u32,

    /// Groups to send to, from 0 on, in turns.
    #[arg(long, value_name = "G", default_value_t = 1,
          value_parser = value_parser!(u32).range(1..=10_000))]
    groups: u32,

    /// Gives up after this many seconds without any frame written.
    #[arg(long, value_name = "S", default_value = "30s", value_parser = crate::seconds)]
    give_up: Duration,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if args.large && args.size > LONGEST_WHOLE && !args.node.identity.has_sessions() {
        return Err("--node is missing: with --large, messages go in parts to known nodes".into());
    }
    let mut node = Node::start(&args.node, config(&args))?;
    let transport = node.transport.clone();
    let producer = Producer::new(&args, &transport)?;
    let messages = producer.messages.clone();
    node.announce();

    let begun = Instant::now();
    let sending = async {
        producer.start(args.node.placement).await??;
        transport.stop(Shutdown::Drain(DAY)).await;
        Ok::<_, Failure>(())
    };
    // `None` if the process was interrupted.
    let sent = tokio::select! {
        sent = sending => Some(sent),
        () = stall(&transport, args.give_up) => {
            Some(Err(format!("nothing was written for {:?}", args.give_up).into()))
        }
        () = &mut node.interrupt => None,
    };
    let time = begun.elapsed();

    let stats = node.finish().await;
    let mut written = written(&stats);
    if args.large {
        written.frames = messages.load(Relaxed);
    }
    let missing = args.frames - written.frames;
    let mut report = Report::new("blast", stats)
        .measured(written, time)
        .with("undelivered", missing);
    if let Some(failure) = failure(sent, missing, &stats) {
        report.fail(failure);
    }
    report.print(&args.node)
}

fn failure(sent: Option<Result<(), Failure>>, missing: u64, stats: &Stats) -> Option<String> {
    match sent? {
        Err(err) => Some(format!("{err}, {missing} frames are undelivered")),
        Ok(()) if missing > 0 => Some(format!("{missing} frames are undelivered")),
        // Frames that the kernel held for a broken link count as written.
        Ok(()) if stats.links.connects > stats.links.peers => {
            Some("a link was lost and connected again, frames may be missing".to_string())
        }
        Ok(()) => None,
    }
}

/// At full speed the queue is always full, and on a slow link frames wait in it for long. So no frame ever goes
/// stale or makes room for another, on whatever lane; `give_up` watches the links as a whole.
fn config(args: &Args) -> Config {
    let config = args.node.config().stale_after(DAY);
    let whole = LaneConfig::new()
        .stale_after(DAY)
        .overflow(Overflow::RejectNewest);
    match args.lane {
        // Its bounds are those of the config.
        Lane::NORMAL => config,
        lane => config.lane(lane, whole),
    }
}

/// Returns once nothing has been written for this long.
async fn stall(transport: &Transport, limit: Duration) {
    let (mut seen, mut since) = (Count::ZERO, Instant::now());
    while since.elapsed() < limit {
        sleep(POLL_INTERVAL).await;
        let written = written(&transport.stats());
        if written != seen {
            (seen, since) = (written, Instant::now());
        }
    }
}

fn written(stats: &Stats) -> Count {
    stats.tcp.written + stats.udp.written
}

/// Makes the frames; the whole of each payload is written, as in a real program.
struct Producer {
    links: Vec<Link>,
    groups: u32,
    frames: u64,
    size: usize,
    burst: u64,
    large: bool,
    /// With `large`: how many messages were written.
    messages: Arc<AtomicU64>,
}

impl Producer {
    fn new(args: &Args, transport: &Transport) -> Result<Self, Failure> {
        let to = args.to.iter();
        let links = to.map(|to| Ok(Link::new(transport, to, args.node.udp)?.on(args.lane)));
        Ok(Self {
            links: links.collect::<Result<_, Failure>>()?,
            groups: args.groups,
            frames: args.frames,
            size: args.size,
            burst: args.burst.into(),
            large: args.large,
            messages: Arc::default(),
        })
    }

    /// Starts to send. The answer comes when the last frame is accepted or one is refused.
    fn start(self, place: Where) -> oneshot::Receiver<Result<(), Failure>> {
        let arbiter = match place {
            Where::Current => Arbiter::current(),
            Where::Dedicated | Where::Shared => Arbiter::new().handle(),
        };
        let (done_tx, done) = oneshot::channel();
        arbiter.spawn(async move {
            // Fails if the role was interrupted and no longer waits.
            let _ = done_tx.send(match self.burst {
                _ if self.large => self.send_messages().await,
                1 => self.send_single().await,
                _ => self.send_bursts().await,
            });
        });
        done
    }

    /// Returns each group on each link.
    fn routes(&self) -> Vec<(GroupId, &Link)> {
        let groups = (0..self.groups).map(GroupId::new);
        let routes = groups.flat_map(|group| self.links.iter().map(move |link| (group, link)));
        routes.collect()
    }

    async fn send_messages(self) -> Result<(), Failure> {
        let routes = self.routes();
        for (number, &(group, link)) in (0..self.frames).zip(routes.iter().cycle()) {
            let mut payload = vec![0; self.size];
            fill(&mut payload, number);
            link.send_large(group, payload).await?;
            self.messages.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    async fn send_single(self) -> Result<(), Failure> {
        let routes = self.routes();
        let mut buffer = vec![0; self.size];
        for (number, &(group, link)) in (0..self.frames).zip(routes.iter().cycle()) {
            // Only a frame that has to wait becomes a future, because a future takes longer than
            // the send itself.
            if self.size < GIVE_AWAY {
                fill(&mut buffer, number);
                if let Err(refused) = link.try_send(group, &buffer[..]) {
                    link.retry(group, refused).await?;
                }
            } else {
                let mut payload = vec![0; self.size];
                fill(&mut payload, number);
                if let Err(refused) = link.try_send(group, payload) {
                    link.retry(group, refused).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends several frames with each call, to one link after the other.
    async fn send_bursts(self) -> Result<(), Failure> {
        let mut links = self.links.iter().cycle();
        let mut buffers = vec![vec![0; self.size]; self.burst as usize];
        for first in (0..self.frames).step_by(self.burst as usize) {
            let Some(link) = links.next() else { break };
            let numbers = first..self.frames.min(first + self.burst);
            let group = |number| GroupId::new((number % u64::from(self.groups)) as u32);
            if self.size < GIVE_AWAY {
                for (number, buffer) in numbers.clone().zip(&mut buffers) {
                    fill(buffer, number);
                }
                let frames = numbers.map(group).zip(buffers.iter().map(Vec::as_slice));
                link.send_all(frames).await?;
            } else {
                let frames = numbers.map(|number| {
                    let mut payload = vec![0; self.size];
                    fill(&mut payload, number);
                    (group(number), payload)
                });
                link.send_all(frames).await?;
            }
        }
        Ok(())
    }
}
