//! Two processes that exchange messages over TLS, and a third that is refused.
//!
//! ```text
//! cargo run --example secure_pair
//! ```
//!
//! The program makes keys and starts itself again as node 1 and node 2, in the directory of the keys. Then
//! node 2 restarts with a new key. Node 3 has a certificate of another CA: node 1 refuses it, and both say
//! why. The program fails if anything else happens.

use std::io::{self, BufRead};
use std::process::{self, Child, ChildStdout, Command, Stdio};
use std::{collections::HashSet, env, error::Error, fs, path::Path, thread, time::Duration};

use actix::prelude::*;
use actix_transport::{GroupId, Identity, Inbound, NodeId, Shutdown, Tls, Transport};
use tokio::{task::spawn_blocking, time::sleep};

use crate::keys::{Authority, Request};

// Also used by other programs; this one needs only a part of it.
#[allow(dead_code)]
#[path = "support/keys.rs"]
mod keys;

const GROUP: GroupId = GroupId::new(1);

/// Runs a node until its standard input ends.
async fn run_node(number: u64, to: Option<String>) -> Result<(), Box<dyn Error>> {
    // What TLS needs: the keys of this node, and the names in the certificates of those that are let in.
    let (cert, key) = (format!("node-{number}.pem"), format!("node-{number}.key"));
    let tls = Tls::from_pem_files("ca.pem", cert, key)?.allow(["node-*.test"]);
    let transport = Transport::builder()
        .identity(Identity::new(NodeId::new(number)).cluster("pair"))
        .tls(tls)
        .register(GROUP, Talker(number).start().recipient())
        .bind("127.0.0.1:0")?;

    println!("node {number} listens on {}", transport.local_addr());
    if let Some(to) = to {
        transport.peer(to.as_str())?.try_send(GROUP, "hello")?;
    }
    let input = spawn_blocking(|| io::read_to_string(io::stdin()));
    let mut told = HashSet::new();
    while !input.is_finished() {
        let failed = transport.stats().tls.failed;
        for (why, _) in failed.iter().filter(|(why, _)| told.insert(*why)) {
            println!("node {number} makes no connection: {why}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    transport.stop(Shutdown::Now).await;
    Ok(())
}

/// Prints what it hears, and answers a hello.
struct Talker(u64);

impl Actor for Talker {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Talker {
    type Result = ();

    fn handle(&mut self, messages: Inbound, _: &mut Context<Self>) {
        let sender = messages.sender().cloned().expect("TLS demands it");
        for message in messages {
            let (me, text) = (self.0, message.escape_ascii());
            println!("node {me} hears from node {}: {text}", sender.node());
            if let (b"hello", Ok(peer)) = (&message[..], sender.peer()) {
                let _ = peer.try_send(GROUP, "welcome");
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    if let Some(number) = args.next() {
        return System::new().block_on(run_node(number.parse()?, args.next()));
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(60));
        eprintln!("what should happen does not happen");
        process::exit(1);
    });
    let dir = env::temp_dir().join(format!("secure-pair-{}", process::id()));
    fs::create_dir(&dir)?;
    let told = tell_story(&dir);
    fs::remove_dir_all(&dir)?;
    told
}

fn tell_story(dir: &Path) -> Result<(), Box<dyn Error>> {
    let ca = Authority::new("pair");
    ca.write(dir)?;
    ca.certificate(Request::node(1)).write(dir, "node-1")?;
    let mut one = Node::start(dir, 1, None)?;
    let to = one.wait_for("node 1 listens on ")?;
    for key in ["a key", "another key"] {
        println!("node 2 starts with {key}");
        ca.certificate(Request::node(2)).write(dir, "node-2")?;
        let mut two = Node::start(dir, 2, Some(&to))?;
        one.wait_for("node 1 hears from node 2: hello")?;
        two.wait_for("node 2 hears from node 1: welcome")?;
    }
    println!("node 3 starts with a certificate of another CA");
    let other = Authority::new("other");
    other.certificate(Request::node(3)).write(dir, "node-3")?;
    let mut three = Node::start(dir, 3, Some(&to))?;
    one.wait_for("node 1 makes no connection: no trusted CA stands behind the certificate")?;
    let why = "node 3 makes no connection: the other end does not accept this one";
    three.wait_for(why).map(drop)
}

/// A node in a process of its own. When this is dropped, its standard input ends, and so does the node.
struct Node {
    process: Child,
    lines: io::Lines<io::BufReader<ChildStdout>>,
}

impl Node {
    fn start(dir: &Path, number: u64, to: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command.current_dir(dir).arg(number.to_string()).args(to);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let lines = io::BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Ok(Node { process, lines })
    }

    /// Repeats what the node prints up to this text, and returns what follows it on the line.
    fn wait_for(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        for line in &mut self.lines {
            let line = line?;
            println!("  {line}");
            if let Some((_, rest)) = line.split_once(text) {
                return Ok(rest.to_string());
            }
        }
        Err(format!("a node ended without `{text}`").into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.wait();
    }
}
