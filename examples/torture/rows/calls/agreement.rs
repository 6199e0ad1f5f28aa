//! Compares the counters of both nodes, and those of each with its journal, over a phase in which neither was killed.
//!
//! Between two moments at which no call is under way, always:
//!
//! - A node has counted as many calls as its callers made, and each reason at least as often as a caller was told it.
//!   (A call may end in the moment in which its caller gives up; it counts by its end then.)
//! - Handlers got each call that their node counts as answered, failed or unanswered, and no others but those that it
//!   counts as too late or given up.
//! - The other node has received no more calls than were sent.
//! - No more callers have got an answer than were answered, and likewise for each other thing that a node says of a call.
//!   In total no more has come than was said, to callers or as stray.
//!
//! Without faults, moreover:
//!
//! - All that was said has come, to callers or as stray, except answers that count as lost.
//! - Each call that was sent has come. Whether a call was that was given up is not known to its caller.
//!
//! And if callers are patient, too, then each call that was made has come and was answered, and each kind of answer has come
//! as often as it was given.

use super::{account::Account, message::Life, told::Told};
use crate::row::Figures;

/// What happens in a phase.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Phase {
    /// Connections are cut, held back and refused, and processes are paused. Callers are impatient.
    Faults,
    /// Callers are impatient.
    Calm,
    /// Callers are patient.
    Patient,
}

/// What the callers of one node and the handlers of the other have done in a phase.
struct Direction {
    phase: Phase,
    from: Life,
    caller: Account,
    handler: Account,
}

/// The answers by their kinds: how the caller's node counts them, and the handler's.
const KINDS: [(&str, &str); 5] = [
    ("called.answered", "served.answered"),
    ("called.failed.failed", "served.failed"),
    ("called.failed.unanswered", "served.unanswered"),
    ("called.failed.refused", "served.refused"),
    ("called.failed.no_handler", "served.no_handler"),
];

/// Compares both nodes. `before` and `after` are at the ends of the phase.
pub(super) fn check(
    phase: Phase,
    lives: [Life; 2],
    before: &[Account; 2],
    after: &[Account; 2],
    figures: &mut Figures,
) {
    let label = match phase {
        Phase::Faults => "with faults: called, unsent, given up, came; answers given, lost, come",
        Phase::Calm => "without faults",
        Phase::Patient => "without faults, by patient callers",
    };
    let mut texts = Vec::new();
    for (from, life) in lives.into_iter().enumerate() {
        let [caller, handler] = [from, 1 - from].map(|node| after[node].since(&before[node]));
        let direction = Direction {
            phase,
            from: life,
            caller,
            handler,
        };
        direction.check_caller(figures);
        direction.check_handler(figures);
        direction.check_calls(figures);
        direction.check_answers(figures);
        texts.push(direction.text());
    }
    for node in after {
        figures.require(node.is_quiet(), || format!("calls are left after {label}"));
    }
    figures.add(label, texts.join(" and "));
}

impl Direction {
    /// Compares what a node has counted with what its callers were told.
    fn check_caller(&self, figures: &mut Figures) {
        let (counted, made) = (self.caller.of("called.called"), self.caller.tally.called);
        self.require(counted == made, figures, || {
            format!("{made} calls were made and {counted} counted")
        });
        let ended = self.caller.tally.told(|_| true);
        self.require(ended == made, figures, || {
            format!("{made} calls were made and {ended} ended")
        });
        for told in Told::all().filter(|told| *told != Told::GivenUp) {
            let counter = told.counter();
            let (counted, told) = (
                self.caller.of(counter),
                self.caller.tally.told(|other| other.counter() == counter),
            );
            self.require(told <= counted, figures, || {
                format!("{told} callers were told what {counter} counts {counted} times")
            });
        }
        let (counted, gave_up) = (self.caller.of("called.failed.cancelled"), self.given_up());
        self.require(counted <= gave_up, figures, || {
            format!("{gave_up} callers gave up and {counted} counted")
        });
    }

