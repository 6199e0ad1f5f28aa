//! Three processes that all send to each other, of which one after another is killed and started
//! again on its port: each incarnation's counters balance, no frame comes twice, and there is traffic
//! again, both ways, as soon as the back-off allows.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, PeerEvent, Shutdown, Transport};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use crate::{
    row::{Failure, Figures, Row, Run},
    sink::say,
    stamp::Stamp,
    tally::{Seen, Tally},
    world::{self, Child, ONE_EACH, Role, Stall, pause},
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
/// Events kept of each.
const TOLD: usize = 12;
/// Frames a second from each to each.
const PER_SECOND: u64 = 5_000;

fn run(run: &Run) -> Result<Figures, Failure> {
    let kills = run.tier.of(20, 500);
    run.progress.total(kills);
    let mut draw = fastrand::Rng::with_seed(run.seed);
    let seats = [(); MEMBERS].map(|()| seat());
    let mut addrs = Vec::new();
    for seat in &seats {
        let addr = seat
            .as_ref()
            .map_err(|err| Failure::stuck(err.to_string()))?;
        addrs.push(addr.local_addr()?.as_socket().expect("an ip address"));
    }
    let mut members = Vec::new();
    for index in 0..MEMBERS {
        members.push(Member::start(index, 0, &addrs)?);
    }
    let began = Instant::now();
    all_heard(&mut members, None, began)?;

    let mut figures = Figures::default();
    let (mut slowest, mut times) = (Duration::ZERO, Vec::new());
    let mut lives = Lives::default();
    let (stall, mut worst) = (Stall::watch()?, Duration::ZERO);
    for kill in 0..kills {
        let index = draw.usize(..MEMBERS);
        pause(MS * draw.u32(50..150));
        // What it has to say it says before, as it will not be asked.
        let last = members[index].report()?;
        lives.note(index, &last);
        let incarnation = members[index].incarnation + 1;
        members[index].child.kill()?;
        // Long enough, now and then, for the others' waits to be long.
        pause(MS * draw.u32(..2_000) / draw.u32(1..10));
        members[index] = Member::start(index, incarnation, &addrs)?;
        let listening = Instant::now();
        stall.take();
        let took = all_heard(&mut members, Some(index), listening)?;
        let stood = stall.take();
        worst = worst.max(stood);
        figures.must(took <= BACK_OFF + Duration::from_secs(1) + stood, || {
            let stories: Vec<_> = members
                .iter()
                .map(|member| member.story(listening))
                .collect();
            let stories = stories.join(" ");
            format!("kill {kill} of {index}: traffic again after {took:?}: {stories}")
        });
        slowest = slowest.max(took);
        times.push(took);
        run.progress.add(1);
    }
    // Quiet first, so that all that is written has come.
    for member in &mut members {
        member.child.tell("quiet")?;
        member.wait_for("quiet")?;
    }
    pause(200 * MS);
    let mut ends = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let tally = member.report()?;
        lives.note(index, &tally);
        member.child.tell("end")?;
        ends.push((member.incarnation, member.wait_for("end")?));
    }
    // What came from their last lives is what they wrote, or less: a peer died with the rest.
    let (mut accepted, mut written, mut received) = (0, 0, 0);
    for (index, (incarnation, end)) in ends.into_iter().enumerate() {
        let numbers: Vec<u64> = end.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [taken, wrote] = numbers[..] else {
            figures.must(false, || format!("member {index}: {end}"));
            continue;
        };
        let came = lives.from(index as u32, incarnation);
        figures.must(came <= wrote && wrote <= taken, || {
            format!("member {index}: {taken} accepted, {wrote} written, {came} received")
        });
        accepted += taken;
        written += wrote;
        received += came;
    }
    lives.tell(&mut figures);
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    figures.add("kills", kills);
    figures.add("traffic again after, median", format!("{median:.0?}"));
    figures.add("slowest", format!("{slowest:.0?}"));
    figures.add("machine stood still for at most", format!("{worst:.0?}"));
    figures.add("back-off", format!("{BACK_OFF:?}"));
    figures.add(
        "of the last lives, accepted, written, received",
        format!("{accepted}, {written}, {received}"),
    );
    figures.verdict()
}

/// What all members got in all their lives.
#[derive(Default)]
struct Lives {
    /// By the receiver, and the sender and its incarnation: across the receiver's lives.
    seen: BTreeMap<(usize, u32, u32), Seen>,
    number: u64,
    frames: u64,
    /// Frames that came once in one life and again in another.
    again: u64,
    wrong: Vec<String>,
}

impl Lives {
    fn note(&mut self, receiver: usize, tally: &Tally) {
        let came = tally.came();
        let wrong = came.wrong();
        self.wrong
            .extend(wrong.map(|wrong| format!("member {receiver}: {wrong}")));
        self.number += 1;
        self.frames += came.frames;
        for ((sender, incarnation), of) in &came.of {
            let key = (receiver, *sender, *incarnation);
            let seen = self.seen.entry(key).or_default();
            for sequence in of.sequences() {
                self.again += u64::from(!seen.mark(sequence));
            }
        }
    }

    /// How many frames of a sender's life came to anybody.
    fn from(&self, sender: u32, incarnation: u32) -> u64 {
        let of = |(key, _): &(&(usize, u32, u32), &Seen)| (key.1, key.2) == (sender, incarnation);
        let seen = self.seen.iter().filter(of);
        seen.map(|(_, seen)| seen.frames).sum()
    }

