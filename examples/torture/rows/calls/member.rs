//! [`Member`]: a node, one process after the other.

use std::{net::SocketAddr, time::Duration};

use super::{
    account::Account,
    journal::Journal,
    journal_line::JournalLine,
    message::Life,
    node::{Args, ROLE},
};
use crate::{
    fixed_port::FixedPort,
    row::Failure,
    world::{Child, pause},
};

pub(super) struct Member {
    args: Args,
    child: Child,
    /// Keeps the port between two processes.
    _port: FixedPort,
}

impl Member {
    /// Starts the first process of a node, which reaches the other node at `to`.
    pub(super) fn start(
        node: u8,
        port: FixedPort,
        to: SocketAddr,
        seed: u64,
        journal: &mut Journal,
    ) -> Result<Self, Failure> {
        let incarnation = 1;
        let args = Args {
            life: Life { node, incarnation },
            addr: port.addr,
            to,
            seed,
        };
        let child = Child::start(ROLE.name, &args.to_words())?;
        let mut member = Member {
            args,
            child,
            _port: port,
        };
        member.answer("listening", journal)?;
        Ok(member)
    }

    pub(super) fn life(&self) -> Life {
        self.args.life
    }

    /// Kills the process.
    pub(super) fn kill(&mut self, journal: &mut Journal) -> Result<(), Failure> {
        self.child.kill()?;
        while let Ok(line) = self.child.line() {
            journal.note(self.args.life, line.parse()?);
        }
        journal.life_ends(self.args.life, true);
        Ok(())
    }

    /// Starts the next process, after the former one has ended.
    pub(super) fn start_again(&mut self, journal: &mut Journal) -> Result<(), Failure> {
        self.args.life.incarnation += 1;
        self.child = Child::start(ROLE.name, &self.args.to_words())?;
        self.answer("listening", journal)?;
        Ok(())
    }

    /// Stops the process for a while, and waits until it knows: otherwise it might be killed before it says so.
    pub(super) fn pause(&mut self, time: Duration, journal: &mut Journal) -> Result<(), Failure> {
        self.child.stop()?;
        pause(time);
        self.child.resume()?;
        loop {
            let line = self.child.line()?.parse()?;
            journal.note(self.args.life, line);
            if matches!(line, JournalLine::Stall(length, _) if length > time / 2) {
                return Ok(());
            }
        }
    }

    /// Tells the process to do something.
    pub(super) fn tell(&mut self, what: &str) -> Result<(), Failure> {
        self.child.send_line(what)
    }

    /// Has the process do something, and waits until it is done.
    pub(super) fn ask(&mut self, what: &str, journal: &mut Journal) -> Result<(), Failure> {
        self.tell(what)?;
        self.answer(what, journal)?;
        Ok(())
    }

    /// Returns what the process has counted, and what it has written before.
    pub(super) fn account(&mut self, journal: &mut Journal) -> Result<Account, Failure> {
        self.tell("stats")?;
        let json = self.answer("stats ", journal)?;
        Account::parse(&json, journal.tally(self.args.life))
    }

    /// Notes what the process has written so far.
    pub(super) fn read(&mut self, journal: &mut Journal) -> Result<(), Failure> {
        while let Some((_, line)) = self.child.try_line() {
            journal.note(self.args.life, line.parse()?);
        }
        Ok(())
    }

    /// Ends the process in an orderly way.
    pub(super) fn stop(&mut self, journal: &mut Journal) -> Result<(), Failure> {
        self.ask("stop", journal)?;
        journal.life_ends(self.args.life, false);
        Ok(())
    }

    /// Waits for an answer, and returns what comes behind this beginning of it.
    fn answer(&mut self, beginning: &str, journal: &mut Journal) -> Result<String, Failure> {
        loop {
            let line = self.child.line()?;
            match line.strip_prefix(beginning) {
                Some(answer) => return Ok(answer.into()),
                None => journal.note(self.args.life, line.parse()?),
            }
        }
    }
}
