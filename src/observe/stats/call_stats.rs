//! [`CallStats`] and [`ServedStats`]: what became of calls, on either side.

use super::{Imbalance, balance::check_number};
use crate::call_error::CallError;

/// The calls that this node has made. They are numbers of calls; their bytes are in the counters of frames.
///
/// At every moment, `called = answered + failed + pending`.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CallStats {
    /// How many were made.
    pub called: u64,
    /// How many got an answer.
    pub answered: u64,
    /// How many did not, by reason.
    pub failed: CallFailures,
    /// How many wait for their answer.
    pub pending: u64,
    /// Answers to nobody: the call had ended, or another node was asked, or another life of it. They are not among
    /// the other numbers.
    pub stray: u64,
    /// Answers to typed messages that could not be decoded (feature `remote`). They are among `answered`.
    pub undecodable: u64,
}

/// The calls that got no answer, by reason; see [`CallError`].
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CallFailures {
    /// [`CallError::Deadline`].
    pub deadline: u64,
    /// [`CallError::Unreachable`].
    pub unreachable: u64,
    /// [`CallError::Lost`].
    pub lost: u64,
    /// [`CallError::TooLarge`].
    pub too_large: u64,
    /// [`CallError::Full`].
    pub full: u64,
    /// [`CallError::NoHandler`].
    pub no_handler: u64,
    /// [`CallError::Refused`].
    pub refused: u64,
    /// [`CallError::Unanswered`].
    pub unanswered: u64,
    /// [`CallError::Failed`].
    pub failed: u64,
    /// [`CallError::NotUnderstood`], and typed messages that could not be encoded and were not sent.
    pub not_understood: u64,
    /// [`CallError::Unsupported`].
    pub unsupported: u64,
    /// [`CallError::Stopped`].
    pub stopped: u64,
    /// The caller dropped its future.
    pub cancelled: u64,
}

impl CallStats {
    pub(super) fn balance(&self) -> Result<(), Imbalance> {
        let sum = self.answered + self.failed.total() + self.pending;
        let text = "called = answered + failed + pending";
        check_number("calls", text, self.called, sum)
    }
}

impl CallFailures {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        let CallFailures {
            deadline,
            unreachable,
            lost,
            too_large,
            full,
            no_handler,
            refused,
            unanswered,
            failed,
            not_understood,
            unsupported,
            stopped,
            cancelled,
        } = *self;
        let by_peer = no_handler + refused + unanswered + failed + too_large + not_understood;
        let by_link = deadline + unreachable + lost + unsupported;
        by_peer + by_link + full + stopped + cancelled
    }

    pub(crate) fn count(&mut self, why: &CallError) {
        let counter = match why {
            CallError::Deadline { .. } => &mut self.deadline,
            CallError::Unreachable { .. } => &mut self.unreachable,
            CallError::Lost { .. } => &mut self.lost,
            CallError::TooLarge { .. } => &mut self.too_large,
            CallError::Full => &mut self.full,
            CallError::NoHandler => &mut self.no_handler,
            CallError::Refused => &mut self.refused,
            CallError::Unanswered => &mut self.unanswered,
            CallError::Failed { .. } => &mut self.failed,
            CallError::NotUnderstood(_) => &mut self.not_understood,
            CallError::Unsupported => &mut self.unsupported,
            CallError::Stopped => &mut self.stopped,
        };
        *counter += 1;
    }
}

/// The calls of other nodes that this node has received.
///
/// At every moment, `received = answered + failed + not_understood + unanswered + refused + no_handler + expired + cancelled +
/// serving`.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServedStats {
    /// How many came.
    pub received: u64,
    /// How many a handler has answered in time, while their caller waited.
    pub answered: u64,
    /// How many a handler has [failed](crate::Call::fail).
    pub failed: u64,
    /// How many were typed messages (feature `remote`) that the group does not serve, that are newer than this node
    /// knows, or that could not be decoded; and how many a handler has handled with a result that could not be encoded.
    pub not_understood: u64,
    /// How many a handler has dropped.
    pub unanswered: u64,
    /// How many no handler has seen, because as many were being served as may be, or the same one came twice.
    pub refused: u64,
    /// How many were for groups whose calls nobody serves.
    pub no_handler: u64,
    /// How many were too late: before a handler took them, or before it answered.
    pub expired: u64,
    /// How many were given up by their callers: before a handler took them, or before it answered.
    pub cancelled: u64,
    /// How many are with handlers, or wait for one.
    pub serving: u64,
    /// Answers that could not be queued: the queue was full until the deadline, or the group could hold no more answers
    /// that wait, or the caller's node was forgotten, or this one stopped. They are among `answered` and `failed`. One
    /// that is longer than a frame also counts here if not all of it was written by the deadline; if all of it was queued
    /// by then, it may come all the same. An answer that the queue drops later counts there, as other frames do.
    pub lost_answers: u64,
}

impl ServedStats {
    pub(super) fn balance(&self) -> Result<(), Imbalance> {
        let ended = self.answered + self.failed + self.unanswered + self.expired + self.cancelled;
        let sum = ended + self.not_understood + self.refused + self.no_handler + self.serving;
        let text = "received = answered + failed + not_understood + unanswered + refused + no_handler + expired + cancelled + serving";
        check_number("served calls", text, self.received, sum)
    }
}
