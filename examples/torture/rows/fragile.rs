//! A node in a process of its own, whose actors can be made to panic while it sends and receives: what
//! the rows `panics` and `soak` are about. It keeps track of what comes, and answers questions.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use actix_transport::{Config, Failpoint, Failpoints, Inbound, Shutdown, Stats, Transport, Via};

use super::fragile_load::{self, Hand, LONGEST, Load};
use crate::{
    eye::Eye,
    heap,
    row::Failure,
    stamp::Stamp,
    track::Track,
    traffic::{Offering, serve_apart},
    world::{ONE_EACH, Role, hush, questions, system, until},
};

pub(crate) const ROLE: Role = Role {
    name: "fragile",
    run: |args| system(answer(args.to_vec())),
};

/// Every point where an actor can be made to panic.
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

/// Groups that frames may come to.
pub(crate) const GROUPS: u32 = 16;

const LONG: Duration = Duration::from_secs(20);

/// Restarts and redials that keep nobody waiting, and frames that wait for as long as it takes.
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

/// What came to a node, by the group and what it came by. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tracks(Arc<Mutex<Book>>);

#[derive(Default)]
pub(crate) struct Book {
    flows: BTreeMap<(u32, bool), Flow>,
    pub(crate) corrupt: u64,
}

/// The frames of one sender for one group.
#[derive(Default)]
pub(crate) struct Flow {
    /// Of the sender's latest life.
    pub(crate) track: Track,
    incarnation: u32,
    /// What was wrong in its former ones.
    wrong: u64,
}

impl Flow {
    /// What must not be: frames that came twice, out of order, or with one missing before them on the
    /// same connection.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong + self.track.doubled + self.track.disordered + self.track.holes
    }
}

impl Tracks {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nobody panics here")
    }

    pub(crate) fn serve(&self, transport: &Transport) -> Result<(), Failure> {
        let tracks = self.clone();
        serve_apart(transport, 0..GROUPS, move |inbound| {
            tracks.book().note(inbound);
        })
    }
}

impl Book {
    fn note(&mut self, mut inbound: Inbound) {
        let (group, from) = (inbound.group().get(), inbound.from());
        let flow = self
            .flows
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
                    wrong: flow.wrong(),
                    ..Flow::default()
                };
            }
            // What a former life left on its way.
            if stamp.incarnation == flow.incarnation {
                flow.track.note(from, stamp.sequence);
            }
        }
    }

    pub(crate) fn flow(&mut self, group: u32, via: Via) -> &Flow {
        self.flows.entry((group, via == Via::Udp)).or_default()
    }

    /// Over all flows that came by connections.
    pub(crate) fn wrong(&self) -> u64 {
        let tcp = self.flows.iter().filter(|((_, udp), _)| !udp);
        tcp.map(|(_, flow)| flow.wrong()).sum()
    }

    /// What is wrong, and where.
    pub(crate) fn story(&self) -> String {
        let wrong = self.flows.iter().filter(|(_, flow)| flow.wrong() > 0);
        let stories = wrong.map(|((group, udp), flow)| {
            let Flow { track, wrong, .. } = flow;
            let via = if *udp { "datagrams" } else { "frames" };
            format!(
                "{via} of group {group}: {} twice, {} out of order, {} holes, {wrong} in former lives",
                track.doubled, track.disordered, track.holes
            )
        });
        let stories: Vec<_> = stories.collect();
        format!("{} corrupt, {}", self.corrupt, stories.join(", "))
    }

    pub(crate) fn came(&self) -> u64 {
        self.flows.values().map(|flow| flow.track.came).sum()
    }
}

