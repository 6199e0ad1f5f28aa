//! The processes, and what happens to them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::verdict::Verdict;
use crate::{
    fixed_port::FixedPort,
    named_child::{LONG, NamedChild, Report},
    named_node::Args,
    numbered_log::Faults,
    row::Failure,
    world::pause,
};

const MS: Duration = Duration::from_millis(1);
const MEMBERS: usize = 3;
/// The number that two processes claim.
const TWIN: u32 = 4;
/// Frames from each to each in a millisecond, at most.
const PACE: u64 = 20;

/// A life of a node: its number and incarnation.
pub(super) type LifeId = (u32, u32);

/// All processes.
pub(super) struct Cluster {
    pub(super) members: Vec<NamedChild>,
    /// Where each member belongs: all are told so.
    ports: Vec<FixedPort>,
    /// The ports of the twins.
    twin_ports: [FixedPort; 2],
    incarnations: Vec<u32>,
    seed: u64,
    /// By the receiver's number and the sender's life, the number behind the last frame that a killed
    /// process of the receiver is known to have got.
    pub(super) got_before: BTreeMap<(u32, LifeId), u64>,
    /// By the life of a killed sender and the receiver's number, the most that it may have accepted.
    pub(super) limits: BTreeMap<(LifeId, u32), u64>,
    /// What processes found that are gone.
    pub(super) faults: Faults,
    /// Refusals that dialling nodes told, by their reason.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Cluster {
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let ports: Result<Vec<_>, _> = (0..MEMBERS).map(|_| FixedPort::reserve()).collect();
        let mut cluster = Cluster {
            members: Vec::new(),
            ports: ports?,
            twin_ports: [FixedPort::reserve()?, FixedPort::reserve()?],
            incarnations: vec![0; MEMBERS],
            seed,
            got_before: BTreeMap::new(),
            limits: BTreeMap::new(),
            faults: Faults::default(),
            refused: BTreeMap::new(),
        };
        for index in 0..MEMBERS {
            let member = cluster.next_life(index, cluster.ports[index].addr)?;
            cluster.members.push(member);
        }
        for member in &mut cluster.members {
            member.tell("load")?;
        }
        (0..MEMBERS).try_for_each(|index| cluster.all_hear(index))?;
        Ok(cluster)
    }

    /// Starts the next life of a member at this address. It does not send yet.
    fn next_life(&mut self, index: usize, addr: SocketAddr) -> Result<NamedChild, Failure> {
        self.incarnations[index] += 1;
        let others = (0..MEMBERS).filter(|&other| other != index);
        NamedChild::start(Args {
            node: index as u32 + 1,
            incarnation: self.incarnations[index],
            addr,
            seed: self.seed ^ (index as u64) << 40,
            pace: PACE,
            peers: others
                .map(|other| (other as u32 + 1, self.ports[other].addr))
                .collect(),
        })
    }

    // ---- what happens ------------------------------------------------------------------------------

    /// A member is killed, and comes back after some time.
    pub(super) fn restart(&mut self, index: usize, absence: Duration) -> Result<(), Failure> {
        self.kill(index)?;
        pause(absence);
        self.members[index] = self.next_life(index, self.ports[index].addr)?;
        self.members[index].tell("load")?;
        self.all_hear(index)
    }

    /// A member is stopped. Its next life starts elsewhere and introduces itself, and then the stopped one
    /// goes on.
    pub(super) fn zombie(
        &mut self,
        index: usize,
        time: Duration,
        verdict: &mut Verdict,
    ) -> Result<(), Failure> {
        self.members[index].child.stop()?;
        pause(time);
        let successor = self.next_life(index, ([127, 0, 0, 1], 0).into())?;
        let mut zombie = std::mem::replace(&mut self.members[index], successor);
        self.members[index].tell("load")?;
        self.all_hear(index)?;
        zombie.look()?;
        let refusals = zombie.refused.len();
        zombie.child.resume()?;
        until("the zombie is refused by both", || {
            zombie.look()?;
            let new = zombie.refused[refusals..].iter();
            let refused = |by: usize| {
                let by = format!("refused {} OlderIncarnation", self.ports[by].addr);
                new.clone().any(|line| *line == by)
            };
            Ok((0..MEMBERS).all(|by| by == index || refused(by)))
        })?;
        let before = zombie.report()?;
        pause(time);
        zombie.tell("quiet")?;
        let report = zombie.report()?;
        verdict.zombie(&before, &report);
        self.bury(&mut zombie, &report)?;
        // Home again.
        self.restart(index, Duration::ZERO)
    }

    /// Two members come back at each other's address, and later at their own. The third dials both addresses
    /// and refuses who answers there. It still reaches them, on the connections that they make.
    pub(super) fn swap(&mut self, one: usize, two: usize, time: Duration) -> Result<(), Failure> {
        let third = (0..MEMBERS).find(|&index| index != one && index != two);
        let third = third.expect("three members");
        self.kill(one)?;
        self.kill(two)?;
        let before = self.members[third].refused.len();
        self.members[one] = self.next_life(one, self.ports[two].addr)?;
        self.members[two] = self.next_life(two, self.ports[one].addr)?;
        let addrs = [one, two].map(|index| self.ports[index].addr);
        until("the third refuses both", || {
            let third = &mut self.members[third];
            third.look()?;
            let new = &third.refused[before..];
            Ok(addrs
                .iter()
                .all(|addr| new.contains(&format!("refused {addr} Node"))))
        })?;
        self.use_swapped([one, two], third)?;
        pause(time);
        self.kill(one)?;
        self.kill(two)?;
        for index in [one, two] {
            self.members[index] = self.next_life(index, self.ports[index].addr)?;
            self.members[index].tell("load")?;
        }
        self.all_hear(one)?;
        self.all_hear(two)
    }

    /// Members at each other's address talk to the third, and find themselves at the other's address.
    fn use_swapped(&mut self, swapped: [usize; 2], third: usize) -> Result<(), Failure> {
        for index in swapped {
            self.members[index].tell("load")?;
        }
        for index in swapped {
            self.hear_each_other(index, third)?;
            until("it finds itself at the other's address", || {
                self.members[index].look()?;
                Ok(!self.members[index].refused.is_empty())
            })?;
        }
        Ok(())
    }

    /// Two processes claim the same number. They send to a member, and to each other's address.
    pub(super) fn twins(&mut self, round: u32, to: usize, time: Duration) -> Result<(), Failure> {
        let mut twins = Vec::new();
        for index in 0..2 {
            let other = self.twin_ports[1 - index].addr;
            twins.push(NamedChild::start(Args {
                node: TWIN,
                incarnation: 2 * round + index as u32 + 1,
                addr: self.twin_ports[index].addr,
                seed: self.seed,
                pace: PACE,
                peers: vec![(to as u32 + 1, self.ports[to].addr), (0, other)],
            })?);
        }
        for twin in &mut twins {
            twin.tell("load")?;
        }
        for (twin, reason) in twins.iter_mut().zip(["OlderIncarnation", "SameNode"]) {
            until("both twins report the other", || {
                twin.look()?;
                Ok(twin.refused.iter().any(|line| line.ends_with(reason))
                    && twin.report()?.refusals > 0)
            })?;
        }
        let later = twins[1].life();
        until("the later twin is heard", || {
            self.members[to].has_heard(later)
        })?;
        pause(time);
        for mut twin in twins {
            twin.tell("quiet")?;
            let report = twin.report()?;
            self.bury(&mut twin, &report)?;
        }
        Ok(())
    }

    // ---- parts of that -----------------------------------------------------------------------------

    fn kill(&mut self, index: usize) -> Result<(), Failure> {
        let report = self.members[index].report()?;
        let gone = Gone::kill(&mut self.members[index], &report)?;
        self.note(gone);
        Ok(())
    }

    fn bury(&mut self, node: &mut NamedChild, report: &Report) -> Result<(), Failure> {
        let gone = Gone::kill(node, report)?;
        self.note(gone);
        Ok(())
    }

    fn note(&mut self, gone: Gone) {
        for (key, behind) in gone.got {
            let before = self.got_before.entry(key).or_default();
            *before = behind.max(*before);
        }
        self.limits.extend(gone.limits);
        self.faults.add(gone.faults);
        for reason in gone.refused {
            *self.refused.entry(reason).or_default() += 1;
        }
    }

    /// Waits until a member and all others hear each other.
    fn all_hear(&mut self, index: usize) -> Result<(), Failure> {
        (0..MEMBERS)
            .filter(|&other| other != index)
            .try_for_each(|other| self.hear_each_other(index, other))
    }

    fn hear_each_other(&mut self, one: usize, two: usize) -> Result<(), Failure> {
        for (from, to) in [(one, two), (two, one)] {
            let life = self.members[from].life();
            let what = format!("{:?} hears {life:?}", self.members[to].life());
            until(&what, || self.members[to].has_heard(life))?;
        }
        Ok(())
    }

    /// Has all members do something.
    pub(super) fn tell_all(&mut self, what: &str) -> Result<(), Failure> {
        self.members
            .iter_mut()
            .try_for_each(|member| member.tell(what))
    }

    /// Returns the faults that all processes have found so far.
    pub(super) fn found(&mut self) -> Result<Faults, Failure> {
        let mut found = self.faults;
        for member in &mut self.members {
            found.add(member.report()?.log.faults);
        }
        Ok(found)
    }

    /// Ends all processes in an orderly way.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.members.iter_mut().try_for_each(NamedChild::end)
    }
}

