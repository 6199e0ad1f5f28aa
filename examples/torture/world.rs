//! Nodes, events, child processes, and what a process costs.
//!
//! A row that needs to stop or kill a whole process starts this program again in one of the
//! [`Role`]s of `rows.rs`. They exchange lines over standard input and output.

use std::{
    fs,
    future::Future,
    io::{self, BufRead, BufReader, Write},
    panic,
    process::{self, ChildStdin, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{Config, PeerEvent, Placement, Transport};
use rustix::process::{Pid, Signal, kill_process};

use crate::row::Failure;

/// The first argument of a child process.
const CHILD: &str = "as-child";

/// Runs a row's work in its own actix system.
pub(crate) fn system<T>(work: impl Future<Output = T>) -> T {
    System::new().block_on(work)
}

/// Binds a transport to a free port on loopback.
pub(crate) fn node(config: Config) -> Result<Transport, Failure> {
    Ok(Transport::builder().config(config).bind("127.0.0.1:0")?)
}

/// One thread to read and one to write: as many as two cores can use.
pub(crate) const ONE_EACH: Placement = Placement::Dedicated {
    readers: 1,
    writers: 1,
};

/// A thread with its own runtime for proxies. It ends when this is dropped.
pub(crate) struct ProxyRuntime {
    pub(crate) runtime: tokio::runtime::Handle,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl ProxyRuntime {
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        thread::Builder::new()
            .name("beside".into())
            .spawn(move || {
                let _ = runtime.block_on(ended);
            })?;
        Ok(ProxyRuntime {
            runtime: handle,
            _end: end,
        })
    }
}

/// A thread that sleeps and measures how late it wakes. Where the machine is busy, limits on time
/// are extended by this delay.
pub(crate) struct WakeDelay {
    worst: Arc<Mutex<Duration>>,
    over: Arc<AtomicBool>,
}

impl WakeDelay {
    pub(crate) fn start() -> Result<Self, Failure> {
        const SLEEP: Duration = Duration::from_millis(2);

        let wake_delay = WakeDelay {
            worst: Arc::default(),
            over: Arc::default(),
        };
        let (worst, over) = (wake_delay.worst.clone(), wake_delay.over.clone());
        thread::Builder::new()
            .name("wake_delay".into())
            .spawn(move || {
                while !over.load(Relaxed) {
                    let began = Instant::now();
                    thread::sleep(SLEEP);
                    let late = began.elapsed().saturating_sub(SLEEP);
                    let mut worst = worst.lock().expect("no holder of this lock panics");
                    *worst = late.max(*worst);
                }
            })?;
        Ok(wake_delay)
    }

    /// Returns the longest delay since the last call.
    pub(crate) fn take(&self) -> Duration {
        std::mem::take(&mut *self.worst.lock().expect("no holder of this lock panics"))
    }
}

impl Drop for WakeDelay {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

/// The events of a transport, with their times. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Vec<(Instant, PeerEvent)>>>);

impl EventLog {
    pub(crate) fn start(transport: &Transport) -> Self {
        let log = EventLog::default();
        transport.subscribe(EventRecorder(log.clone()).start().recipient());
        log
    }

    /// Returns all events so far.
    pub(crate) fn all(&self) -> Vec<(Instant, PeerEvent)> {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// Returns the first matching event from `since` on.
    pub(crate) fn first(
        &self,
        since: Instant,
        wanted: impl Fn(&PeerEvent) -> bool,
    ) -> Option<(Instant, PeerEvent)> {
        let events = self.0.lock().expect("no holder of this lock panics");
        let mut events = events.iter().filter(|(at, _)| *at >= since);
        events.find(|(_, event)| wanted(event)).cloned()
    }
}

struct EventRecorder(EventLog);

impl Actor for EventRecorder {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for EventRecorder {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let mut events = self.0.0.lock().expect("no holder of this lock panics");
        events.push((Instant::now(), event));
    }
}

/// Waits until `fact` holds, and returns how long that took. Fails after `limit`.
pub(crate) async fn until(
    what: &str,
    limit: Duration,
    mut fact: impl FnMut() -> bool,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    while !fact() {
        if began.elapsed() > limit {
            return Err(Failure::error(format!("not within {limit:?}: {what}")));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}

/// The beginning of the message of an expected panic.
pub(crate) const EXPECTED_PANIC: &str = "expected";

/// Keeps expected panics from printing their message.
pub(crate) fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied());
            let wanted =
                |text: &str| text.starts_with(EXPECTED_PANIC) || text.starts_with("failpoint");
            if !text.is_some_and(wanted) {
                former(info);
            }
        }));
    });
}

