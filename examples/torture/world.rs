//! Nodes, processes, and what they cost.
//!
//! A row that needs a process of its own, to be stopped or killed for real, starts this program again
//! as one of the [`Role`]s in `rows.rs`, and talks with it by lines.

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

/// The first argument of a process that was started by a row.
const CHILD: &str = "as-child";

/// Runs a row's work in an actix system of its own.
pub(crate) fn system<T>(work: impl Future<Output = T>) -> T {
    System::new().block_on(work)
}

/// A transport on a free port of localhost.
pub(crate) fn node(config: Config) -> Result<Transport, Failure> {
    Ok(Transport::builder().config(config).bind("127.0.0.1:0")?)
}

/// One thread to read and one to write: as much as two cores are good for.
pub(crate) const ONE_EACH: Placement = Placement::Dedicated {
    readers: 1,
    writers: 1,
};

/// A thread with a runtime of its own, for what stands between nodes. It ends with this.
pub(crate) struct Beside {
    pub(crate) runtime: tokio::runtime::Handle,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Beside {
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
        Ok(Beside {
            runtime: handle,
            _end: end,
        })
    }
}

/// An eye on the machine: how late a thread is woken that wants nothing but to be woken. What has to
/// be done within a time cannot be done while nothing is, so limits are longer by that.
pub(crate) struct Stall {
    worst: Arc<Mutex<Duration>>,
    over: Arc<AtomicBool>,
}

impl Stall {
    pub(crate) fn watch() -> Result<Self, Failure> {
        const NAP: Duration = Duration::from_millis(2);

        let stall = Stall {
            worst: Arc::default(),
            over: Arc::default(),
        };
        let (worst, over) = (stall.worst.clone(), stall.over.clone());
        thread::Builder::new().name("stall".into()).spawn(move || {
            while !over.load(Relaxed) {
                let began = Instant::now();
                thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                let mut worst = worst.lock().expect("nobody panics here");
                *worst = late.max(*worst);
            }
        })?;
        Ok(stall)
    }

    /// The worst since this was asked the last time.
    pub(crate) fn take(&self) -> Duration {
        std::mem::take(&mut *self.worst.lock().expect("nobody panics here"))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

/// What a transport tells, and when it told it. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Vec<(Instant, PeerEvent)>>>);

impl Watch {
    pub(crate) fn on(transport: &Transport) -> Self {
        let watch = Watch::default();
        transport.subscribe(Watcher(watch.clone()).start().recipient());
        watch
    }

    /// All that was told.
    pub(crate) fn all(&self) -> Vec<(Instant, PeerEvent)> {
        self.0.lock().expect("nobody panics here").clone()
    }

    /// When the first event as wanted was told, of those told since `since`.
    pub(crate) fn first(
        &self,
        since: Instant,
        wanted: impl Fn(&PeerEvent) -> bool,
    ) -> Option<(Instant, PeerEvent)> {
        let events = self.0.lock().expect("nobody panics here");
        let mut events = events.iter().filter(|(at, _)| *at >= since);
        events.find(|(_, event)| wanted(event)).cloned()
    }
}

struct Watcher(Watch);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Watcher {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) {
        let mut events = self.0.0.lock().expect("nobody panics here");
        events.push((Instant::now(), event));
    }
}

/// Waits until `fact` holds; fails when it does not within `limit`.
pub(crate) async fn until(
    what: &str,
    limit: Duration,
    mut fact: impl FnMut() -> bool,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    while !fact() {
        if began.elapsed() > limit {
            return Err(Failure::stuck(format!("not within {limit:?}: {what}")));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}

/// The first word of a panic that is wanted.
pub(crate) const WANTED: &str = "wanted";

/// Lets panics that are wanted go without a word on standard error.
pub(crate) fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied());
            let wanted = |text: &str| text.starts_with(WANTED) || text.starts_with("failpoint");
            if !text.is_some_and(wanted) {
                tell(info);
            }
        }));
    });
}

// ---- processes ---------------------------------------------------------------------------------

/// What a process of its own can be started as.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    /// Gets the arguments behind the role's name. Standard input and output are lines to and from
    /// the row that started it.
    pub(crate) run: fn(&[String]) -> Result<(), Failure>,
}

/// Runs the role that this process was started as, if it was started as one.
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

/// The lines that the row says to this process, until it has nothing more to say.
pub(crate) fn questions() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (ask, questions) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if ask.send(line).is_err() {
                return;
            }
        }
    });
    questions
}

/// A process started as a role. It is killed when this goes.
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<(Instant, String)>,
}

/// How long a process may take to say what it is asked.
const ANSWER: Duration = Duration::from_secs(60);

impl Child {
    pub(crate) fn start(role: &str, args: &[String]) -> Result<Self, Failure> {
        Self::start_with(&[], role, args)
    }

    /// The same, by way of another program: `ip netns exec …`.
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
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send((Instant::now(), line)).is_err() {
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

    /// Waits for the next line that the process says.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        match self.lines.recv_timeout(ANSWER) {
            Ok((_, line)) => Ok(line),
            Err(err) => Err(Failure::stuck(format!("a process does not answer: {err}"))),
        }
    }

    /// The next line that the process has said already, and when.
    pub(crate) fn said(&mut self) -> Option<(Instant, String)> {
        self.lines.try_recv().ok()
    }

    /// The next line, as a number or an address.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> Result<T, Failure> {
        let line = self.line()?;
        let parsed = line.trim().parse();
        parsed.map_err(|_| Failure::stuck(format!("a process said `{line}`")))
    }

    /// Says a line to the process, and waits for the line that it answers.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String, Failure> {
        self.tell(question)?;
        self.line()
    }

    /// Says a line to the process.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let input = self.input.as_mut().expect("taken with the process only");
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// SIGSTOP: it stands still, sockets open.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    /// SIGKILL: it is gone, and the kernel closes what it had.
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

// ---- what a process costs ------------------------------------------------------------------------

/// What a process costs at the moment, as the kernel has it.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Cost {
    /// Memory that is there, in bytes.
    pub(crate) memory: u64,
    /// Time on processors so far.
    pub(crate) cpu: Duration,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

impl Cost {
    /// This process'.
    pub(crate) fn own() -> Result<Self, Failure> {
        Self::of(process::id())
    }

    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        // What Linux calls a page and a tick on every machine this runs on.
        const PAGE: u64 = 4096;
        const TICK: Duration = Duration::from_millis(10);

        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        let pages: u64 = pages.ok_or_else(|| Failure::stuck("statm is not as expected"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold anything, so what is looked at stands behind its last bracket.
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

/// Bytes as mebibytes, for figures.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Blocks for `time`. For rows that drive processes and have no runtime.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
