//! What the far end of a link sends back to the end that writes.
//!
//! Where frames flow one way, the far end has nothing to send but the end of the connection: a link that
//! becomes readable is closing, or its far end does not speak this protocol. With sessions it answers the
//! `Hello`, once. If it is to send frames from then on, the half that reads leaves this place.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    ids::NodeId,
    net::halves::ReadHalf,
    observe::event::DownReason,
    peer_addr::PeerAddr,
    session::{admitted::Session, context::SessionContext},
    wire::control::{
        Control, Front, MAX_CONTROL,
        node_info::{Features, NodeInfo},
        refused::{Refused, RefusedReason},
    },
};

/// What may come back on one link, and what has come. Locked only while the link is readable.
#[derive(Debug)]
pub(crate) struct BackChannel {
    reading: ReadHalf,
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
    /// The far end has answered. It may send nothing more while this end reads here.
    Welcomed(Welcomed),
}

/// The answer of the far end, and who it is.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub(super) session: Session,
    pub(super) from: NodeInfo,
    /// What came behind the answer.
    pub(super) rest: Bytes,
}

#[derive(Debug)]
struct Awaiting {
    context: Arc<SessionContext>,
    peer: PeerAddr,
    meant: Option<NodeId>,
    /// Whether frames may follow the answer.
    both_ways: bool,
    /// Whether this end has stopped waiting for the answer, although frames may follow it.
    is_late: bool,
    /// The beginning of the answer.
    bytes: Vec<u8>,
    /// What the far end should hear of its answer, if that is not acceptable.
    objection: Option<Vec<u8>>,
}

impl BackChannel {
    /// Makes the one of a link without a `Hello`.
    pub(crate) fn silent(reading: ReadHalf) -> Self {
        BackChannel::new(reading, State::Silent, false)
    }

    /// Makes the one of a link on which a `Hello` for `meant` is sent.
    pub(super) fn awaiting(
        reading: ReadHalf,
        context: Arc<SessionContext>,
        peer: PeerAddr,
        meant: Option<NodeId>,
        both_ways: bool,
    ) -> Self {
        let awaiting = Awaiting {
            context,
            peer,
            meant,
            both_ways,
            is_late: false,
            bytes: Vec::new(),
            objection: None,
        };
        BackChannel::new(reading, State::Awaiting(awaiting), true)
    }

    fn new(reading: ReadHalf, state: State, has_hello: bool) -> Self {
        BackChannel {
            reading,
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
            State::Welcomed(welcomed) => Some(welcomed.from.node),
            State::Silent | State::Awaiting(_) => None,
        }
    }

    /// Returns why TLS ended the link, if it did.
    pub(super) fn tls_failure(&self) -> Option<String> {
        self.reading.tls().and_then(|tls| tls.failure())
    }

    /// Waits until a later incarnation of the node at the far end has come.
    pub(super) async fn superseded(&self) {
        loop {
            let welcomed = self.welcomed.notified();
            let superseded = match &*self.state.lock() {
                State::Welcomed(welcomed) => Some(welcomed.session.superseded.clone()),
                State::Silent | State::Awaiting(_) => None,
            };
            match superseded {
                Some(superseded) => return superseded.cancelled().await,
                None => welcomed.await,
            }
        }
    }

    /// Waits until the far end has answered with a `Welcome`. Fails if the link must end instead.
    pub(super) async fn until_welcomed(&self) -> Result<(), DownReason> {
        loop {
            self.reading
                .readable()
                .await
                .map_err(|err| DownReason::lost(&err))?;
            if let Some(reason) = self.read() {
                return Err(reason);
            }
            if matches!(&*self.state.lock(), State::Welcomed(_)) {
                return Ok(());
            }
        }
    }

    /// Notes that frames leave although no answer has come.
    pub(super) fn frames_leave_now(&self) {
        if let State::Awaiting(awaiting) = &mut *self.state.lock() {
            awaiting.is_late = awaiting.both_ways;
        }
    }

    /// Takes out what the far end should hear of its answer.
    pub(super) fn take_objection(&self) -> Option<Vec<u8>> {
        match &mut *self.state.lock() {
            State::Awaiting(awaiting) => awaiting.objection.take(),
            State::Silent | State::Welcomed(_) => None,
        }
    }

