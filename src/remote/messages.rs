//! [`GroupMessages`]: which messages are served in a group, and by whom.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::{
    call_error::NotUnderstood,
    receive::{call::Call, services::Messages},
    wire::message::MessageHead,
};

/// The messages that are served in one group. Read as a snapshot; each change makes a new one. Changed only with the
/// table of [`Services`](crate::receive::services::Services) locked, so that two changes cannot overwrite each other.
#[derive(Default)]
pub(super) struct GroupMessages(ArcSwap<Known>);

/// In the order of their ids. A group has few messages, and to find one among few is quicker in a list than in a map.
pub(super) type Known = Vec<(u32, Arc<dyn ServedMessage>)>;

/// A message that is served.
pub(super) trait ServedMessage: Send + Sync {
    /// Returns whether its actor is there.
    fn is_there(&self) -> bool;

    /// Returns the newest version that is known.
    fn version(&self) -> u16;

    /// Decodes it, and gives it to the actor.
    fn serve(&self, call: Call, message: Bytes);
}

impl GroupMessages {
    /// Adds a message, unless one with this id is served by an actor that is there. Returns the former messages, which
    /// are dropped when nothing is locked. `None` if it was not added.
    pub(super) fn add(&self, id: u32, message: Arc<dyn ServedMessage>) -> Option<Arc<Known>> {
        let mut known = Known::clone(&self.0.load());
        match find(&known, id) {
            Ok(at) if known[at].1.is_there() => return None,
            Ok(at) => known[at].1 = message,
            Err(at) => known.insert(at, (id, message)),
        }
        Some(self.0.swap(Arc::new(known)))
    }

    /// Takes a message out. Returns the former messages, or `None` if it is not among them.
    pub(super) fn remove(&self, id: u32) -> Option<Arc<Known>> {
        let mut known = Known::clone(&self.0.load());
        known.remove(find(&known, id).ok()?);
        Some(self.0.swap(Arc::new(known)))
    }
}

impl Messages for GroupMessages {
    fn is_there(&self) -> bool {
        self.0.load().iter().any(|(_, message)| message.is_there())
    }

    fn serve(&self, mut call: Call) {
        let mut payload = call.take_payload();
        let Some(head) = MessageHead::take(&mut payload) else {
            let text = "it is shorter than the head of a message".to_owned();
            return call.not_understood(NotUnderstood::Undecodable { text });
        };
        let known = self.0.load();
        let Ok(at) = find(&known, head.id) else {
            return call.not_understood(NotUnderstood::Unknown);
        };
        let message = &known[at].1;
        if !message.is_there() {
            return call.no_handler();
        }
        if head.version > message.version() {
            let known = message.version();
            return call.not_understood(NotUnderstood::Version { known });
        }
        message.serve(call, payload);
    }
}

/// Returns where the message with this id is, or where it would be.
fn find(known: &[(u32, Arc<dyn ServedMessage>)], id: u32) -> Result<usize, usize> {
    known.binary_search_by_key(&id, |(id, _)| *id)
}