// ---- processes ---------------------------------------------------------------------------------

/// A role in which a child process can be started.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    /// Gets the arguments after the role's name. Standard input and output are lines from and to
    /// the row that started it.
    pub(crate) run: fn(&[String]) -> Result<(), Failure>,
}

/// Runs this process' role if it was started as a child.
pub(crate) fn run_as_child(roles: &[Role]) -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [marker, name, rest @ ..] = &args[..] else {
        return None;
    };
    if marker != CHILD {
        return None;
    }
    let Some(role) = roles.iter().find(|role| role.name == name) else {
        eprintln!("error: there is no role `{name}`");
        return Some(ExitCode::from(2));
    };
    match (role.run)(rest) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {name}: {failure}");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Returns the lines that the row sends to this process. The channel closes when the row ends.
pub(crate) fn questions() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (questions_tx, questions) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if questions_tx.send(line).is_err() {
                return;
            }
        }
    });
    questions
}

/// A child process. `Drop` kills it.
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<(Instant, String)>,
}

/// How long a process may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

impl Child {
    pub(crate) fn start(role: &str, args: &[String]) -> Result<Self, Failure> {
        Self::start_with(&[], role, args)
    }

    /// The same, through another program such as `ip netns exec …`.
    pub(crate) fn start_with(by: &[&str], role: &str, args: &[String]) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let mut command = match by {
            [] => Command::new(own),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(own);
                command
            }
        };
        let mut process = command
            .arg(CHILD)
            .arg(role)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().expect("piped");
        let (lines_tx, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines_tx.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Child {
            input: process.stdin.take(),
            lines,
            process,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next line of the process.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        match self.lines.recv_timeout(ANSWER_LIMIT) {
            Ok((_, line)) => Ok(line),
            Err(err) => Err(Failure::error(format!("a process does not answer: {err}"))),
        }
    }

    /// Returns the next line that has already arrived, and when it did.
    pub(crate) fn try_line(&mut self) -> Option<(Instant, String)> {
        self.lines.try_recv().ok()
    }

    /// Waits for the next line and parses it.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> Result<T, Failure> {
        let line = self.line()?;
        let parsed = line.trim().parse();
        parsed.map_err(|_| Failure::error(format!("a process answered `{line}`")))
    }

    /// Sends a line to the process and waits for the answer.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String, Failure> {
        self.send_line(question)?;
        self.line()
    }

    /// Sends a line to the process.
    pub(crate) fn send_line(&mut self, line: &str) -> Result<(), Failure> {
        let input = self.input.as_mut().expect("standard input is piped");
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Sends SIGSTOP: the process stops, its sockets stay open.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT: the process continues.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    /// Sends SIGKILL: the process ends, and the kernel closes its sockets.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.expect("a process"), signal)?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ---- what a process costs -----------------------------------------------------------------------

/// What a process uses now, according to the kernel.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Cost {
    /// Resident memory in bytes.
    pub(crate) memory: u64,
    /// CPU time so far.
    pub(crate) cpu: Duration,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

impl Cost {
    /// Returns the cost of this process.
    pub(crate) fn own() -> Result<Self, Failure> {
        Self::of(process::id())
    }

    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        // The page size and clock tick of Linux on the machines that run this.
        const PAGE: u64 = 4096;
        const TICK: Duration = Duration::from_millis(10);

        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        let pages: u64 = pages.ok_or_else(|| Failure::error("statm is not as expected"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The process name may contain anything, so the fields are read after its last bracket.
        let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.filter_map(|n| n.parse::<u32>().ok()).sum();
        Ok(Cost {
            memory: pages * PAGE,
            cpu: TICK * ticks,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        })
    }
}

/// The names of the threads of a process.
pub(crate) fn threads(pid: u32) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // It may have ended meanwhile.
        if let Ok(name) = fs::read_to_string(thread?.path().join("comm")) {
            names.push(name.trim_end().to_owned());
        }
    }
    Ok(names)
}

/// Formats bytes as mebibytes.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Blocks the thread for `time`. For rows without a runtime.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
