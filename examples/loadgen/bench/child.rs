//! Starts the two processes of a run and collects their figures.

use std::{
    env::current_exe,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::available_parallelism,
};

use super::{
    figures::Figures,
    keys,
    side::Contestant,
    started::{ANNOUNCEMENT, Side},
    work::{Task, Work, value_name},
};
use crate::{Failure, node::Where};

/// Runs one contestant once.
pub(super) fn run(contestant: Contestant, work: &Work, pin: &Pin) -> Result<Figures, Failure> {
    let start = |side, to: &str| Process::start(contestant, side, work, to, pin);
    let mut receiver = start(Side::Receive, "")?;
    let to = receiver.announcement()?;
    let sent = start(Side::Send, &to)?.figures()?;
    let received = receiver.figures()?;
    Ok(Figures::of_run(work.frames, &sent, &received))
}

/// Decides which core each process of a round trip runs on, if they are to be pinned.
pub(super) struct Pin {
    cores: Option<usize>,
}

impl Pin {
    pub(super) fn new(wanted: bool) -> Self {
        let present = || {
            let taskset = Command::new("taskset")
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            taskset.is_ok_and(|status| status.success())
        };
        let cores = (wanted && present()).then(|| available_parallelism().map_or(1, usize::from));
        Pin { cores }
    }

    pub(super) fn is_possible(&self) -> bool {
        self.cores.is_some()
    }

    /// Returns the core for one side, or `None` if it is not pinned.
    fn core(&self, side: Side, work: &Work) -> Option<usize> {
        let cores = self
            .cores
            .filter(|_| matches!(work.task, Task::RoundTrip | Task::OneWayRoundTrip))?;
        Some(match (work.placement, side) {
            (Where::Dedicated | Where::Shared, Side::Receive) => 1 % cores,
            _ => 0,
        })
    }
}

/// A started process. `Drop` kills it if it has not ended.
struct Process {
    child: Child,
    /// Never written to. When this process ends, it closes, and the child ends, too.
    _stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(
        contestant: Contestant,
        side: Side,
        work: &Work,
        to: &str,
        pin: &Pin,
    ) -> Result<Self, Failure> {
        let this = current_exe()?;
        let mut command = match pin.core(side, work) {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core.to_string()]).arg(this);
                command
            }
            None => Command::new(this),
        };
        command
            .arg("bench-side")
            .args([value_name(&contestant), value_name(&side)])
            .args(work.to_args())
            .envs(keys::variables());
        if !to.is_empty() {
            command.args(["--to", to]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(Process {
            _stdin: child.stdin.take(),
            lines: BufReader::new(stdout).lines(),
            child,
        })
    }

    /// Waits for the line with the child's addresses.
    fn announcement(&mut self) -> Result<String, Failure> {
        let line = self.line()?;
        let addrs = line.strip_prefix(ANNOUNCEMENT);
        Ok(addrs
            .ok_or("a process did not print where it listens")?
            .to_string())
    }

    /// Waits for the line with the child's figures, and for its end.
    fn figures(mut self) -> Result<Figures, Failure> {
        let figures = self.line()?.parse()?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("a process ended with {status}").into());
        }
        Ok(figures)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let line = self.lines.next();
        Ok(line.ok_or("a process ended too early")??)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If all went well, it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
