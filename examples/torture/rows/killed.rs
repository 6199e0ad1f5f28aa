//! Three processes send to each other. One after another is killed and restarted on its port. The
//! counters of each incarnation balance, no frame is received twice, and traffic resumes both ways
//! as soon as the back-off allows.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead},
    net::SocketAddr,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, PeerEvent, Shutdown, Transport};
use tokio::sync::mpsc;

use crate::{
    fixed_port::{FixedPort, bind_again},
    receive_log::{FromSender, ReceiveLog},
    row::{Failure, Figures, Row, Run},
    sink::print_line,
    stamp::Stamp,
    world::{self, Child, ONE_EACH, Role, WakeDelay, pause},
};

pub(crate) const ROW: Row = Row {
    name: "killed",
    what: "3 processes, killed and restarted on their ports: traffic again within back-off + 1 s",
    run,
};

pub(crate) const ROLE: Role = Role {
    name: "member",
    run: member,
};

const MEMBERS: usize = 3;
const GROUPS: u64 = 4;
const MS: Duration = Duration::from_millis(1);
/// The longest wait between two dials.
const BACK_OFF: Duration = Duration::from_millis(500);
/// Number of events kept for each member.
const EVENTS_KEPT: usize = 12;
/// Frames a second from each member to each other.
const PER_SECOND: u64 = 5_000;

fn run(run: &Run) -> Result<Figures, Failure> {
    let kills = run.tier.pick(20, 500);
    run.progress.total(kills);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let ports: Vec<_> = (0..MEMBERS)
        .map(|_| FixedPort::reserve())
        .collect::<Result<_, _>>()?;
    let addrs: Vec<_> = ports.iter().map(|port| port.addr).collect();
    let mut members = Vec::new();
    for index in 0..MEMBERS {
        members.push(Member::start(index, 0, &addrs)?);
    }
    let began = Instant::now();
    all_heard(&mut members, None, began)?;

    let mut figures = Figures::default();
    let (mut slowest, mut times) = (Duration::ZERO, Vec::new());
    let mut incarnations = AllIncarnations::default();
    let (wake_delay, mut worst) = (WakeDelay::start()?, Duration::ZERO);
    for kill in 0..kills {
        let index = draw.usize(..MEMBERS);
        pause(MS * draw.u32(50..150));
        // Ask for its report now, because it will be killed.
        let last = members[index].report()?;
        incarnations.note(index, &last);
        let incarnation = members[index].incarnation + 1;
        members[index].child.kill()?;
        // Sometimes long enough for the others' back-off to grow.
        pause(MS * draw.u32(..2_000) / draw.u32(1..10));
        members[index] = Member::start(index, incarnation, &addrs)?;
        let listening = Instant::now();
        wake_delay.take();
        let took = all_heard(&mut members, Some(index), listening)?;
        let delay = wake_delay.take();
        worst = worst.max(delay);
        figures.require(took <= BACK_OFF + Duration::from_secs(1) + delay, || {
            let events: Vec<_> = members
                .iter()
                .map(|member| member.recent_events(listening))
                .collect();
            let events = events.join(" ");
            format!("kill {kill} of {index}: traffic again after {took:?}: {events}")
        });
        slowest = slowest.max(took);
        times.push(took);
        run.progress.add(1);
    }
    // Stop the load first, so that all written frames arrive.
    for member in &mut members {
        member.child.send_line("quiet")?;
        member.wait_for("quiet")?;
    }
    pause(200 * MS);
    let mut ends = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let log = member.report()?;
        incarnations.note(index, &log);
        member.child.send_line("end")?;
        ends.push((member.incarnation, member.wait_for("end")?));
    }
    // Of the last incarnations' frames at most those written are received; links to killed members
    // have lost some.
    let (mut accepted, mut written, mut received) = (0, 0, 0);
    for (index, (incarnation, end)) in ends.into_iter().enumerate() {
        let numbers: Vec<u64> = end.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [taken, wrote] = numbers[..] else {
            figures.require(false, || format!("member {index}: {end}"));
            continue;
        };
        let came = incarnations.from(index as u32, incarnation);
        figures.require(came <= wrote && wrote <= taken, || {
            format!("member {index}: {taken} accepted, {wrote} written, {came} received")
        });
        accepted += taken;
        written += wrote;
        received += came;
    }
    incarnations.add_to(&mut figures);
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    figures.add("kills", kills);
    figures.add("traffic again after, median", format!("{median:.0?}"));
    figures.add("slowest", format!("{slowest:.0?}"));
    figures.add("threads woken late by at most", format!("{worst:.0?}"));
    figures.add("back-off", format!("{BACK_OFF:?}"));
    figures.add(
        "of the last incarnations, accepted, written, received",
        format!("{accepted}, {written}, {received}"),
    );
    figures.verdict()
}

