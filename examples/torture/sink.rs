//! A node in a process of its own, which keeps what it gets and tells when it is asked: something
//! that can be stopped, paused or cut off for real.
//!
//! ```text
//! row says   sink says
//!            where it listens, when it does
//! tally      a line with what came, and the kernel's count of datagrams it had no room for
//! ```

use std::{
    fs,
    io::{self, BufRead, Write},
    net::SocketAddr,
};

use actix_transport::{Config, Transport};

use crate::{
    eye::Eye,
    row::Failure,
    tally::Tally,
    world::{self, Child, ONE_EACH, Role},
};

pub(crate) const ROLE: Role = Role { name: "sink", run };

/// The row's end of such a process.
pub(crate) struct Sink {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
}

impl Sink {
    /// Starts one by way of another program, or of none, and waits until it listens.
    pub(crate) fn start(by: &[&str], listen: &str) -> Result<Self, Failure> {
        let mut child = Child::start_with(by, ROLE.name, &[listen.into()])?;
        let addr = child.parse()?;
        Ok(Sink { child, addr })
    }

    /// What has come, and how many datagrams the kernel had no room for.
    pub(crate) fn tally(&mut self) -> Result<(Tally, u64), Failure> {
        self.child.tell("tally")?;
        let tally = Tally::parse(&self.child.line()?)?;
        Ok((tally, self.child.parse()?))
    }
}

fn run(args: &[String]) -> Result<(), Failure> {
    let [listen] = args else {
        return Err(Failure::stuck("a sink is told where to listen"));
    };
    world::system(async {
        let config = Config::default().placement(ONE_EACH);
        let transport = Transport::builder().config(config).bind(listen.as_str())?;
        let tally = Tally::default();
        let eye = Eye::on([&transport]);
        transport.catch_all(Some(tally.keeper(|_, _| {})));
        say(transport.local_addr())?;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        // Ends when the row does.
        while told.recv().await.is_some() {
            eye.holds()?;
            say(tally.line())?;
            say(no_room()?)?;
        }
        Ok(())
    })
}

pub(crate) fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Datagrams that this process' network namespace had no room for.
fn no_room() -> Result<u64, Failure> {
    let snmp = fs::read_to_string("/proc/self/net/snmp")?;
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let errors = fields.find(|(name, _)| *name == "RcvbufErrors");
    let errors = errors.and_then(|(_, value)| value.parse().ok());
    errors.ok_or_else(|| Failure::stuck("no count of datagrams without room"))
}
