//! [`RemoteError`] and [`RemoteSendError`]: why a message got no result.

use std::fmt;

use crate::{
    call_error::{CallError, CallPart, NotUnderstood},
    remote::{codec::CodecError, message::RemoteMessage},
};

/// Why a typed message got no result. What a handler returns is a result, even if that is an `Err`: it is in the `Ok` of
/// [`RemoteRecipient::send`](crate::RemoteRecipient::send).
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The call that carried the message has failed. It says whether it was sent.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The group on the other node does not serve this message. No handler has seen it.
    #[error("{message}: the group serves no messages with id {id}")]
    Unknown {
        /// [`RemoteMessage::name`] of the message.
        message: &'static str,
        /// Its id.
        id: u32,
    },
    /// The other node knows only older versions of the message. No handler has seen it.
    #[error(
        "{message}: version {version} is newer than {known}, the newest that the other node knows"
    )]
    Version {
        /// [`RemoteMessage::name`] of the message.
        message: &'static str,
        /// The version that this node has sent.
        version: u16,
        /// The newest version that the other node knows.
        known: u16,
    },
    /// The message, or its result, cannot be encoded, or is longer than [`RemoteMessage::MAX_BYTES`].
    #[error("{message}: {what} cannot be encoded: {text}")]
    Unencodable {
        /// [`RemoteMessage::name`] of the message.
        message: &'static str,
        /// [`CallPart::Call`] is the message, which was not sent; [`CallPart::Answer`] is the result, so a handler has
        /// handled the message.
        what: CallPart,
        /// What the codec says.
        text: String,
    },
    /// The bytes of the message, or of its result, cannot be decoded, or are more than [`RemoteMessage::MAX_BYTES`].
    #[error("{message}: {what} cannot be decoded: {text}")]
    Undecodable {
        /// [`RemoteMessage::name`] of the message.
        message: &'static str,
        /// [`CallPart::Call`] is the message, which no handler has seen; [`CallPart::Answer`] is the result, so a
        /// handler has handled the message.
        what: CallPart,
        /// What the codec says.
        text: String,
    },
}

impl RemoteError {
    /// Returns whether a handler may have got the message. If not, none has and none will, so it may be sent again, here
    /// or elsewhere, without being handled twice.
    pub fn may_be_served(&self) -> bool {
        match self {
            RemoteError::Call(why) => why.may_be_served(),
            RemoteError::Unknown { .. } | RemoteError::Version { .. } => false,
            RemoteError::Unencodable { what, .. } | RemoteError::Undecodable { what, .. } => {
                *what == CallPart::Answer
            }
        }
    }

    pub(super) fn of<M: RemoteMessage>(why: CallError) -> Self {
        let CallError::NotUnderstood(why) = why else {
            return RemoteError::Call(why);
        };
        let message = M::name();
        match why {
            NotUnderstood::Unknown => RemoteError::Unknown { message, id: M::ID },
            NotUnderstood::Version { known } => RemoteError::Version {
                message,
                version: M::VERSION,
                known,
            },
            NotUnderstood::Undecodable { text } => RemoteError::Undecodable {
                message,
                what: CallPart::Call,
                text,
            },
            NotUnderstood::Unencodable { text } => RemoteError::Unencodable {
                message,
                what: CallPart::Answer,
                text,
            },
        }
    }

    pub(super) fn unencodable<M: RemoteMessage>(why: CodecError) -> Self {
        RemoteError::Unencodable {
            message: M::name(),
            what: CallPart::Call,
            text: why.into_text(),
        }
    }

    pub(super) fn undecodable<M: RemoteMessage>(why: CodecError) -> Self {
        RemoteError::Undecodable {
            message: M::name(),
            what: CallPart::Answer,
            text: why.into_text(),
        }
    }
}

/// Why a message could not be sent at once, and the message.
#[derive(Clone, Eq, PartialEq)]
pub struct RemoteSendError<M> {
    /// Why.
    pub error: RemoteError,
    /// The message.
    pub message: M,
}

impl<M> fmt::Debug for RemoteSendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSendError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for RemoteSendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> std::error::Error for RemoteSendError<M> {}
