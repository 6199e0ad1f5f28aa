//! A node in a child process whose actors can be made to panic under load, for the rows `panics`
//! and `soak`. It tracks what it receives and answers questions. Its load is in `fragile_load.rs`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use actix_transport::{Config, Failpoint, Failpoints, Inbound, Shutdown, Stats, Transport, Via};

use super::fragile_load::{self, LONGEST, Load, LoadControl};
use crate::{
    balance_watch::BalanceWatch,
    heap,
    row::Failure,
    stamp::Stamp,
    track::Track,
    traffic::{Offering, serve_on_own_thread},
    world::{ONE_EACH, Role, questions, silence_expected_panics, system, until},
};

pub(crate) const ROLE: Role = Role {
    name: "fragile",
    run: |args| system(answer(args.to_vec())),
};

/// Every failpoint of the transport's actors.
pub(crate) const POINTS: [Failpoint; 8] = [
    Failpoint::Listener,
    Failpoint::Reader,
    Failpoint::Node,
    Failpoint::BeforeTake,
    Failpoint::AfterTake,
    Failpoint::MidWrite,
    Failpoint::AfterWrite,
    Failpoint::Udp,
];

/// Number of groups that receive frames.
pub(crate) const GROUPS: u32 = 16;

const LONG: Duration = Duration::from_secs(20);

/// Short waits before restarts and dials, and frames that do not go stale.
pub(crate) fn config() -> Config {
    Config::default()
        .placement(ONE_EACH)
        .max_frame(LONGEST)
        .restart_first(Duration::from_millis(1))
        .restart_limit(1 << 20)
        .redial_first(Duration::from_millis(1))
        .redial_max(Duration::from_millis(100))
        .stale_after(Duration::from_secs(600))
}

/// What a node received, by group and by kind of link. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tracks(Arc<Mutex<Flows>>);

#[derive(Default)]
pub(crate) struct Flows {
    by_key: BTreeMap<(u32, bool), Flow>,
    pub(crate) corrupt: u64,
}

/// The frames of one sender for one group.
#[derive(Default)]
pub(crate) struct Flow {
    /// Of the sender's latest incarnation.
    pub(crate) track: Track,
    incarnation: u32,
    /// Faults in earlier incarnations.
    wrong: u64,
}

impl Flow {
    /// Returns the number of faults: frames received twice, out of order, or with a gap before them
    /// on the same connection.
    pub(crate) fn faults(&self) -> u64 {
        self.wrong + self.track.duplicates + self.track.reordered + self.track.gaps
    }
}

impl Tracks {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Flows> {
        self.0.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn serve(&self, transport: &Transport) -> Result<(), Failure> {
        let tracks = self.clone();
        serve_on_own_thread(transport, 0..GROUPS, move |inbound| {
            tracks.lock().note(inbound);
        })
    }
}

impl Flows {
    fn note(&mut self, mut inbound: Inbound) {
        let (group, from) = (inbound.group().get(), inbound.from().socket_addr());
        let flow = self
            .by_key
            .entry((group, inbound.via() == Via::Udp))
            .or_default();
        while let Some(payload) = inbound.next_slice() {
            let Some(stamp) = Stamp::check(payload).filter(|stamp| stamp.group == group) else {
                self.corrupt += 1;
                continue;
            };
            if stamp.incarnation > flow.incarnation {
                *flow = Flow {
                    incarnation: stamp.incarnation,
                    wrong: flow.faults(),
                    ..Flow::default()
                };
            }
            // Late frames of an earlier incarnation are ignored.
            if stamp.incarnation == flow.incarnation {
                flow.track.note(from, stamp.sequence);
            }
        }
    }

    pub(crate) fn flow(&mut self, group: u32, via: Via) -> &Flow {
        self.by_key.entry((group, via == Via::Udp)).or_default()
    }

    /// Returns the faults of all flows over connections.
    pub(crate) fn faults(&self) -> u64 {
        let tcp = self.by_key.iter().filter(|((_, udp), _)| !udp);
        tcp.map(|(_, flow)| flow.faults()).sum()
    }

    /// Describes the faults of each flow.
    pub(crate) fn describe_faults(&self) -> String {
        let wrong = self.by_key.iter().filter(|(_, flow)| flow.faults() > 0);
        let texts = wrong.map(|((group, udp), flow)| {
            let Flow { track, wrong, .. } = flow;
            let via = if *udp { "datagrams" } else { "frames" };
            format!(
                "{via} of group {group}: {} duplicate, {} reordered, {} gaps, {wrong} faults in earlier incarnations",
                track.duplicates, track.reordered, track.gaps
            )
        });
        let texts: Vec<_> = texts.collect();
        format!("{} corrupt, {}", self.corrupt, texts.join(", "))
    }

