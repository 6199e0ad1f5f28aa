//! The cases: frames of a size over a number of connections, or a number of calls at a time.

use crate::{
    node::Where,
    side::Contestant,
    work::{Task, Work},
};

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    pub(super) contestants: Vec<Contestant>,
}

/// Returns all cases, each with the contestants that can take part in it.
pub(super) fn all(contestants: &[Contestant]) -> Vec<Case> {
    const CONNECTIONS: usize = 100;

    let case = |name, work: Work| {
        let here = |contestant: &Contestant| {
            contestant.has_a_row(work.task) && contestant.absence(work.peers).is_none()
        };
        let contestants = contestants.iter().copied().filter(here).collect();
        Case {
            name,
            work,
            contestants,
        }
    };
    let any = Work {
        task: Task::Stream,
        size: 64,
        // Set by `Pace`.
        frames: 0,
        producers: 1,
        groups: 1,
        peers: 1,
        burst: 1,
        in_flight: 1,
        placement: Where::Dedicated,
        sessions: false,
        tls: false,
    };
    let stream = |name, size, peers| {
        let work = any.clone();
        case(
            name,
            Work {
                size,
                peers,
                ..work
            },
        )
    };
    let calls = |name, in_flight| {
        let work = Work {
            task: Task::Call,
            in_flight,
            placement: Where::Current,
            sessions: true,
            ..any.clone()
        };
        case(name, work)
    };
    vec![
        stream("64B", 64, 1),
        stream("1KiB", 1 << 10, 1),
        stream("16KiB", 16 << 10, 1),
        stream("64B-100-connections", 64, CONNECTIONS),
        stream("1KiB-100-connections", 1 << 10, CONNECTIONS),
        stream("16KiB-100-connections", 16 << 10, CONNECTIONS),
        calls("call-1", 1),
        calls("call-64", 64),
    ]
}
