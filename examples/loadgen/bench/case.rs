//! The cases: their names, order, contestants and numbers of frames.

use super::{
    side::Contestant::{
        self, Ours, OursActor, OursMulti, OursTls, Raw64, Raw256, Tokio, TokioMulti,
    },
    work::{Task, Work},
};
use crate::node::Where;

/// `--quick` divides the numbers of frames by this.
const QUICK: u64 = 500;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    pub(super) contestants: &'static [Contestant],
}

impl Case {
    /// Returns how often each contestant runs.
    pub(super) fn rounds(&self, rounds: u32) -> u32 {
        match self.work.task {
            // Its connections are idle, so every round would give the same result.
            Task::Idle => 1,
            _ => rounds,
        }
    }
}

/// Returns all cases. With these numbers of frames a run of ours takes about a second on a small
/// machine.
pub(super) fn all(placement: Where, quick: bool) -> Vec<Case> {
    const RAW: &[Contestant] = &[Raw64, Raw256, Tokio, Ours];
    const TOKIO: &[Contestant] = &[Tokio, Ours];
    const CALLS: &[Contestant] = &[Tokio, TokioMulti, Ours, OursActor, OursMulti];

    let work = |task, size, frames| Work {
        task,
        size,
        frames: match quick {
            true => frames / QUICK,
            false => frames,
        },
        producers: 1,
        groups: 1,
        peers: 1,
        burst: 1,
        in_flight: 1,
        placement,
        sessions: false,
        tls: false,
    };
    let stream = |name, size, frames| Case {
        name,
        work: work(Task::Stream, size, frames),
        contestants: RAW,
    };
    let ours = |name, size, frames| Case {
        contestants: &[Ours],
        ..stream(name, size, frames)
    };
    let round_trip = |name, task, placement| Case {
        name,
        work: Work {
            placement,
            ..work(task, 64, 20_000)
        },
        contestants: TOKIO,
    };
    let with_sessions = |name, placement| {
        let mut case = round_trip(name, Task::RoundTrip, placement);
        case.work.sessions = true;
        case.contestants = &[Tokio, Ours, OursTls];
        case
    };
    let calls = |name, in_flight, frames, placement| Case {
        name,
        work: Work {
            in_flight,
            placement,
            sessions: true,
            ..work(Task::Call, 64, frames)
        },
        contestants: CALLS,
    };
    let with = |mut case: Case, producers, groups, peers| {
        (case.work.producers, case.work.groups) = (producers, groups);
        case.work.peers = peers;
        case
    };
    vec![
        stream("64B", 64, 8_000_000),
        Case {
            work: Work {
                burst: 32,
                ..work(Task::Stream, 64, 8_000_000)
            },
            ..stream("64B-burst-32", 64, 8_000_000)
        },
        stream("1KiB", 1 << 10, 1_500_000),
        stream("16KiB", 16 << 10, 150_000),
        stream("256KiB", 256 << 10, 8_000),
        with(stream("64B-4-producers", 64, 5_000_000), 4, 1, 1),
        with(stream("64B-100-groups", 64, 5_000_000), 1, 100, 1),
        with(stream("64B-100-peers", 64, 5_000_000), 1, 1, 100),
        with(ours("64B-10-groups", 64, 8_000_000), 1, 10, 1),
        with(ours("64B-1000-groups", 64, 5_000_000), 1, 1_000, 1),
        with(ours("64B-10-peers", 64, 5_000_000), 1, 1, 10),
        with(ours("64B-1000-peers", 64, 5_000_000), 1, 1, 1_000),
        with(stream("1KiB-4-producers", 1 << 10, 1_000_000), 4, 1, 1),
        with(stream("1KiB-100-groups", 1 << 10, 1_000_000), 1, 100, 1),
        with(stream("1KiB-100-peers", 1 << 10, 1_000_000), 1, 1, 100),
        Case {
            name: "udp-64B",
            work: work(Task::Datagrams, 64, 500_000),
            contestants: TOKIO,
        },
        round_trip("round-trip-current", Task::RoundTrip, Where::Current),
        round_trip(
            "round-trip-current-one-way",
            Task::OneWayRoundTrip,
            Where::Current,
        ),
        round_trip("round-trip-dedicated", Task::RoundTrip, Where::Dedicated),
        round_trip("round-trip-shared", Task::RoundTrip, Where::Shared),
        with_sessions("round-trip-sessions-current", Where::Current),
        with_sessions("round-trip-sessions-dedicated", Where::Dedicated),
        with_sessions("round-trip-sessions-shared", Where::Shared),
        calls("call-1-current", 1, 20_000, Where::Current),
        calls("call-1-dedicated", 1, 20_000, Where::Dedicated),
        calls("call-1-shared", 1, 20_000, Where::Shared),
        calls("call-64-current", 64, 200_000, Where::Current),
        calls("call-64-dedicated", 64, 200_000, Where::Dedicated),
        calls("call-64-shared", 64, 200_000, Where::Shared),
        Case {
            name: "idle-connections",
            // The same number in a quick run: opening them takes hardly any time.
            work: Work {
                frames: 1_000,
                ..work(Task::Idle, 64, 0)
            },
            contestants: &[Ours],
        },
    ]
}
