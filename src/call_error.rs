//! [`CallError`]: why a call got no answer.

use std::time::Duration;

/// Why a call got no answer.
///
/// `sent: false` guarantees that no handler has seen the call and none will. [`may_be_served`](CallError::may_be_served)
/// says that of every error.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The time was over before an answer came.
    #[error("no answer in time ({})", sent_text(*.sent))]
    Deadline {
        /// Whether the call was sent.
        sent: bool,
    },
    /// The peer could not be reached: a dial failed while the call waited for a connection. The call was not sent.
    #[error("the peer has not been reachable for {since:?}")]
    Unreachable {
        /// For how long there has been no connection.
        since: Duration,
    },
    /// The connection ended before an answer came, or the call was dropped before it was written.
    #[error("the call was lost ({})", sent_text(*.sent))]
    Lost {
        /// Whether the call was sent.
        sent: bool,
    },
    /// The call is longer than the peer takes, or the answer is longer than this node takes.
    #[error("{what} is too large")]
    TooLarge {
        /// Which of the two.
        what: CallPart,
    },
    /// As many calls as allowed wait for answers from this peer, or of all peers: [`Config::peer_calls`](crate::Config::peer_calls)
    /// and the settings beside it. The call was not sent. Only [`Peer::try_call`](crate::Peer::try_call) returns this.
    #[error("too many calls wait for answers")]
    Full,
    /// Nobody serves the calls of this group on the other node.
    #[error("nobody serves the calls of the group")]
    NoHandler,
    /// The other node serves as many calls as it may. No handler has seen this one.
    #[error("the other node serves too many calls")]
    Refused,
    /// The handler has dropped the call without an answer: it panicked, or its actor ended, or it has a defect.
    #[error("the handler dropped the call")]
    Unanswered,
    /// The handler says that the call has failed.
    #[error("the call failed with code {code}: {text}")]
    Failed {
        /// What the handler says, as a number.
        code: u32,
        /// What the handler says, in words.
        text: String,
    },
    /// The other node has not understood the typed message that the call carries. Callers that send typed messages get
    /// a `RemoteError` instead, which also names the message.
    #[error(transparent)]
    NotUnderstood(NotUnderstood),
    /// The peer cannot be called: it has no identity, or this node has none, or its release knows no calls. The call
    /// was not sent.
    #[error("the peer takes no calls: both nodes need an identity")]
    Unsupported,
    /// The transport is stopping or has stopped, or the peer was forgotten.
    #[error("the transport has stopped, or the peer was forgotten")]
    Stopped,
}

impl CallError {
    /// Returns whether a handler may have got the call. If not, none has and none will, so the call may be made again,
    /// here or elsewhere, without being served twice.
    pub fn may_be_served(&self) -> bool {
        match self {
            CallError::Deadline { sent } | CallError::Lost { sent } => *sent,
            CallError::TooLarge { what } => *what == CallPart::Answer,
            CallError::NotUnderstood(why) => match why {
                NotUnderstood::Unknown
                | NotUnderstood::Version { .. }
                | NotUnderstood::Undecodable { .. } => false,
                NotUnderstood::Unencodable { .. } => true,
            },
            CallError::Unreachable { .. }
            | CallError::Full
            | CallError::NoHandler
            | CallError::Refused
            | CallError::Unsupported => false,
            CallError::Unanswered | CallError::Failed { .. } | CallError::Stopped => true,
        }
    }
}

/// What a node has not understood of a typed message (feature `remote`).
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotUnderstood {
    /// The group serves no message with this id. No handler has seen it.
    #[error("the group serves no such message")]
    Unknown,
    /// The message is newer than the newest version that the other node knows. No handler has seen it.
    #[error("the other node knows versions up to {known}")]
    Version {
        /// The newest version that it knows.
        known: u16,
    },
    /// The message cannot be decoded. No handler has seen it.
    #[error("the message cannot be decoded: {text}")]
    Undecodable {
        /// What the codec says.
        text: String,
    },
    /// A handler has handled the message, but its result cannot be encoded.
    #[error("the result cannot be encoded: {text}")]
    Unencodable {
        /// What the codec says.
        text: String,
    },
}

/// A part of a call.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
pub enum CallPart {
    /// What the caller sent.
    Call,
    /// What the handler answered.
    Answer,
}

impl std::fmt::Display for CallPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CallPart::Call => "the call",
            CallPart::Answer => "the answer",
        })
    }
}

fn sent_text(sent: bool) -> &'static str {
    match sent {
        true => "it was sent",
        false => "it was not sent",
    }
}