/// What all members received in all incarnations.
#[derive(Default)]
struct AllIncarnations {
    /// By the receiver, the sender and the sender's incarnation: over all incarnations of the
    /// receiver.
    seen: BTreeMap<(usize, u32, u32), FromSender>,
    number: u64,
    frames: u64,
    /// Frames received in two incarnations of the receiver.
    in_two_incarnations: u64,
    wrong: Vec<String>,
}

impl AllIncarnations {
    fn note(&mut self, receiver: usize, log: &ReceiveLog) {
        let came = log.lock();
        let wrong = came.faults();
        self.wrong
            .extend(wrong.map(|wrong| format!("member {receiver}: {wrong}")));
        self.number += 1;
        self.frames += came.frames;
        for ((sender, incarnation), of) in &came.by_sender {
            let key = (receiver, *sender, *incarnation);
            let seen = self.seen.entry(key).or_default();
            for sequence in of.sequences() {
                self.in_two_incarnations += u64::from(!seen.mark(sequence));
            }
        }
    }

    /// Returns how many frames of a sender's incarnation were received by all members.
    fn from(&self, sender: u32, incarnation: u32) -> u64 {
        let of =
            |(key, _): &(&(usize, u32, u32), &FromSender)| (key.1, key.2) == (sender, incarnation);
        let seen = self.seen.iter().filter(of);
        seen.map(|(_, seen)| seen.frames).sum()
    }

    fn add_to(&self, figures: &mut Figures) {
        figures.require(self.wrong.is_empty(), || self.wrong.join("; "));
        figures.require(self.in_two_incarnations == 0, || {
            format!(
                "{} frames were received in two incarnations",
                self.in_two_incarnations
            )
        });
        figures.add("incarnations whose counters balance", self.number);
        figures.add("frames received", self.frames);
        figures.add(
            "members with corrupt, duplicate or reordered frames; frames in two incarnations",
            format!("{}; {}", self.wrong.len(), self.in_two_incarnations),
        );
    }
}

/// The row's handle to a process.
struct Member {
    child: Child,
    index: usize,
    incarnation: u32,
    /// The time, sender and incarnation of each first frame from an incarnation.
    heard: Vec<(Instant, u32, u32)>,
    /// The latest events of its transport.
    events: VecDeque<(Instant, String)>,
}

impl Member {
    /// Starts the process and waits until it listens.
    fn start(index: usize, incarnation: u32, addrs: &[SocketAddr]) -> Result<Self, Failure> {
        let mut args = vec![index.to_string(), incarnation.to_string()];
        args.extend(addrs.iter().map(SocketAddr::to_string));
        let mut member = Member {
            child: Child::start(ROLE.name, &args)?,
            index,
            incarnation,
            heard: Vec::new(),
            events: VecDeque::new(),
        };
        member.wait_for("listening")?;
        Ok(member)
    }

    /// Returns its receive log. The process itself checks that its counters balance.
    fn report(&mut self) -> Result<ReceiveLog, Failure> {
        self.child.send_line("report")?;
        ReceiveLog::parse(&self.wait_for("report")?)
    }

    /// Waits for a line that begins with `word`, and returns the rest of it.
    fn wait_for(&mut self, word: &str) -> Result<String, Failure> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            match self.child.try_line() {
                Some((at, line)) => {
                    if let Some(rest) = self.note(at, line)?.strip_prefix(word) {
                        return Ok(rest.trim().into());
                    }
                }
                None => pause(MS),
            }
        }
        Err(Failure::error(format!(
            "member {} did not print `{word}`",
            self.index
        )))
    }

    /// Records a `heard` or `event` line, and returns any other.
    fn note(&mut self, at: Instant, line: String) -> Result<String, Failure> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("heard") => {
                let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                self.heard.push((at, number(), number()));
                Ok(String::new())
            }
            Some("event") => {
                self.events.push_back((at, line));
                if self.events.len() > EVENTS_KEPT {
                    self.events.pop_front();
                }
                Ok(String::new())
            }
            Some("wrong") => Err(Failure::error(format!("member {}: {line}", self.index))),
            _ => Ok(line),
        }
    }

    /// Formats the kept events with their times relative to `since`, for failure messages.
    fn recent_events(&self, since: Instant) -> String {
        let events = self
            .events
            .iter()
            .map(|(at, line)| match at.checked_duration_since(since) {
                Some(after) => format!("+{} ms {line}", after.as_millis()),
                None => format!("-{} ms {line}", (since - *at).as_millis()),
            });
        format!(
            "{}: [{}]",
            self.index,
            events.collect::<Vec<_>>().join(", ")
        )
    }

    fn when_heard(&mut self, other: usize, incarnation: u32) -> Result<Option<Instant>, Failure> {
        while let Some((at, line)) = self.child.try_line() {
            self.note(at, line)?;
        }
        let of = |heard: &&(Instant, u32, u32)| (heard.1, heard.2) == (other as u32, incarnation);
        Ok(self.heard.iter().find(of).map(|heard| heard.0))
    }
}

