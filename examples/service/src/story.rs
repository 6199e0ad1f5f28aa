//! Starts three nodes and clients, kills a node, starts it again, and checks what the clients see.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use crate::{
    Failure,
    client::{self, Outcome},
};

const NODES: usize = 3;
const VICTIM: usize = 2;

pub(crate) fn tell() -> Result<(), Failure> {
    let start = |number| Node::start(number, "127.0.0.1:0", "127.0.0.1:0");
    let mut nodes: Vec<Node> = (0..NODES).map(start).collect::<Result<_, _>>()?;
    let addrs: Vec<_> = nodes.iter().map(|node| node.addr.as_str()).collect();
    let addrs = addrs.join(" ");
    let mut clients = Clients::new();
    for node in &mut nodes {
        node.tell(&addrs)?;
    }
    clients.start(&nodes[0].http);
    clients.start(&nodes[1].http);
    clients.watch(100, |_, status| status == 200)?;

    println!("node {VICTIM} is killed");
    nodes[VICTIM].process.kill()?;
    nodes[VICTIM].process.wait()?;
    clients.watch(10, |owner, status| (status == 200) == (owner != VICTIM))?;

    println!("node {VICTIM} is started again");
    nodes[VICTIM] = Node::start(VICTIM, &nodes[VICTIM].http, &nodes[VICTIM].addr)?;
    nodes[VICTIM].tell(&addrs)?;
    clients.start(&nodes[VICTIM].http);
    clients.watch(100, |_, status| status == 200)?;

    drop(clients);
    nodes.into_iter().try_for_each(Node::stop)
}

/// The clients, each in a thread of its own.
struct Clients {
    /// How many there are.
    started: usize,
    to_watch: SyncSender<Result<Outcome, String>>,
    outcomes: Receiver<Result<Outcome, String>>,
}

impl Clients {
    fn new() -> Self {
        // So many outcomes may wait to be looked at.
        let (to_watch, outcomes) = sync_channel(100);
        Clients {
            started: 0,
            to_watch,
            outcomes,
        }
    }

    /// Starts a client for the counters of each node. All of them ask the node at this address.
    fn start(&mut self, http: &str) {
        for owner in 0..NODES {
            let who = (self.started, owner, NODES);
            let (http, to_watch) = (http.to_owned(), self.to_watch.clone());
            thread::spawn(move || client::run(who, &http, &to_watch));
            self.started += 1;
        }
    }

    /// Waits until each client has seen so many outcomes that are wanted. Fails if one is not, except that it may take
    /// the clients of the victim a moment to notice that it has gone or is back.
    fn watch(&self, count: u32, wanted: impl Fn(usize, u16) -> bool) -> Result<(), Failure> {
        let mut missing = vec![count; self.started];
        let mut seen = BTreeMap::<_, u32>::new();
        while missing.iter().any(|&count| count > 0) {
            let Outcome {
                client,
                owner,
                status,
                text,
            } = self.outcomes.recv()??;
            let missing = &mut missing[client];
            match wanted(owner, status) {
                true => *missing = missing.saturating_sub(1),
                false if owner == VICTIM && *missing == count => {}
                false => {
                    return Err(format!(
                        "client {client}, node {owner}'s counter: {status}, {text}"
                    )
                    .into());
                }
            }
            *seen.entry((owner, status)).or_default() += 1;
        }
        for ((owner, status), count) in seen {
            println!("  counters of node {owner}: {count} answers with status {status}");
        }
        Ok(())
    }
}

/// A node in a process of its own. It ends when its standard input does.
struct Node {
    process: Child,
    http: String,
    /// Of its transport.
    addr: String,
}

impl Node {
    fn start(number: usize, http: &str, addr: &str) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args([&number.to_string(), http, addr]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line)?;
        let (http, addr) = line.trim().split_once(' ').ok_or("a node did not start")?;
        println!("node {number} serves http://{http}, and other nodes at {addr}");
        let (http, addr) = (http.into(), addr.into());
        Ok(Node {
            process,
            http,
            addr,
        })
    }

    /// Tells the node the addresses of all transports.
    fn tell(&mut self, addrs: &str) -> Result<(), Failure> {
        let input = self.process.stdin.as_mut().expect("a pipe");
        Ok(writeln!(input, "{addrs}")?)
    }

    fn stop(mut self) -> Result<(), Failure> {
        drop(self.process.stdin.take());
        match self.process.wait()?.success() {
            true => Ok(()),
            false => Err("a node failed".into()),
        }
    }
}