    /// Takes the half that reads away, with the answer, if frames may follow that. Otherwise everything
    /// stays here.
    pub(super) fn hand_over(self) -> Result<(ReadHalf, Welcomed), Box<Self>> {
        let BackChannel {
            reading,
            state,
            has_hello,
            welcomed: notify,
        } = self;
        match state.into_inner() {
            State::Welcomed(welcomed) if welcomed.from.features.has(Features::LINKS) => {
                Ok((reading, welcomed))
            }
            state => Err(Box::new(BackChannel {
                reading,
                state: Mutex::new(state),
                has_hello,
                welcomed: notify,
            })),
        }
    }

    /// Waits until the far end closes the link, or sends something that ends it.
    pub(super) async fn until_far_end_closes(&self) -> DownReason {
        loop {
            if let Err(err) = self.reading.readable().await {
                return DownReason::lost(&err);
            }
            if let Some(reason) = self.read() {
                return reason;
            }
        }
    }

    /// Reads what the far end sent. Returns why the link must end, or `None` if it goes on.
    pub(super) fn read(&self) -> Option<DownReason> {
        loop {
            // As much as all answers of today take.
            let mut bytes = [0; 1024];
            let read = match self.reading.try_read(&mut bytes) {
                Ok(0) => return Some(DownReason::Closed),
                Ok(n) => &bytes[..n],
                // The readiness was out of date.
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return None,
                Err(err) => return Some(DownReason::lost(&err)),
            };
            match self.take(read) {
                Ok(Next::Read) => {}
                Ok(Next::Stop) => return None,
                Err(reason) => return Some(reason),
            }
        }
    }

    /// Takes bytes that have been read.
    fn take(&self, bytes: &[u8]) -> Result<Next, DownReason> {
        let mut state = self.state.lock();
        let State::Awaiting(awaiting) = &mut *state else {
            return Err(DownReason::Spoke);
        };
        let Some(welcomed) = awaiting.take(bytes, &self.reading)? else {
            return Ok(Next::Read);
        };
        if awaiting.is_late && welcomed.from.features.has(Features::LINKS) {
            // It is about to send frames here, and this end has not waited for them. The next dial does.
            return Err(DownReason::Replaced);
        }
        let next = match welcomed.from.features.has(Features::LINKS) && awaiting.both_ways {
            true => Next::Stop,
            false => Next::Read,
        };
        *state = State::Welcomed(welcomed);
        self.welcomed.notify_one();
        Ok(next)
    }
}

/// Whether to read on.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Next {
    Read,
    /// What comes from now on is for another reader.
    Stop,
}

impl Awaiting {
    /// Takes bytes that have been read. Returns the answer once it is there and agrees with what was meant.
    fn take(&mut self, bytes: &[u8], reading: &ReadHalf) -> Result<Option<Welcomed>, DownReason> {
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
            Control::Welcome { from, .. } => from,
            Control::Refused(refused) => {
                self.context.refused(refused);
                return Err(DownReason::Refused(refused.reason));
            }
            Control::OtherVersion => return Err(DownReason::Refused(RefusedReason::Version)),
            _ => return Err(DownReason::Spoke),
        };
        if self.context.has_tls() && !from.features.has(Features::LINKS) {
            // Every node of a cluster with TLS has this feature. Without it, this link could not be ended when
            // the keys change.
            return Err(DownReason::Spoke);
        }
        let may_follow = self.both_ways && from.features.has(Features::LINKS);
        if len < self.bytes.len() && !may_follow {
            return Err(DownReason::Spoke);
        }
        let may_speak = match reading.tls() {
            Some(_) => reading.vouches_for(from.node),
            None => self.context.allows_plain(),
        };
        let session = match may_speak {
            true => self.context.welcomed(&from, self.meant),
            false => Err(Refused::because(RefusedReason::Certificate)),
        };
        let session = session.map_err(|refused| {
            self.objection = may_follow.then(|| Control::Refused(refused).encode());
            DownReason::Refused(refused.reason)
        })?;
        let (peer, node, incarnation) = (&self.peer, from.node, from.incarnation);
        tracing::debug!(%peer, %node, %incarnation, max_frame = from.max_frame, "welcome");
        let rest = Bytes::copy_from_slice(&self.bytes[len..]);
        Ok(Some(Welcomed {
            session,
            from,
            rest,
        }))
    }
}
