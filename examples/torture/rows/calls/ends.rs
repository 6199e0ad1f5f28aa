//! [`Ends`]: both nodes, the proxies between them, and the faults.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{account::Account, journal::Journal, member::Member, message::Life};
use crate::{
    fixed_port::FixedPort,
    proxy::{self, CUTS, Ending, Plan, Proxy, Side, Sockets},
    row::Failure,
    world::{ProxyRuntime, pause},
};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

pub(super) struct Ends {
    members: [Member; 2],
    /// In front of each node. A connection that one of them dials may carry the calls of both.
    proxies: [Proxy; 2],
    runtime: ProxyRuntime,
    /// Whether the proxies leave new connections alone.
    calm: Arc<AtomicBool>,
    pub(super) journal: Journal,
    pub(super) kills: [u64; 2],
}

#[derive(Debug, Copy, Clone)]
pub(super) enum Fault {
    Cut,
    BlackHole,
    Refuse,
    Pause,
    /// A process stops in an orderly way, and another one starts.
    Stop,
    Kill,
    KillAgain,
    KillBoth,
}

use Fault::*;

/// Faults that both processes outlive.
pub(super) const ON_THE_WAY: &[Fault] = &[
    Cut, Cut, Cut, Cut, BlackHole, BlackHole, Refuse, Pause, Pause,
];
pub(super) const ALL: &[Fault] = &[
    Cut, Cut, Cut, Cut, BlackHole, BlackHole, Refuse, Pause, Pause, Stop, Kill, KillAgain, KillBoth,
];