    /// Compares what a node has counted with what its handlers got.
    fn check_handler(&self, figures: &mut Figures) {
        let of = |name| self.handler.of(name);
        let ended = of("served.answered") + of("served.failed") + of("served.unanswered");
        let too_late = of("served.expired") + of("served.cancelled");
        let served = self.handler.tally.served;
        self.require((ended..=ended + too_late).contains(&served), figures, || {
            format!(
                "handlers got {served} calls, and {ended} count as served and {too_late} as too late"
            )
        });
        let (told, gave_up) = (
            of("served.cancelled"),
            self.caller.of("called.failed.cancelled"),
        );
        self.require(told <= gave_up, figures, || {
            format!("{gave_up} callers gave up and handlers heard it of {told}")
        });
    }

    /// Compares the calls that were sent with those that came.
    fn check_calls(&self, figures: &mut Figures) {
        let sent = self.caller.tally.called - self.unsent();
        let received = self.handler.of("served.received");
        self.require(received <= sent, figures, || {
            format!("at most {sent} calls were sent and {received} came")
        });
        if self.phase >= Phase::Calm {
            let surely = sent - self.given_up();
            self.require(received >= surely, figures, || {
                format!("{surely} calls were sent and {received} came")
            });
        }
        self.require(received > 0, figures, || "no call came".into());
    }

    /// Compares the answers that were given with those that came.
    fn check_answers(&self, figures: &mut Figures) {
        for (kind, given) in KINDS {
            let (heard, told) = (self.caller.of(kind), self.handler.of(given));
            let agree = match self.phase {
                Phase::Patient => heard == told,
                _ => heard <= told,
            };
            self.require(agree, figures, || {
                format!("{given} is {told} and {kind} is {heard}")
            });
        }
        let (told, heard) = (self.answers_given(), self.answers_come());
        let lost = self.handler.of("served.lost_answers");
        let at_least = match self.phase {
            Phase::Faults => 0,
            Phase::Calm => told - lost,
            Phase::Patient => told,
        };
        let agree = (at_least..=told).contains(&heard);
        self.require(agree, figures, || {
            format!("{told} answers were given, {lost} lost, and {heard} came")
        });
        if self.phase == Phase::Patient {
            let (called, received) = (
                self.caller.of("called.called"),
                self.handler.of("served.received"),
            );
            let all_equal = called == received && received == told;
            self.require(all_equal, figures, || {
                format!("{called} patient calls, {received} came, {told} answers given")
            });
        }
    }

    /// Calls of which callers know that they were not sent.
    fn unsent(&self) -> u64 {
        self.caller.tally.told(Told::is_unsent)
    }

    fn given_up(&self) -> u64 {
        self.caller.tally.told(|told| told == Told::GivenUp)
    }

    fn answers_given(&self) -> u64 {
        KINDS.iter().map(|(_, told)| self.handler.of(told)).sum()
    }

    fn answers_come(&self) -> u64 {
        let to_callers: u64 = KINDS.iter().map(|(heard, _)| self.caller.of(heard)).sum();
        to_callers + self.caller.of("called.stray")
    }

    fn text(&self) -> String {
        let (called, unsent) = (self.caller.tally.called, self.unsent());
        let (gave_up, received) = (self.given_up(), self.handler.of("served.received"));
        let (told, heard) = (self.answers_given(), self.answers_come());
        let lost = self.handler.of("served.lost_answers");
        format!("{called}, {unsent}, {gave_up}, {received}; {told}, {lost}, {heard}")
    }

    fn require(&self, holds: bool, figures: &mut Figures, problem: impl FnOnce() -> String) {
        figures.require(holds, || {
            let Life { node, incarnation } = self.from;
            let phase = self.phase;
            format!(
                "{phase:?}, calls of {node} in its life {incarnation}: {}",
                problem()
            )
        });
    }
}
