//! [`OutgoingStream`]: how the frames of one queue are numbered on the wire.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    ids::NodeId,
    lane::Lane,
    session::{context::SessionContext, known_nodes::Retired},
};

/// The numbers of one peer's frames. A peer that was forgotten and is known again goes on with the numbers
/// that it had, so that the far end learns what was lost in between.
#[derive(Debug)]
pub(crate) struct OutgoingStream {
    /// `None` if sessions are off.
    sessions: Option<Arc<SessionContext>>,
    lane: Lane,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stream: u64,
    /// The number on the wire of the first frame that the queue accepts.
    base: u64,
    /// Whether numbers were told to anybody. From then on the stream stays.
    begun: bool,
    /// The node that numbers were told to.
    told: Option<NodeId>,
}

impl OutgoingStream {
    pub(crate) fn new(stream: u64, lane: Lane, sessions: Option<Arc<SessionContext>>) -> Self {
        let state = State {
            stream,
            base: 0,
            begun: false,
            told: None,
        };
        OutgoingStream {
            sessions,
            lane,
            state: Mutex::new(state),
        }
    }

    /// Begins a link with a node, if that is known. Returns the number of the stream, and what to add to the
    /// numbers of the queue.
    pub(super) fn begin(&self, node: Option<NodeId>) -> (u64, u64) {
        let mut state = self.state.lock();
        let begun = std::mem::replace(&mut state.begun, true);
        if let (None, Some(node)) = (state.told, node) {
            state.told = Some(node);
            let sessions = self.sessions.as_ref().filter(|_| !begun);
            if let Some(retired) =
                sessions.and_then(|sessions| sessions.take_retired(node, self.lane))
            {
                state.stream = retired.stream;
                state.base = retired.next;
            }
        }
        (state.stream, state.base)
    }

    /// The queue accepts no more, and the next frame would have this number: another one may go on with the numbers.
    pub(super) fn retire(&self, next: u64) {
        let mut state = self.state.lock();
        if let (Some(sessions), Some(node)) = (&self.sessions, state.told.take()) {
            let retired = Retired {
                lane: self.lane,
                stream: state.stream,
                next: state.base + next,
            };
            sessions.retire(node, retired);
        }
    }
}
