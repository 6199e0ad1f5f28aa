//! What the far end of a link sends back to the end that writes.
//!
//! Frames flow one way, so without sessions the far end has nothing to send but the end of the connection: a
//! link that becomes readable is closing, or its far end does not speak this protocol. With sessions it
//! answers the `Hello`, once. This is the only place that reads on a link we dialled.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    ids::NodeId,
    net::tcp::Stream,
    observe::event::DownReason,
    peer_addr::PeerAddr,
    session::{context::SessionContext, known_nodes::Session},
    wire::control::{Control, Front, MAX_CONTROL, refused::RefusedReason},
};

/// What may come back on one link, and what has come. Locked only while the link is readable.
#[derive(Debug)]
pub(crate) struct BackChannel {
    state: Mutex<State>,
    /// Whether the far end is asked for an answer at all.
    has_hello: bool,
    /// Notified when the link gets its session.
    welcomed: Notify,
}

#[derive(Debug)]
enum State {
    /// Nothing more may come, because no `Hello` was sent.
    Silent,
    /// The answer to a `Hello` may come.
    Awaiting(Awaiting),
    /// The far end has answered, and may send nothing more.
    Welcomed(Session),
}

#[derive(Debug)]
struct Awaiting {
    context: Arc<SessionContext>,
    peer: PeerAddr,
    meant: Option<NodeId>,
    /// The beginning of the answer.
    bytes: Vec<u8>,
}

impl BackChannel {
    /// Makes the one of a link without a `Hello`.
    pub(crate) fn silent() -> Self {
        BackChannel::new(State::Silent, false)
    }

    /// Makes the one of a link on which a `Hello` for `meant` is sent.
    pub(super) fn awaiting(
        context: Arc<SessionContext>,
        peer: PeerAddr,
        meant: Option<NodeId>,
    ) -> Self {
        let awaiting = Awaiting {
            context,
            peer,
            meant,
            bytes: Vec::new(),
        };
        BackChannel::new(State::Awaiting(awaiting), true)
    }

    fn new(state: State, has_hello: bool) -> Self {
        BackChannel {
            state: Mutex::new(state),
            has_hello,
            welcomed: Notify::new(),
        }
    }

    /// Returns whether a later incarnation of the node at the far end may end this link.
    pub(super) fn may_be_superseded(&self) -> bool {
        self.has_hello
    }

    /// Returns the node at the far end, if it has answered.
    pub(super) fn node(&self) -> Option<NodeId> {
        match &*self.state.lock() {
            State::Welcomed(session) => Some(session.node),
            State::Silent | State::Awaiting(_) => None,
        }
    }

    /// Waits until a later incarnation of the node at the far end has come.
    pub(super) async fn superseded(&self) {
        loop {
            let welcomed = self.welcomed.notified();
            let superseded = match &*self.state.lock() {
                State::Welcomed(session) => Some(session.superseded.clone()),
                State::Silent | State::Awaiting(_) => None,
            };
            match superseded {
                Some(superseded) => return superseded.cancelled().await,
                None => welcomed.await,
            }
        }
    }

    /// Waits until the far end has answered with a `Welcome`. Fails if the link must end instead.
    pub(super) async fn until_welcomed(&self, stream: &Stream) -> Result<(), DownReason> {
        loop {
            stream.readable().await.map_err(|err| lost(&err))?;
            if let Some(reason) = self.read(stream) {
                return Err(reason);
            }
            if matches!(&*self.state.lock(), State::Welcomed(_)) {
                return Ok(());
            }
        }
    }

    /// Waits until the far end closes the link, or sends something that ends it.
    pub(super) async fn until_far_end_closes(&self, stream: &Stream) -> DownReason {
        loop {
            if let Err(err) = stream.readable().await {
                return lost(&err);
            }
            if let Some(reason) = self.read(stream) {
                return reason;
            }
        }
    }

    /// Reads what the far end sent. Returns why the link must end, or `None` if it goes on.
    pub(super) fn read(&self, stream: &Stream) -> Option<DownReason> {
        loop {
            // As much as all answers of today take.
            let mut bytes = [0; 1024];
            let read = match stream.try_read(&mut bytes) {
                Ok(0) => return Some(DownReason::Closed),
                Ok(n) => &bytes[..n],
                // The readiness was out of date.
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return None,
                Err(err) => return Some(lost(&err)),
            };
            if let Some(reason) = self.take(read) {
                return Some(reason);
            }
        }
    }

    /// Takes bytes that have been read.
    fn take(&self, bytes: &[u8]) -> Option<DownReason> {
        let mut state = self.state.lock();
        let State::Awaiting(awaiting) = &mut *state else {
            return Some(DownReason::Spoke);
        };
        match awaiting.take(bytes) {
            Ok(None) => None,
            Ok(Some(session)) => {
                *state = State::Welcomed(session);
                self.welcomed.notify_one();
                None
            }
            Err(reason) => Some(reason),
        }
    }
}

impl Awaiting {
    /// Takes bytes that have been read. Returns the session once the answer is there and agrees with what
    /// was meant.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<Session>, DownReason> {
        // One read brings less than this, so it is bounded. A longer answer is none.
        debug_assert!(self.bytes.len() < MAX_CONTROL);
        self.bytes.extend_from_slice(bytes);
        let (control, len) = match Control::front(&self.bytes) {
            Ok(Front::Incomplete) => return Ok(None),
            Ok(Front::Control(control, len)) => (control, len),
            Ok(Front::Other) => return Err(DownReason::Spoke),
            Err(err) => {
                tracing::debug!(peer = %self.peer, %err, "answer to the Hello cannot be read");
                return Err(DownReason::Spoke);
            }
        };
        let from = match control {
            Control::Welcome { from, .. } if len == self.bytes.len() => from,
            Control::Refused(refused) => {
                self.context.refused(refused);
                return Err(DownReason::Refused(refused.reason));
            }
            Control::OtherVersion => return Err(DownReason::Refused(RefusedReason::Version)),
            _ => return Err(DownReason::Spoke),
        };
        let session = self.context.welcomed(&from, self.meant);
        let session = session.map_err(DownReason::Refused)?;
        let (peer, node, incarnation) = (&self.peer, from.node, from.incarnation);
        tracing::debug!(%peer, %node, %incarnation, max_frame = from.max_frame, "welcome");
        Ok(Some(session))
    }
}

pub(super) fn lost(err: &io::Error) -> DownReason {
    DownReason::Lost(err.kind())
}
