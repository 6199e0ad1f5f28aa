//! The other node, the proxy between, and the faults.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    callers::Callers,
    outcomes::{Served, ServedCounts},
    server::ROLE,
};
use crate::{
    fixed_port::FixedPort,
    proxy::{CUTS, Cut, Plan, Proxy, Sockets},
    row::Failure,
    world::{Child, ProxyRuntime, pause},
};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// The other node and the way to it.
pub(super) struct Ends {
    port: FixedPort,
    server: Child,
    incarnation: u64,
    proxy: Proxy,
    runtime: ProxyRuntime,
    /// Whether the proxy leaves new connections alone.
    calm: Arc<AtomicBool>,
    served: Served,
}

#[derive(Debug, Copy, Clone)]
enum Fault {
    Cut,
    BlackHole,
    Refuse,
    Pause,
    Kill,
}

impl Ends {
    pub(super) fn start(seed: u64) -> Result<Self, Failure> {
        let (port, runtime) = (FixedPort::reserve()?, ProxyRuntime::start()?);
        let calm = Arc::new(AtomicBool::new(false));
        let is_calm = calm.clone();
        let plan = move |number: u64| match is_calm.load(Relaxed) {
            true => Plan::default(),
            false => plan(seed, number),
        };
        let proxy = Proxy::start(&runtime.runtime, 1, port.addr, Sockets::default(), plan)?;
        let mut served = Served::default();
        let server = start_server(&port, 1, &mut served)?;
        Ok(Ends {
            port,
            server,
            incarnation: 1,
            proxy,
            runtime,
            calm,
            served,
        })
    }

    /// Where the callers dial.
    pub(super) fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    pub(super) fn kills(&self) -> u64 {
        self.incarnation - 1
    }

    /// Makes each fault some times, in any order.
    pub(super) fn torture(&mut self, draw: &mut fastrand::Rng) -> Result<(), Failure> {
        use Fault::*;
        let mut faults = vec![
            Cut, Cut, Cut, Cut, BlackHole, BlackHole, Refuse, Pause, Pause, Kill, Kill,
        ];
        draw.shuffle(&mut faults);
        for fault in faults {
            pause(MS * draw.u32(20..300));
            self.make(fault, draw)?;
            self.read_lines();
        }
        Ok(())
    }

    fn make(&mut self, fault: Fault, draw: &mut fastrand::Rng) -> Result<(), Failure> {
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        let time = MS * draw.u32(20..400);
        match fault {
            Fault::Cut => self.proxy.cut(ending, side),
            Fault::BlackHole => {
                self.proxy.set_black_hole(true);
                pause(time);
                if draw.bool() {
                    self.proxy.cut(ending, side);
                }
                self.proxy.set_black_hole(false);
            }
            Fault::Refuse => {
                let runtime = self.runtime.runtime.clone();
                runtime.block_on(self.proxy.set_refusing(true))?;
                self.proxy.cut(ending, side);
                pause(time);
                runtime.block_on(self.proxy.set_refusing(false))?;
            }
            Fault::Pause => {
                self.server.stop()?;
                pause(time);
                self.server.resume()?;
            }
            Fault::Kill => self.replace_server(time / 4)?,
        }
        Ok(())
    }

    /// Lets no more connections be cut.
    pub(super) fn set_calm(&self) {
        self.calm.store(true, Relaxed);
        let (ending, side) = CUTS[0];
        self.proxy.cut(ending, side);
    }

    /// Kills the other node, and starts it again after a while.
    pub(super) fn replace_server(&mut self, after: Duration) -> Result<(), Failure> {
        self.server.kill()?;
        while let Ok(line) = self.server.line() {
            self.served.note(&line)?;
        }
        pause(after);
        self.served.life_ends();
        self.incarnation += 1;
        self.server = start_server(&self.port, self.incarnation, &mut self.served)?;
        Ok(())
    }

    fn read_lines(&mut self) {
        while let Some((_, line)) = self.server.try_line() {
            // What is no line about a call is not awaited here.
            let _ = self.served.note(&line);
        }
    }

    /// Returns the counters of the other node.
    pub(super) fn stats(&mut self) -> Result<ServedCounts, Failure> {
        self.server.send_line("stats")?;
        loop {
            let line = self.server.line()?;
            match line.strip_prefix("stats ") {
                Some(json) => {
                    let json: Value = serde_json::from_str(json)?;
                    return Ok(ServedCounts::parse(&json));
                }
                None => self.served.note(&line)?,
            }
        }
    }

    /// Waits until neither node has a call left.
    pub(super) fn all_ended(&mut self, callers: &Callers) -> Result<(), Failure> {
        let deadline = Instant::now() + LONG;
        while callers.stats().pending > 0 || self.stats()?.serving > 0 {
            if Instant::now() > deadline {
                return Err(Failure::error("calls are left in the end"));
            }
            pause(MS);
        }
        // Answers to calls that were given up may be on their way. Those to these calls come behind them.
        callers.one_on_each_lane()
    }

    /// Ends the other node in an orderly way. Returns what all of its lives have served.
    pub(super) fn end(&mut self) -> Result<Served, Failure> {
        self.server.send_line("end")?;
        loop {
            match &self.server.line()?[..] {
                "end" => break,
                line => self.served.note(line)?,
            }
        }
        self.served.life_ends();
        Ok(std::mem::take(&mut self.served))
    }
}

fn start_server(port: &FixedPort, incarnation: u64, served: &mut Served) -> Result<Child, Failure> {
    let args = [port.addr.to_string(), incarnation.to_string()];
    let mut server = Child::start(ROLE.name, &args)?;
    loop {
        match &server.line()?[..] {
            "listening" => return Ok(server),
            line => served.note(line)?,
        }
    }
}

/// Every third connection is cut after some bytes.
fn plan(seed: u64, number: u64) -> Plan {
    let mut draw = fastrand::Rng::with_seed(seed ^ number << 20);
    let (ending, side) = CUTS[draw.usize(..CUTS.len())];
    let cut = Cut {
        after: draw.u64(..200_000),
        ending,
        side,
    };
    Plan {
        cut: (draw.u8(..3) == 0).then_some(cut),
        ..Plan::default()
    }
}