    fn tell(&self, figures: &mut Figures) {
        figures.must(self.wrong.is_empty(), || self.wrong.join("; "));
        figures.must(self.again == 0, || {
            format!("{} frames came in two lives", self.again)
        });
        figures.add("lives whose counters balance", self.number);
        figures.add("frames received", self.frames);
        figures.add(
            "members that saw one corrupt, twice or out of order; frames in two lives",
            format!("{}; {}", self.wrong.len(), self.again),
        );
    }
}

/// A socket that keeps a port while nobody listens there.
fn seat() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}

/// The row's end of a process.
struct Member {
    child: Child,
    index: usize,
    incarnation: u32,
    /// Whom it has heard, and when.
    heard: Vec<(Instant, u32, u32)>,
    /// What its transport told, and when, lately.
    told: VecDeque<(Instant, String)>,
}

impl Member {
    /// Starts it and waits until it listens.
    fn start(index: usize, incarnation: u32, addrs: &[SocketAddr]) -> Result<Self, Failure> {
        let mut args = vec![index.to_string(), incarnation.to_string()];
        args.extend(addrs.iter().map(SocketAddr::to_string));
        let mut member = Member {
            child: Child::start(ROLE.name, &args)?,
            index,
            incarnation,
            heard: Vec::new(),
            told: VecDeque::new(),
        };
        member.wait_for("listening")?;
        Ok(member)
    }

    /// Its tally; that its counters balance it looks after itself.
    fn report(&mut self) -> Result<Tally, Failure> {
        self.child.tell("report")?;
        Tally::parse(&self.wait_for("report")?)
    }

    /// Waits for a line that begins with `word`; returns the rest of it.
    fn wait_for(&mut self, word: &str) -> Result<String, Failure> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            match self.child.said() {
                Some((at, line)) => {
                    if let Some(rest) = self.note(at, line)?.strip_prefix(word) {
                        return Ok(rest.trim().into());
                    }
                }
                None => pause(MS),
            }
        }
        Err(Failure::stuck(format!(
            "member {} does not say `{word}`",
            self.index
        )))
    }

    /// Notes whom it has heard; returns what else it says.
    fn note(&mut self, at: Instant, line: String) -> Result<String, Failure> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("heard") => {
                let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                self.heard.push((at, number(), number()));
                Ok(String::new())
            }
            Some("event") => {
                self.told.push_back((at, line));
                if self.told.len() > TOLD {
                    self.told.pop_front();
                }
                Ok(String::new())
            }
            Some("wrong") => Err(Failure::stuck(format!("member {}: {line}", self.index))),
            _ => Ok(line),
        }
    }

    /// What its transport told from `since` on, for whoever has to find out.
    fn story(&self, since: Instant) -> String {
        let told = self
            .told
            .iter()
            .map(|(at, line)| match at.checked_duration_since(since) {
                Some(after) => format!("+{} ms {line}", after.as_millis()),
                None => format!("-{} ms {line}", (since - *at).as_millis()),
            });
        format!("{}: [{}]", self.index, told.collect::<Vec<_>>().join(", "))
    }

    fn when_heard(&mut self, other: usize, incarnation: u32) -> Result<Option<Instant>, Failure> {
        while let Some((at, line)) = self.child.said() {
            self.note(at, line)?;
        }
        let of = |heard: &&(Instant, u32, u32)| (heard.1, heard.2) == (other as u32, incarnation);
        Ok(self.heard.iter().find(of).map(|heard| heard.0))
    }
}

/// Waits until everybody has heard everybody's present incarnation, with an ear to those from and to
/// `only`; says how long after `since` that was.
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
                    return Err(Failure::stuck(format!("{to} never hears {from} again")));
                }
                pause(MS);
            }
        }
    }
    Ok(latest - since)
}

/// One of the three: sends to the others at its pace, keeps what it gets, looks at its counters.
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
        let transport = bind(config, addrs[index as usize]).await?;
        let tally = Tally::default();
        let keeper = tally.keeper(|sender, incarnation| {
            let _ = say(format!("heard {sender} {incarnation}"));
        });
        transport.catch_all(Some(keeper));
        transport.subscribe(Teller.start().recipient());
        say("listening")?;
        let (tell, mut told) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut pace = tokio::time::interval(MS);
        let began = Instant::now();
        let (mut sequence, mut quiet) = (0, false);
        loop {
            tokio::select! {
                line = told.recv() => match line.as_deref() {
                    Some("report") => say(format!("report {}", tally.line()))?,
                    Some("quiet") => {
                        quiet = true;
                        say("quiet")?;
                    }
                    Some("end") => break,
                    // The row is gone.
                    _ => return Ok(()),
                },
                _ = pace.tick() => {
                    if let Err(imbalance) = transport.stats().balance() {
                        say(format!("wrong {imbalance}"))?;
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
                say(format!("end {accepted} {written}"))
            }
            Err(imbalance) => say(format!("end {imbalance}")),
        }
    })
}

/// Tells the row what the transport tells.
struct Teller;

impl Actor for Teller {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Teller {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let _ = match event {
            PeerEvent::Up { peer, .. } => say(format!("event up {peer}")),
            PeerEvent::Down { peer, reason, .. } => say(format!("event down {peer} {reason:?}")),
            PeerEvent::Unreachable { peer, error, .. } => say(format!("event no {peer} {error:?}")),
            _ => Ok(()),
        };
    }
}

/// Binds the port of the one before, which may take the kernel a moment to let go.
async fn bind(config: Config, addr: SocketAddr) -> Result<Transport, Failure> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match Transport::builder().config(config.clone()).bind(addr) {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(5 * MS).await,
            bound => return Ok(bound?),
        }
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
            // A peer that is away has a full queue at times: that is counted, and no fault.
            let _ = transport.try_send(*addr, GroupId::new(group), stamp.payload(len));
        }
    }
}