/// The arguments: `<listen> <incarnation> <first group> <datagrams to, or -> <peer>…`. It sends to each
/// peer's group by its place, from the first group on.
async fn answer(args: Vec<String>) -> Result<(), Failure> {
    hush();
    let [listen, incarnation, first, datagrams, peers @ ..] = &args[..] else {
        return Err(Failure::stuck("too few arguments"));
    };
    let faults = Failpoints::default();
    let node = Transport::builder()
        .config(config())
        .failpoints(faults.clone())
        .bind(listen.parse::<SocketAddr>()?)?;
    let tracks = Tracks::default();
    tracks.serve(&node)?;
    println!("{}", node.local_addr());

    let (incarnation, first): (u32, u32) = (incarnation.parse()?, first.parse()?);
    let hand = Hand::default();
    let mut load = Vec::new();
    for (group, peer) in (first..).zip(peers) {
        let to = node.peer(peer.parse()?)?;
        load.push(fragile_load::frames(Load { incarnation, group }, to, &hand));
    }
    if let Ok(to) = datagrams.parse() {
        let group = first + load.len() as u32;
        load.push(fragile_load::datagrams(
            Load { incarnation, group },
            &node,
            to,
            &hand,
        ));
    }
    let eye = Eye::on([&node]);
    let arm = |point: &str| -> Result<(), Failure> {
        faults.arm(POINTS[point.parse::<usize>()?]);
        Ok(())
    };
    let mut armed = 0;
    let mut questions = questions();
    while let Some(question) = questions.recv().await {
        let words: Vec<&str> = question.split(' ').collect();
        match words[..] {
            ["go"] => {
                hand.go(true);
                println!("going");
            }
            ["pause"] => {
                hand.go(false);
                println!("paused");
            }
            // Panics at the point as soon as somebody passes it.
            ["arm", point] => {
                arm(point)?;
                armed += 1;
                println!("armed");
            }
            // The same, and answers when the one that panicked is there again: how many microseconds
            // that took, and what was sent by then.
            ["strike", point] => {
                armed += 1;
                arm(point)?;
                plug_until_spent(&faults, &hand).await?;
                let again = || node.stats().links.restarts == armed;
                let took = until("a restart", LONG, again).await?;
                let taken = join(load.iter().map(Offering::taken));
                println!("{} {taken}", took.as_micros());
            }
            // Answers when all that was armed has happened.
            ["spent"] => {
                plug_until_spent(&faults, &hand).await?;
                let spent = || node.stats().links.restarts == armed;
                if until("all restarts", LONG, spent).await.is_err() {
                    let (sent, links) = (node.stats().tcp, node.stats().links);
                    let text = format!("armed {armed}: {faults:?}, {sent:?}, {links:?}");
                    return Err(Failure::stuck(text));
                }
                println!("{armed}");
            }
            // What was sent so far, flow by flow.
            ["taken"] => println!("{}", join(load.iter().map(Offering::taken))),
            // How far each flow has come in.
            ["heard"] => {
                let book = tracks.book();
                println!("{}", join(book.flows.values().map(|flow| flow.track.end)));
            }
            // Answers when nothing is on its way any more, and whether that came to be.
            ["still"] => {
                let still = |stats: Stats| {
                    (stats.tcp.queued + stats.tcp.in_flight + stats.inbound.in_delivery).is_zero()
                };
                let came = until("rest", LONG, || still(node.stats())).await;
                println!("{}", u8::from(came.is_ok()));
            }
            ["heap"] => println!("{}", heap::held()),
            // What is missing of a flow that came by connections, given how much of it was written.
            ["lost", group, end] => {
                let mut book = tracks.book();
                let lost = book.flow(group.parse()?, Via::Tcp).track.lost(end.parse()?);
                println!("{} {}", lost.frames, lost.runs);
            }
            ["came"] => {
                let book = tracks.book();
                println!("{} {} {}", book.came(), book.wrong(), book.corrupt);
            }
            // The same in words, flow by flow.
            ["wrong"] => println!("{}", tracks.book().story()),
            ["end"] => {
                let taken = join(std::mem::take(&mut load).into_iter().map(Offering::end));
                node.stop(Shutdown::Drain(LONG)).await;
                let stats = node.stats();
                let left = stats.tcp.dropped.total().frames + stats.udp.dropped.total().frames;
                // What a part that panicked had read, and was about to hand over.
                let given_up = stats.inbound.dropped.total().frames;
                println!("{armed} {} {left} {given_up}", stats.links.restarts);
                println!("{taken}");
                println!("{}", eye.wrong().unwrap_or_else(|| "balanced".into()));
            }
            _ => return Err(Failure::stuck(format!("no such question: {question}"))),
        }
    }
    Ok(())
}

/// Waits until all panics that are armed have happened. A writer is in the middle of a write when it
/// has much to write and the other side is slow, which can be helped and not forced.
async fn plug_until_spent(faults: &Failpoints, hand: &Hand) -> Result<(), Failure> {
    const SOON: Duration = Duration::from_millis(50);

    for _ in 0..LONG.as_millis() / SOON.as_millis() {
        if until("a panic", SOON, || faults.spent()).await.is_ok() {
            return Ok(());
        }
        hand.plug();
    }
    Err(Failure::stuck(
        "nobody passed the point where a panic was due",
    ))
}

fn join(numbers: impl Iterator<Item = u64>) -> String {
    let words: Vec<_> = numbers.map(|number| number.to_string()).collect();
    words.join(" ")
}