/// Waits until every member has received a frame from each other's present incarnation; with
/// `only`, just the links from and to that member. Returns how long after `since` that was.
fn all_heard(
    members: &mut [Member],
    only: Option<usize>,
    since: Instant,
) -> Result<Duration, Failure> {
    let incarnations: Vec<u32> = members.iter().map(|member| member.incarnation).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut latest = since;
    for (from, incarnation) in incarnations.into_iter().enumerate() {
        for (to, member) in members.iter_mut().enumerate() {
            if from == to || only.is_some_and(|only| only != from && only != to) {
                continue;
            }
            loop {
                if let Some(at) = member.when_heard(from, incarnation)? {
                    latest = latest.max(at);
                    break;
                }
                if Instant::now() > deadline {
                    return Err(Failure::error(format!(
                        "member {to} receives nothing from member {from}"
                    )));
                }
                pause(MS);
            }
        }
    }
    Ok(latest - since)
}

/// The child: sends to the others at a fixed pace, records what it receives, checks its counters.
fn member(args: &[String]) -> Result<(), Failure> {
    let (index, incarnation): (u32, u32) = (args[0].parse()?, args[1].parse()?);
    let addrs: Result<Vec<SocketAddr>, _> = args[2..].iter().map(|addr| addr.parse()).collect();
    let addrs = addrs?;
    world::system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .stale_after(Duration::from_secs(1))
            .redial_max(BACK_OFF);
        let builder = Transport::builder().config(config);
        let transport = bind_again(&builder, addrs[index as usize]).await?;
        let log = ReceiveLog::default();
        let keeper = log.recorder(|sender, incarnation| {
            let _ = print_line(format!("heard {sender} {incarnation}"));
        });
        transport.catch_all(Some(keeper));
        transport.subscribe(EventPrinter.start().recipient());
        print_line("listening")?;
        let (lines_tx, mut lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let _ = lines_tx.send(line);
            }
        });
        let mut pace = tokio::time::interval(MS);
        let began = Instant::now();
        let (mut sequence, mut quiet) = (0, false);
        loop {
            tokio::select! {
                line = lines.recv() => match line.as_deref() {
                    Some("report") => print_line(format!("report {}", log.to_line()))?,
                    Some("quiet") => {
                        quiet = true;
                        print_line("quiet")?;
                    }
                    Some("end") => break,
                    // The row has ended.
                    _ => return Ok(()),
                },
                _ = pace.tick() => {
                    if let Err(imbalance) = transport.stats().balance() {
                        print_line(format!("wrong {imbalance}"))?;
                    }
                    let due = began.elapsed().as_millis() as u64 * PER_SECOND / 1000;
                    while sequence < due && !quiet {
                        send(&transport, &addrs, index, incarnation, sequence);
                        sequence += 1;
                    }
                }
            }
        }
        transport
            .stop(Shutdown::Drain(Duration::from_secs(2)))
            .await;
        match transport.stats().balance() {
            Ok(()) => {
                let sent = transport.stats().tcp;
                let (accepted, written) = (sent.accepted.frames, sent.written.frames);
                print_line(format!("end {accepted} {written}"))
            }
            Err(imbalance) => print_line(format!("end {imbalance}")),
        }
    })
}

/// Prints the transport's events for the row.
struct EventPrinter;

impl Actor for EventPrinter {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for EventPrinter {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = match event {
            PeerEvent::Up { peer, .. } => print_line(format!("event up {peer}")),
            PeerEvent::Down { peer, reason, .. } => {
                print_line(format!("event down {peer} {reason:?}"))
            }
            PeerEvent::Unreachable { peer, error, .. } => {
                print_line(format!("event no {peer} {error:?}"))
            }
            _ => Ok(()),
        };
    }
}

fn send(transport: &Transport, addrs: &[SocketAddr], from: u32, incarnation: u32, sequence: u64) {
    let group = (sequence % GROUPS) as u32;
    let stamp = Stamp {
        sender: from,
        incarnation,
        group,
        sequence,
    };
    for (index, addr) in addrs.iter().enumerate() {
        if index != from as usize {
            let len = [40, 100, 1_000][sequence as usize % 3];
            // The queue of an absent peer is sometimes full: that is counted, and no fault.
            let _ = transport.try_send(*addr, GroupId::new(group), stamp.payload(len));
        }
    }
}
