//! Which losses get a line in the log: the first of its kind, and then one every ten seconds at most.
//!
//! Owns the decision only. The lines are written by the `reporter`, after the lock is released: whoever
//! subscribes to the log is foreign code. Knows no clock.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    error::QueueLimit, ids::GroupId, lane::PeerLane, net::clock::CoarseInstant,
    observe::stats::DropReason, wire::count::Count,
};

/// How long a kind of loss gets no further line.
const QUIET: Duration = Duration::from_secs(10);

/// The most kinds that are told apart. Any number of peers and groups can lose frames, so without this
/// bound neither the memory nor the log would be bounded. Beyond it, all losses of one cause are one
/// kind.
const MAX_KINDS: usize = 128;

/// What happened, and to whom.
#[derive(Debug, Clone, Eq, PartialEq, Hash)]
pub(super) struct Kind {
    pub(super) place: Place,
    pub(super) cause: Cause,
}

/// Whose frames or connections are lost.
#[derive(Debug, Clone, Eq, PartialEq, Hash)]
pub(super) enum Place {
    /// Frames sent to this peer on this lane, or datagrams if `None`.
    To(Option<PeerLane>),
    /// Frames received from this machine for this group, or for several if `None`. Or a connection from
    /// this machine.
    From(IpAddr, Option<GroupId>),
    /// Any: there were too many kinds to tell them apart.
    Any,
}

#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
pub(super) enum Cause {
    Dropped(DropReason),
    Full(QueueLimit),
    TooManyPeers,
    Unreachable,
    TurnedAway,
    Malformed,
    TimedOut,
    Refused,
    BadHandshake,
    Gap,
}

/// The kinds of losses that have been logged lately.
#[derive(Debug, Default)]
pub(super) struct QuietLog(Mutex<Kinds>);

#[derive(Debug, Default)]
struct Kinds {
    logged: HashMap<Kind, Logged>,
    /// When old kinds were last looked for. That takes time, so it is not done for each new kind.
    swept: Option<CoarseInstant>,
}

#[derive(Debug, Copy, Clone)]
struct Logged {
    at: CoarseInstant,
    /// Lost since then.
    since: Count,
}

impl QuietLog {
    /// Notes a loss. Returns what is to be logged now: all that was lost of this kind since its last
    /// line, or `None` if that line is not old yet.
    pub(super) fn note(&self, kind: Kind, count: Count, now: CoarseInstant) -> Option<Count> {
        let mut kinds = self.0.lock();
        let kind = kinds.told_apart(kind, now);
        match kinds.logged.entry(kind) {
            Entry::Vacant(vacant) => {
                let since = Count::ZERO;
                vacant.insert(Logged { at: now, since });
                Some(count)
            }
            Entry::Occupied(mut occupied) => {
                let logged = occupied.get_mut();
                logged.since += count;
                if now.since(logged.at) < QUIET {
                    return None;
                }
                logged.at = now;
                Some(std::mem::take(&mut logged.since))
            }
        }
    }
}

impl Kinds {
    /// Returns the kind if it is in the table or there is space for it. A full table first loses the kinds
    /// that had no line for [`QUIET`]. If it is still full, returns the kind with the same cause and
    /// [`Place::Any`].
    fn told_apart(&mut self, kind: Kind, now: CoarseInstant) -> Kind {
        if self.logged.len() < MAX_KINDS || self.logged.contains_key(&kind) {
            return kind;
        }
        if self.swept.is_none_or(|swept| now.since(swept) >= QUIET) {
            self.swept = Some(now);
            self.logged.retain(|_, logged| now.since(logged.at) < QUIET);
        }
        match self.logged.len() < MAX_KINDS {
            true => kind,
            false => Kind {
                place: Place::Any,
                ..kind
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn at(seconds: u64) -> CoarseInstant {
        CoarseInstant::from_millis(1000 * seconds)
    }

    fn stale(port: u16) -> Kind {
        Kind {
            place: Place::To(Some(PeerLane::normal(
                SocketAddr::from(([127, 0, 0, 1], port)).into(),
            ))),
            cause: Cause::Dropped(DropReason::Stale),
        }
    }

    const FRAME: Count = Count {
        frames: 1,
        bytes: 20,
    };

    #[test]
    fn the_first_loss_is_logged_and_then_the_sum_of_ten_seconds() {
        let log = QuietLog::default();
        assert_eq!(log.note(stale(1), FRAME, at(1)), Some(FRAME));
        assert_eq!(log.note(stale(1), FRAME, at(2)), None);
        assert_eq!(log.note(stale(1), FRAME, at(10)), None);
        let sum = Count::new(3, 60);
        assert_eq!(log.note(stale(1), FRAME, at(11)), Some(sum));
        assert_eq!(log.note(stale(1), FRAME, at(20)), None);
    }

    #[test]
    fn each_peer_and_each_cause_is_a_kind_of_its_own() {
        let log = QuietLog::default();
        let other_cause = Kind {
            cause: Cause::Full(QueueLimit::Bytes),
            ..stale(1)
        };
        for kind in [stale(1), stale(2), other_cause] {
            let noted = log.note(kind.clone(), FRAME, at(1));
            assert_eq!(noted, Some(FRAME), "{kind:?}");
        }
    }

    #[test]
    fn more_kinds_than_can_be_told_apart_share_one_line() {
        let log = QuietLog::default();
        let mut lines = 0;
        for port in 1..=1000 {
            lines += usize::from(log.note(stale(port), FRAME, at(1)).is_some());
        }
        assert_eq!(lines, MAX_KINDS + 1);
        assert_eq!(log.0.lock().logged.len(), MAX_KINDS + 1);
        // The kinds of long ago make room.
        assert_eq!(log.note(stale(5000), FRAME, at(20)), Some(FRAME));
        assert_eq!(log.0.lock().logged.len(), 1);
    }
}
