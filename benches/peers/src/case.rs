//! The cases: a size of frames and a number of connections each.

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

    let case = |name, size, peers| Case {
        name,
        work: Work {
            task: Task::Stream,
            size,
            // Set by `Pace`.
            frames: 0,
            producers: 1,
            groups: 1,
            peers,
            burst: 1,
            placement: Where::Dedicated,
            sessions: false,
            tls: false,
        },
        contestants: contestants
            .iter()
            .copied()
            .filter(|contestant| contestant.absence(peers).is_none())
            .collect(),
    };
    vec![
        case("64B", 64, 1),
        case("1KiB", 1 << 10, 1),
        case("16KiB", 16 << 10, 1),
        case("64B-100-connections", 64, CONNECTIONS),
        case("1KiB-100-connections", 1 << 10, CONNECTIONS),
        case("16KiB-100-connections", 16 << 10, CONNECTIONS),
    ]
}
