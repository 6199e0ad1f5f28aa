//! [`HandshakeError`]: why there is no encrypted connection.

use std::{error::Error, fmt, io};

use crate::net::tls::failures::HandshakeFailure;

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    pub(crate) reason: HandshakeFailure,
    /// What rustls or the system says.
    detail: Option<String>,
    /// Whether the far end has sent anything.
    is_answered: bool,
}

impl HandshakeError {
    /// Of a connection that failed.
    pub(super) fn lost(err: &io::Error) -> Self {
        HandshakeError {
            reason: HandshakeFailure::Closed,
            detail: Some(err.to_string()),
            is_answered: false,
        }
    }

    /// Of a handshake in which so many bytes were `received`, which may be `too_many`.
    pub(super) fn new(err: &io::Error, received: usize, too_many: bool) -> Self {
        let cause = err.get_ref().and_then(|err| err.downcast_ref());
        let reason = match cause {
            _ if too_many => HandshakeFailure::TooLong,
            Some(err) => HandshakeFailure::of(err),
            None => HandshakeFailure::Closed,
        };
        HandshakeError {
            reason,
            detail: cause.map(rustls::Error::to_string),
            is_answered: received > 0,
        }
    }

    /// Of a connection whose handshake cannot even begin.
    pub(super) fn unable(err: &rustls::Error) -> Self {
        HandshakeError {
            reason: HandshakeFailure::of(err),
            detail: Some(err.to_string()),
            is_answered: false,
        }
    }

    /// Returns whether the far end may be one without TLS: it has closed the connection without an answer.
    pub(crate) fn may_be_plain(&self) -> bool {
        self.reason == HandshakeFailure::Closed && !self.is_answered
    }

    /// Returns whether the next handshake will most likely fail, too.
    pub(crate) fn lasts(&self) -> bool {
        !matches!(
            self.reason,
            HandshakeFailure::Closed | HandshakeFailure::TimedOut | HandshakeFailure::Crowded
        )
    }

    /// Returns the error of a link that could not be made.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.reason {
            HandshakeFailure::TimedOut => io::ErrorKind::TimedOut,
            HandshakeFailure::Closed => io::ErrorKind::UnexpectedEof,
            HandshakeFailure::NotTls | HandshakeFailure::TooLong => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, self)
    }
}

impl From<HandshakeFailure> for HandshakeError {
    fn from(reason: HandshakeFailure) -> Self {
        HandshakeError {
            reason,
            detail: None,
            is_answered: false,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

impl Error for HandshakeError {}
