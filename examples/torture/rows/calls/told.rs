//! [`Told`]: what a caller knows of its call in the end.

use actix_transport::CallError;
use bytes::Bytes;

use super::message::Question;

#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Told {
    Answered,
    /// By the handler.
    Failed,
    /// The handler has dropped the call.
    Unanswered,
    Refused,
    NoHandler,
    Full,
    Unreachable,
    DeadlineUnsent,
    LostUnsent,
    Deadline,
    Lost,
    /// The caller's node stops.
    Stopped,
    /// The caller has given up.
    GivenUp,
    /// An answer that is not the one to the question, or an error that cannot be.
    Wrong,
}

/// All that a caller may be told. The first text is how a journal writes it, the second is the counter of the caller's node
/// that counts it.
const ALL: [(Told, &str, &str); 14] = [
    (Told::Answered, "answered", "called.answered"),
    (Told::Failed, "failed", "called.failed.failed"),
    (Told::Unanswered, "unanswered", "called.failed.unanswered"),
    (Told::Refused, "refused", "called.failed.refused"),
    (Told::NoHandler, "no-handler", "called.failed.no_handler"),
    (Told::Full, "full", "called.failed.full"),
    (
        Told::Unreachable,
        "unreachable",
        "called.failed.unreachable",
    ),
    (
        Told::DeadlineUnsent,
        "deadline-unsent",
        "called.failed.deadline",
    ),
    (Told::LostUnsent, "lost-unsent", "called.failed.lost"),
    (Told::Deadline, "deadline", "called.failed.deadline"),
    (Told::Lost, "lost", "called.failed.lost"),
    (Told::Stopped, "stopped", "called.failed.stopped"),
    (Told::GivenUp, "given-up", "called.failed.cancelled"),
    (Told::Wrong, "wrong", "called.answered"),
];

/// Whether a handler has seen a call, as far as its caller knows.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Served {
    Yes,
    No,
    Perhaps,
}

impl Told {
    /// Returns what the caller of `question` makes of this.
    pub(super) fn of(ended: Result<Bytes, CallError>, question: Question) -> Self {
        let err = match ended {
            Ok(bytes) if bytes == question.answer() => return Told::Answered,
            Ok(_) => return Told::Wrong,
            Err(err) => err,
        };
        let may_be_served = err.may_be_served();
        let told = match err {
            CallError::Failed { code, ref text } if is_right((code, text), question) => {
                Told::Failed
            }
            CallError::Unanswered => Told::Unanswered,
            CallError::Refused => Told::Refused,
            CallError::NoHandler => Told::NoHandler,
            CallError::Full => Told::Full,
            CallError::Stopped => Told::Stopped,
            CallError::Unreachable { .. } => Told::Unreachable,
            CallError::Deadline { sent: false } => Told::DeadlineUnsent,
            CallError::Lost { sent: false } => Told::LostUnsent,
            CallError::Deadline { sent: true } => Told::Deadline,
            CallError::Lost { sent: true } => Told::Lost,
            _ => Told::Wrong,
        };
        match may_be_served == (told.served() != Served::No) {
            true => told,
            false => Told::Wrong,
        }
    }

    pub(super) fn all() -> impl Iterator<Item = Told> {
        ALL.into_iter().map(|(told, _, _)| told)
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        let found = ALL.into_iter().find(|(_, its, _)| *its == word);
        found.map(|(told, _, _)| told)
    }

    pub(super) fn word(self) -> &'static str {
        ALL[self as usize].1
    }

    /// Returns the counter of the caller's node that counts this, perhaps among others.
    pub(super) fn counter(self) -> &'static str {
        ALL[self as usize].2
    }

    /// Returns whether the call was not sent, so that the other node has not received it.
    pub(super) fn is_unsent(self) -> bool {
        use Told::*;
        matches!(self, Full | Unreachable | DeadlineUnsent | LostUnsent)
    }

    /// Returns whether a handler has seen the call.
    pub(super) fn served(self) -> Served {
        use Told::*;
        match self {
            Answered | Failed | Unanswered => Served::Yes,
            Refused | NoHandler => Served::No,
            _ if self.is_unsent() => Served::No,
            _ => Served::Perhaps,
        }
    }
}

fn is_right((code, text): (u32, &str), question: Question) -> bool {
    let (right_code, right_text) = question.failure();
    code == right_code && text == right_text
}
