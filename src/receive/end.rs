//! [`End`]: why a connection ended, and how that is counted.

use std::{borrow::Cow, io, net::SocketAddr};

use crate::{
    observe::{event::DownReason, receive_accounts::ReceiveAccounts},
    wire::{control::refused::RefusedReason, frame::Malformed},
};

/// Why a connection ended.
pub(super) enum End {
    /// The transport reads no more.
    Closing,
    /// A frame was not complete in time.
    FrameTimedOut,
    /// The memory of all connections was used up, and its unfinished frame was the largest.
    GivenUp,
    Malformed(Malformed),
    /// The other end does not introduce itself as it should.
    BadHandshake(Cow<'static, str>),
    /// The node at the other end was refused, or a later incarnation of it has come.
    Refused(RefusedReason),
    /// The certificate of the node at the other end is not accepted any more.
    Untrusted,
    /// The node at the other end does not want to talk to this one.
    RefusedByPeer(RefusedReason),
    /// A later link brings the frames of the same queue, and has waited long enough for this one.
    GaveWay,
    /// This end has ended the link, and the far end has sent nothing since, and has not ended it.
    NotWritten,
    ClosedByPeer,
    /// The socket failed.
    Failed(io::Error),
}

impl End {
    /// Returns why the link ends, for the half that writes.
    pub(super) fn as_down_reason(&self) -> DownReason {
        match self {
            End::ClosedByPeer => DownReason::Closed,
            End::Failed(err) => DownReason::Lost(err.kind()),
            End::Malformed(_) | End::BadHandshake(_) => DownReason::Spoke,
            End::Refused(_) => DownReason::Superseded,
            End::Untrusted => DownReason::Untrusted,
            End::RefusedByPeer(reason) => DownReason::Refused(*reason),
            End::Closing | End::FrameTimedOut | End::GivenUp | End::GaveWay | End::NotWritten => {
                DownReason::Ended
            }
        }
    }

    /// Counts it, and reports it. `unfinished`: in the middle of a frame.
    pub(super) fn count(&self, from: SocketAddr, accounts: &ReceiveAccounts, unfinished: bool) {
        let reporter = accounts.reporter();
        match self {
            End::Closing => return,
            End::FrameTimedOut => {
                reporter.timed_out(from);
                return accounts.timed_out();
            }
            End::GivenUp => {
                tracing::debug!(%from, "the memory for received frames is used up, connection closed");
                return accounts.given_up();
            }
            End::Malformed(Malformed { length }) => {
                reporter.malformed(from, *length);
                return accounts.malformed();
            }
            End::BadHandshake(problem) => return reporter.bad_handshake(from, problem),
            End::Refused(reason) | End::RefusedByPeer(reason) => {
                return reporter.refusal(from, *reason);
            }
            End::Untrusted => return reporter.untrusted(from),
            End::GaveWay => tracing::debug!(%from, "a later link of the same queue has come"),
            End::NotWritten => tracing::debug!(%from, "this end writes no more"),
            End::ClosedByPeer => reporter.connection_ended(from, None),
            End::Failed(err) => reporter.connection_ended(from, Some(err)),
        }
        if unfinished {
            accounts.truncated();
        }
    }
}
