//! A network namespace with a cable to this one, where the machine and the user's rights allow it.

use std::{
    net::Ipv4Addr,
    process::{Command, id},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use crate::row::Failure;

/// The namespace; it and the cable go when this does.
pub(crate) struct Namespace {
    name: String,
    /// This end of the cable.
    pub(crate) cable: String,
    /// The address of this end.
    pub(crate) here: Ipv4Addr,
    /// The address of the other, in the namespace.
    pub(crate) there: Ipv4Addr,
}

impl Namespace {
    /// Makes one. Skipped where that cannot be done.
    pub(crate) fn new() -> Result<Self, Failure> {
        // So that several can stand side by side, of several runs too.
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
            say(&step).map_err(skip)?;
        }
        Ok(namespace)
    }

    /// What starts a program inside.
    pub(crate) fn inside(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs a command inside; returns what it says.
    pub(crate) fn run(&self, command: &str) -> Result<String, Failure> {
        let mut words = self.inside().to_vec();
        words.extend(command.split_whitespace());
        run(&words)
    }

    /// Pulls the cable out of the far end, or puts it in again.
    pub(crate) fn pulled(&self, pulled: bool) -> Result<(), Failure> {
        let state = if pulled { "down" } else { "up" };
        self.run(&format!("ip link set {}p {state}", self.cable))
            .map(drop)
    }

    /// Sends all answers from inside nowhere, or where they belong again.
    pub(crate) fn black_hole(&self, hole: bool) -> Result<(), Failure> {
        let change = if hole { "add" } else { "del" };
        self.run(&format!("ip route {change} blackhole {}/32", self.here))
            .map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable's ends go together.
        let _ = run(&["ip", "link", "del", &self.cable]);
        let _ = run(&["ip", "netns", "del", &self.name]);
    }
}

/// Runs a command; returns what it says.
pub(crate) fn say(command: &str) -> Result<String, Failure> {
    run(&command.split_whitespace().collect::<Vec<_>>())
}

fn run(words: &[&str]) -> Result<String, Failure> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|err| Failure::stuck(format!("{}: {err}", words[0])))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no word");
        return Err(Failure::stuck(format!(
            "`{}` says: {said}",
            words.join(" ")
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