impl Ends {
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let runtime = ProxyRuntime::start()?;
        let calm = Arc::new(AtomicBool::new(false));
        let ports = [FixedPort::reserve()?, FixedPort::reserve()?];
        let proxy = |id: u8, target: SocketAddr| {
            let (calm, seed) = (calm.clone(), seed ^ u64::from(id) << 40);
            let plan = move |number: u64| match calm.load(Relaxed) {
                true => Plan::default(),
                false => plan(seed, number),
            };
            Proxy::start(&runtime.runtime, id, target, Sockets::default(), plan)
        };
        let proxies = [proxy(1, ports[0].addr)?, proxy(2, ports[1].addr)?];
        let (mut journal, [one, two]) = (Journal::default(), ports);
        let members = [
            Member::start(1, one, proxies[1].addr(), seed, &mut journal)?,
            Member::start(2, two, proxies[0].addr(), seed, &mut journal)?,
        ];
        Ok(Ends {
            members,
            proxies,
            runtime,
            calm,
            journal,
            kills: [0; 2],
        })
    }

    /// Returns the processes that run.
    pub(super) fn lives(&self) -> [Life; 2] {
        self.members.each_ref().map(Member::life)
    }

    // ---- load --------------------------------------------------------------------------------------

    /// Tells both nodes to do something that they do not answer.
    pub(super) fn tell(&mut self, what: &str) -> Result<(), Failure> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.tell(what))
    }

    /// Waits until both nodes have made so many more calls.
    pub(super) fn wait_for_calls(&mut self, calls: u64) -> Result<(), Failure> {
        let lives = self.lives();
        self.read()?;
        let called = |journal: &Journal| lives.map(|life| journal.tally(life).called);
        let before = called(&self.journal);
        self.until("both nodes call", |ends| {
            ends.read()?;
            let now = called(&ends.journal);
            Ok((0..2).all(|index| now[index] >= before[index] + calls))
        })
    }

    /// Lets no more calls begin, waits until all have ended, and what was on its way has come. Returns what both nodes
    /// have counted. There must be no faults.
    pub(super) fn quiet(&mut self) -> Result<[Account; 2], Failure> {
        self.ask("quiet")?;
        // A call that was given up may be served until its deadline.
        self.until("no calls are left", |ends| {
            Ok(ends.accounts()?.iter().all(Account::is_quiet))
        })?;
        // What is on its way may be calls that a node reads only now, and serves.
        self.ask("flush")?;
        self.until("no calls are left", |ends| {
            Ok(ends.accounts()?.iter().all(Account::is_quiet))
        })?;
        self.accounts()
    }

    fn ask(&mut self, what: &str) -> Result<(), Failure> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.ask(what, &mut self.journal))
    }

    fn accounts(&mut self) -> Result<[Account; 2], Failure> {
        let [one, two] = &mut self.members;
        Ok([
            one.account(&mut self.journal)?,
            two.account(&mut self.journal)?,
        ])
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.read(&mut self.journal))
    }

    fn until(
        &mut self,
        what: &str,
        mut fact: impl FnMut(&mut Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + LONG;
        while !fact(self)? {
            if Instant::now() > deadline {
                return Err(Failure::error(format!("did not happen: {what}")));
            }
            pause(MS);
        }
        Ok(())
    }

    // ---- faults ------------------------------------------------------------------------------------

    /// Makes each of these faults, in any order.
    pub(super) fn torture(
        &mut self,
        faults: &[Fault],
        draw: &mut fastrand::Rng,
    ) -> Result<(), Failure> {
        let mut faults = faults.to_vec();
        draw.shuffle(&mut faults);
        for fault in faults {
            pause(MS * draw.u32(20..200));
            self.make(fault, draw)?;
            self.read()?;
        }
        Ok(())
    }

    fn make(&mut self, fault: Fault, draw: &mut fastrand::Rng) -> Result<(), Failure> {
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        let time = MS * draw.u32(20..400);
        // In front of one node, or of both.
        let proxies = match draw.usize(..3) {
            2 => 0..2,
            index => index..index + 1,
        };
        let (index, also) = (draw.usize(..2), draw.bool());
        match fault {
            Cut => self.cut(proxies, ending, side),
            BlackHole => {
                self.set_black_hole(proxies.clone(), true);
                pause(time);
                if also {
                    self.cut(proxies.clone(), ending, side);
                }
                self.set_black_hole(proxies, false);
            }
            Refuse => {
                self.set_refusing(proxies.clone(), true)?;
                self.cut(proxies.clone(), ending, side);
                pause(time);
                self.set_refusing(proxies, false)?;
            }
            Pause => self.members[index].pause(time, &mut self.journal)?,
            Stop => {
                self.members[index].stop(&mut self.journal)?;
                self.start_again(index)?;
            }
            Kill => {
                // What is held back of the former process comes when the next one is there.
                self.set_black_hole(proxies.clone(), also);
                self.replace(&[index], time / 4)?;
                self.set_black_hole(proxies, false);
            }
            KillAgain => {
                self.replace(&[index], Duration::ZERO)?;
                // The calls of this life and of the next have close numbers, if numbers begin alike. The handlers of
                // some of this one answer in the time of the next.
                pause(time / 4);
                self.replace(&[index], Duration::ZERO)?;
            }
            KillBoth => self.replace(&[index, 1 - index], time / 4)?,
        }
        Ok(())
    }

    fn cut(&self, proxies: Range<usize>, ending: Ending, side: Side) {
        let proxies = self.proxies[proxies].iter();
        proxies.for_each(|proxy| proxy.cut(ending, side));
    }

    fn set_black_hole(&self, proxies: Range<usize>, on: bool) {
        let proxies = self.proxies[proxies].iter();
        proxies.for_each(|proxy| proxy.set_black_hole(on));
    }

    fn set_refusing(&self, proxies: Range<usize>, on: bool) -> Result<(), Failure> {
        let runtime = &self.runtime.runtime;
        for proxy in &self.proxies[proxies] {
            runtime.block_on(proxy.set_refusing(on))?;
        }
        Ok(())
    }

    /// Kills these nodes, and starts them again after a while. They call as the others do.
    fn replace(&mut self, indices: &[usize], after: Duration) -> Result<(), Failure> {
        for &index in indices {
            self.members[index].kill(&mut self.journal)?;
            self.kills[index] += 1;
        }
        pause(after);
        for &index in indices {
            self.start_again(index)?;
        }
        Ok(())
    }

    fn start_again(&mut self, index: usize) -> Result<(), Failure> {
        self.members[index].start_again(&mut self.journal)?;
        self.members[index].tell("call")
    }

    /// Kills both nodes once more, and starts them again.
    pub(super) fn replace_both(&mut self) -> Result<(), Failure> {
        self.replace(&[0, 1], Duration::ZERO)
    }

    /// Sets whether the proxies leave connections alone. If so, those that they were to cut later are cut now.
    pub(super) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Relaxed);
        let (ending, side) = CUTS[0];
        self.cut(0..2, ending, side);
    }

    /// Ends both nodes in an orderly way.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.stop(&mut self.journal))
    }
}

/// Every third connection is cut after some bytes.
fn plan(seed: u64, number: u64) -> Plan {
    let mut draw = fastrand::Rng::with_seed(seed ^ number << 20);
    let (ending, side) = CUTS[draw.usize(..CUTS.len())];
    let cut = proxy::Cut {
        after: draw.u64(..200_000),
        ending,
        side,
    };
    Plan {
        cut: (draw.u8(..3) == 0).then_some(cut),
        ..Plan::default()
    }
}
