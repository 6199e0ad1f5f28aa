//! A network namespace, connected by a veth pair, where the machine and the user's rights allow it.

use std::{
    net::Ipv4Addr,
    process::{Command, id},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use crate::row::Failure;

/// A namespace. `Drop` removes it and the veth pair.
pub(crate) struct Namespace {
    name: String,
    /// Name of this end of the veth pair.
    pub(crate) cable: String,
    /// The address of this end.
    pub(crate) here: Ipv4Addr,
    /// The address of the other end, in the namespace.
    pub(crate) there: Ipv4Addr,
}

impl Namespace {
    /// Creates a namespace. The row is skipped where that is not possible.
    pub(crate) fn new() -> Result<Self, Failure> {
        // Makes the names unique, so that several namespaces can exist, also of several runs.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let index = NEXT.fetch_add(1, Relaxed);
        let unique = format!("{}{index}", id() % 100_000);
        let net = (id() % 250) as u8;
        let namespace = Namespace {
            name: format!("torture{unique}"),
            cable: format!("tort{unique}"),
            here: Ipv4Addr::new(10, 231, net, index * 4 + 1),
            there: Ipv4Addr::new(10, 231, net, index * 4 + 2),
        };
        let Namespace {
            name,
            cable,
            here,
            there,
        } = &namespace;
        let skip = |failure: Failure| {
            Failure::skipped(format!("needs root and network namespaces: {failure}"))
        };
        let far = format!("{cable}p");
        run(&["ip", "netns", "add", name]).map_err(skip)?;
        let steps = [
            format!("ip link add {cable} type veth peer name {far}"),
            format!("ip link set {far} netns {name}"),
            format!("ip addr add {here}/30 dev {cable}"),
            format!("ip link set {cable} up"),
            format!("ip -n {name} addr add {there}/30 dev {far}"),
            format!("ip -n {name} link set {far} up"),
            format!("ip -n {name} link set lo up"),
        ];
        for step in steps {
            run_here(&step).map_err(skip)?;
        }
        Ok(namespace)
    }

    /// Returns the words in front of a command that runs it inside.
    pub(crate) fn exec_prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs a command inside and returns its output.
    pub(crate) fn run(&self, command: &str) -> Result<String, Failure> {
        let mut words = self.exec_prefix().to_vec();
        words.extend(command.split_whitespace());
        run(&words)
    }

    /// Takes the far end of the cable down, or up again.
    pub(crate) fn set_cable_pulled(&self, pulled: bool) -> Result<(), Failure> {
        let state = if pulled { "down" } else { "up" };
        self.run(&format!("ip link set {}p {state}", self.cable))
            .map(drop)
    }

    /// Drops all packets from inside to this end, or lets them through again.
    pub(crate) fn set_black_hole(&self, hole: bool) -> Result<(), Failure> {
        let change = if hole { "add" } else { "del" };
        self.run(&format!("ip route {change} blackhole {}/32", self.here))
            .map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Deleting one end also deletes the other.
        let _ = run(&["ip", "link", "del", &self.cable]);
        let _ = run(&["ip", "netns", "del", &self.name]);
    }
}

/// Runs a command and returns its output.
pub(crate) fn run_here(command: &str) -> Result<String, Failure> {
    run(&command.split_whitespace().collect::<Vec<_>>())
}

fn run(words: &[&str]) -> Result<String, Failure> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|err| Failure::error(format!("{}: {err}", words[0])))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr);
        let output = output.lines().next().unwrap_or("no message");
        return Err(Failure::error(format!(
            "`{}` failed: {output}",
            words.join(" ")
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