/// What is known of a process that was killed.
struct Gone {
    got: Vec<((u32, LifeId), u64)>,
    limits: Vec<((LifeId, u32), u64)>,
    faults: Faults,
    refused: Vec<String>,
}

impl Gone {
    /// Kills a process that has just reported.
    fn kill(node: &mut NamedChild, report: &Report) -> Result<Self, Failure> {
        node.child.kill()?;
        node.look()?;
        let (me, life) = (node.args.node, node.life());
        let lives = report.log.lives.iter().filter(|(_, seen)| seen.frames > 0);
        Ok(Gone {
            got: lives.map(|(of, seen)| ((me, *of), seen.last + 1)).collect(),
            limits: node
                .limits
                .iter()
                .map(|(to, limit)| ((life, *to), *limit))
                .collect(),
            faults: report.log.faults,
            refused: node.refused.drain(..).map(|line| reason(&line)).collect(),
        })
    }
}

/// Returns the reason in a `refused` line.
pub(super) fn reason(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().into()
}

/// Waits until `fact` holds.
pub(super) fn until(
    what: &str,
    mut fact: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + LONG;
    while !fact()? {
        if Instant::now() > deadline {
            return Err(Failure::error(format!("not within {LONG:?}: {what}")));
        }
        pause(2 * MS);
    }
    Ok(())
}
