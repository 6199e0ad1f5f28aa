//! Drops a part of the packets between a network namespace and this machine, and counts them: with
//! `nft` where that works, otherwise with `tc netem`.

use crate::{
    netns::{Namespace, run_here},
    row::Failure,
};

/// What drops the packets.
#[derive(Debug, Copy, Clone)]
pub(crate) enum PacketLoss {
    /// Rules in the namespace, which drop what comes in and what TCP sends.
    Nft,
    /// Queueing disciplines at both ends of the cable, which drop what is sent.
    Netem,
}

/// Packets dropped so far.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Lost {
    pub(crate) tcp: u64,
    pub(crate) datagrams: u64,
}

impl PacketLoss {
    /// Begins to drop this percentage of packets: those of TCP both ways, datagrams on their way into the
    /// namespace. The row is skipped where neither program can do that.
    pub(crate) fn start(namespace: &Namespace, percent: u32) -> Result<Self, Failure> {
        let Err(nft) = with_nft(namespace, percent) else {
            return Ok(PacketLoss::Nft);
        };
        // The rules before the one that failed must not drop anything.
        let _ = namespace.run("nft delete table inet torture");
        let Err(tc) = with_netem(namespace, percent) else {
            return Ok(PacketLoss::Netem);
        };
        Err(Failure::skipped(format!(
            "needs nft or tc netem: {nft}; {tc}"
        )))
    }

    /// Returns what has been dropped since [`start`](PacketLoss::start).
    pub(crate) fn lost(self, namespace: &Namespace) -> Result<Lost, Failure> {
        match self {
            PacketLoss::Nft => Ok(Lost {
                tcp: counted_by_nft(namespace, "stream")?,
                datagrams: counted_by_nft(namespace, "datagrams")?,
            }),
            PacketLoss::Netem => {
                let cable = &namespace.cable;
                let here = run_here(&format!("tc -s -j qdisc show dev {cable}"))?;
                let there = namespace.run(&format!("tc -s -j qdisc show dev {cable}p"))?;
                Ok(Lost {
                    tcp: counted_by_tc(&here, TCP)? + counted_by_tc(&there, TCP)?,
                    datagrams: counted_by_tc(&here, DATAGRAMS)?,
                })
            }
        }
    }
}

// ---- nft -------------------------------------------------------------------------------------------

fn with_nft(namespace: &Namespace, percent: u32) -> Result<(), Failure> {
    let rule = |chain: &str, protocol: &str, counter: &str| {
        format!(
            "nft add rule inet torture {chain} meta l4proto {protocol} \
             numgen random mod 100 < {percent} counter name {counter} drop"
        )
    };
    let steps = [
        "nft add table inet torture".into(),
        "nft add counter inet torture stream".into(),
        "nft add counter inet torture datagrams".into(),
        "nft add chain inet torture in { type filter hook input priority 0 ; }".into(),
        "nft add chain inet torture out { type filter hook output priority 0 ; }".into(),
        rule("in", "tcp", "stream"),
        rule("out", "tcp", "stream"),
        rule("in", "udp", "datagrams"),
    ];
    steps
        .iter()
        .try_for_each(|step| namespace.run(step).map(drop))
}

fn counted_by_nft(namespace: &Namespace, counter: &str) -> Result<u64, Failure> {
    let said = namespace.run(&format!("nft list counter inet torture {counter}"))?;
    let mut words = said
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    let packets = words.nth(1).and_then(|word| word.parse().ok());
    packets.ok_or_else(|| Failure::error(format!("nft printed `{said}`")))
}

// ---- tc --------------------------------------------------------------------------------------------

/// The handles of the disciplines that drop. Each protocol has its own, so that each is counted apart.
const TCP: &str = "10:";
const DATAGRAMS: &str = "20:";

fn with_netem(namespace: &Namespace, percent: u32) -> Result<(), Failure> {
    let here = steps_of_tc(&namespace.cable, percent, percent);
    here.iter().try_for_each(|step| run_here(step).map(drop))?;
    // Datagrams are sent one way only.
    let there = steps_of_tc(&format!("{}p", namespace.cable), percent, 0);
    there
        .iter()
        .try_for_each(|step| namespace.run(step).map(drop))
}

/// Returns the commands that make `device` drop packets as it sends them. The classes only sort the
/// packets: their rate is never reached.
fn steps_of_tc(device: &str, tcp: u32, datagrams: u32) -> [String; 6] {
    // Without a delay nothing waits in the discipline, so its limit is never reached.
    let netem = |class: &str, handle: &str, percent: u32| {
        format!("tc qdisc add dev {device} parent {class} handle {handle} netem loss {percent}%")
    };
    let class = |class: &str| {
        format!("tc class add dev {device} parent 1: classid {class} htb rate 10gbit quantum 60000")
    };
    [
        format!("tc qdisc add dev {device} root handle 1: htb default 1"),
        class("1:1"),
        class("1:2"),
        netem("1:1", TCP, tcp),
        netem("1:2", DATAGRAMS, datagrams),
        format!(
            "tc filter add dev {device} parent 1: protocol ip u32 match ip protocol 17 0xff flowid 1:2"
        ),
    ]
}

/// Finds how many packets the discipline with this handle dropped, in what `tc -s -j qdisc` printed.
fn counted_by_tc(said: &str, handle: &str) -> Result<u64, Failure> {
    let disciplines: serde_json::Value = serde_json::from_str(said)?;
    let all = disciplines.as_array().map_or(&[][..], Vec::as_slice);
    let one = all.iter().find(|one| one["handle"] == handle);
    let drops = one.and_then(|one| one["drops"].as_u64());
    drops.ok_or_else(|| Failure::error(format!("tc printed `{said}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tc_counted_is_found_by_the_handle() {
        let said = r#"[
            {"kind":"htb","handle":"1:","root":true,"bytes":9,"packets":9,"drops":12,"overlimits":0},
            {"kind":"netem","handle":"20:","parent":"1:2","options":{"limit":1000},"packets":5,"drops":7},
            {"kind":"netem","handle":"10:","parent":"1:1","options":{"limit":1000},"packets":4,"drops":5}
        ]"#;
        assert_eq!(counted_by_tc(said, TCP).expect("there"), 5);
        assert_eq!(counted_by_tc(said, DATAGRAMS).expect("there"), 7);
        assert!(counted_by_tc(said, "30:").is_err());
        assert!(counted_by_tc("nonsense", TCP).is_err());
    }
}
