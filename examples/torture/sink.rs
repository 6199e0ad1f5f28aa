//! A node in a child process, which records what it receives. The row can stop it, pause it or cut
//! it off as a whole process.
//!
//! ```text
//! row writes   sink writes
//!              its address, once it listens
//! log          one line with its receive log, and one with the kernel's count of datagrams for
//!              which there was no room
//! ```

use std::{
    fs,
    io::{self, BufRead, Write},
    net::SocketAddr,
};

use actix_transport::{Config, Transport};

use crate::{
    balance_watch::BalanceWatch,
    receive_log::ReceiveLog,
    row::Failure,
    world::{self, Child, ONE_EACH, Role},
};

pub(crate) const ROLE: Role = Role { name: "sink", run };

/// The row's handle to such a process.
pub(crate) struct Sink {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
}

impl Sink {
    /// Starts a sink, through another program if `prefix` names one, and waits until it listens.
    pub(crate) fn start(prefix: &[&str], listen: &str) -> Result<Self, Failure> {
        let mut child = Child::start_with(prefix, ROLE.name, &[listen.into()])?;
        let addr = child.parse()?;
        Ok(Sink { child, addr })
    }

    /// Returns the sink's receive log, and the kernel's count of datagrams without room.
    pub(crate) fn receive_log(&mut self) -> Result<(ReceiveLog, u64), Failure> {
        self.child.send_line("log")?;
        let log = ReceiveLog::parse(&self.child.line()?)?;
        Ok((log, self.child.parse()?))
    }
}

fn run(args: &[String]) -> Result<(), Failure> {
    let [listen] = args else {
        return Err(Failure::error("a sink needs the address to listen on"));
    };
    world::system(async {
        let config = Config::default().placement(ONE_EACH);
        let transport = Transport::builder().config(config).bind(listen.as_str())?;
        let log = ReceiveLog::default();
        let snapshots = BalanceWatch::start([&transport]);
        transport.catch_all(Some(log.recorder(|_, _| {})));
        print_line(transport.local_addr())?;
        let (lines_tx, mut lines) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let _ = lines_tx.send(line);
            }
        });
        // Ends when the row closes standard input.
        while lines.recv().await.is_some() {
            snapshots.check()?;
            print_line(log.to_line())?;
            print_line(no_room()?)?;
        }
        Ok(())
    })
}

pub(crate) fn print_line(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns how many datagrams were dropped in this network namespace because a buffer was full.
fn no_room() -> Result<u64, Failure> {
    let snmp = fs::read_to_string("/proc/self/net/snmp")?;
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let errors = fields.find(|(name, _)| *name == "RcvbufErrors");
    let errors = errors.and_then(|(_, value)| value.parse().ok());
    errors.ok_or_else(|| Failure::error("the kernel does not count datagrams without room"))
}