    pub(crate) fn came(&self) -> u64 {
        self.by_key.values().map(|flow| flow.track.received).sum()
    }
}

/// Runs the child. Its arguments: `<listen> <incarnation> <first group> <datagrams to, or ->
/// <peer>…`. The first peer gets frames for the first group, the next peer for the next, and so on.
async fn answer(args: Vec<String>) -> Result<(), Failure> {
    silence_expected_panics();
    let [listen, incarnation, first, datagrams, peers @ ..] = &args[..] else {
        return Err(Failure::error("too few arguments"));
    };
    let failpoints = Failpoints::default();
    let node = Transport::builder()
        .config(config())
        .failpoints(failpoints.clone())
        .bind(listen.parse::<SocketAddr>()?)?;
    let tracks = Tracks::default();
    tracks.serve(&node)?;
    println!("{}", node.local_addr());

    let (incarnation, first): (u32, u32) = (incarnation.parse()?, first.parse()?);
    let control = LoadControl::default();
    let mut load = Vec::new();
    for (group, peer) in (first..).zip(peers) {
        let to = node.peer(peer.as_str())?;
        load.push(fragile_load::frames(
            Load { incarnation, group },
            to,
            &control,
        ));
    }
    if let Ok(to) = datagrams.parse() {
        let group = first + load.len() as u32;
        load.push(fragile_load::datagrams(
            Load { incarnation, group },
            &node,
            to,
            &control,
        ));
    }
    let snapshots = BalanceWatch::start([&node]);
    let arm = |point: &str| -> Result<(), Failure> {
        failpoints.arm(POINTS[point.parse::<usize>()?]);
        Ok(())
    };
    let mut armed = 0;
    let mut questions = questions();
    while let Some(question) = questions.recv().await {
        let words: Vec<&str> = question.split(' ').collect();
        match words[..] {
            ["go"] => {
                control.set_running(true);
                println!("going");
            }
            ["pause"] => {
                control.set_running(false);
                println!("paused");
            }
            // The next pass of this failpoint panics.
            ["arm", point] => {
                arm(point)?;
                armed += 1;
                println!("armed");
            }
            // The same; answers when the actor has been restarted: the microseconds until then, and
            // the frames sent by then.
            ["strike", point] => {
                armed += 1;
                arm(point)?;
                wait_until_spent(&failpoints, &control).await?;
                let again = || node.stats().links.restarts == armed;
                let took = until("a restart", LONG, again).await?;
                let taken = join(load.iter().map(Offering::taken));
                println!("{} {taken}", took.as_micros());
            }
            // Answers when all armed panics have happened.
            ["spent"] => {
                wait_until_spent(&failpoints, &control).await?;
                let spent = || node.stats().links.restarts == armed;
                if until("all restarts", LONG, spent).await.is_err() {
                    let (sent, links) = (node.stats().tcp, node.stats().links);
                    let text = format!("armed {armed}: {failpoints:?}, {sent:?}, {links:?}");
                    return Err(Failure::error(text));
                }
                println!("{armed}");
            }
            // Frames sent so far, by flow.
            ["taken"] => println!("{}", join(load.iter().map(Offering::taken))),
            // One more than the highest sequence received, by flow.
            ["progress"] => {
                let flows = tracks.lock();
                println!("{}", join(flows.by_key.values().map(|flow| flow.track.end)));
            }
            // Answers when no frame is queued or in flight, and whether that was reached.
            ["still"] => {
                let still = |stats: Stats| {
                    (stats.tcp.queued + stats.tcp.in_flight + stats.inbound.in_delivery).is_zero()
                };
                let came = until("idle", LONG, || still(node.stats())).await;
                println!("{}", u8::from(came.is_ok()));
            }
            ["heap"] => println!("{}", heap::allocated()),
            // Lost frames and gaps of a flow over connections, of which `end` frames were written.
            ["lost", group, end] => {
                let mut flows = tracks.lock();
                let lost = flows
                    .flow(group.parse()?, Via::Tcp)
                    .track
                    .lost(end.parse()?);
                println!("{} {}", lost.frames, lost.runs);
            }
            ["received"] => {
                let flows = tracks.lock();
                println!("{} {} {}", flows.came(), flows.faults(), flows.corrupt);
            }
            // Describes the faults of each flow.
            ["wrong"] => println!("{}", tracks.lock().describe_faults()),
            ["end"] => {
                let taken = join(std::mem::take(&mut load).into_iter().map(Offering::end));
                node.stop(Shutdown::Drain(LONG)).await;
                let stats = node.stats();
                let left = stats.tcp.dropped.total().frames + stats.udp.dropped.total().frames;
                // Frames that a panicking actor had received and not yet delivered.
                let given_up = stats.inbound.dropped.total().frames;
                println!("{armed} {} {left} {given_up}", stats.links.restarts);
                println!("{taken}");
                println!(
                    "{}",
                    snapshots
                        .first_imbalance()
                        .unwrap_or_else(|| "balanced".into())
                );
            }
            _ => return Err(Failure::error(format!("no such question: {question}"))),
        }
    }
    Ok(())
}

/// Waits until all armed panics have happened. A writer is in the middle of a write only if it has
/// much to write and the other side is slow; a large frame makes that likely.
async fn wait_until_spent(failpoints: &Failpoints, control: &LoadControl) -> Result<(), Failure> {
    const SOON: Duration = Duration::from_millis(50);

    for _ in 0..LONG.as_millis() / SOON.as_millis() {
        if until("a panic", SOON, || failpoints.spent()).await.is_ok() {
            return Ok(());
        }
        control.send_blocking_frame();
    }
    Err(Failure::error("no actor passed the armed failpoint"))
}

fn join(numbers: impl Iterator<Item = u64>) -> String {
    let words: Vec<_> = numbers.map(|number| number.to_string()).collect();
    words.join(" ")
}
