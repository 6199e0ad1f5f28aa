//! What C gives to be called, and the types that are passed to it.

use std::{
    ffi::{CString, c_char, c_void},
    io::Write,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use actix_transport::{Inbound, PeerEvent, Via};

use crate::context::Shared;

/// Who sent a message. Lives until the callback returns. A copy may be kept, but its text and its `id` end
/// with the callback.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_sender {
    /// For axt_reply and axt_sender_peer. 0 if the sender cannot be answered, because it did not introduce itself.
    pub id: u64,
    /// Whether the sender has introduced itself: all nodes of the cluster have an identity (axt_identity). Otherwise
    /// `node` and `incarnation` are 0.
    pub known: bool,
    /// The number of the node.
    pub node: u64,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// The lane that the message was sent on, 0 if the sender is not known.
    pub lane: u32,
    /// Whether it came as a datagram.
    pub datagram: bool,
    /// The ip and port that it came from, with a zero at the end. No address to send to: the port is that of a
    /// connection that was dialled.
    pub from: *const c_char,
}

/// The bytes of one message.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_bytes {
    /// Where they are. Not null.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

/// Messages of one sender for one group that were received together, in order.
#[repr(C)]
pub struct axt_batch {
    /// The group that they are for.
    pub group: u32,
    /// Whether messages of this sender for this group may be missing before these. Always false if the sender is
    /// not known.
    pub gap: bool,
    /// Who sent them.
    pub sender: *const axt_sender,
    /// The messages.
    pub messages: *const axt_bytes,
    /// How many there are, at least 1.
    pub count: usize,
}

/// Called for each received message. `user` is what was given with this function. The message, and what `sender`
/// points to, live until this returns.
///
/// The four bytes before `bytes` may be read, too: they are the group in little-endian order. So `bytes - 4` is a
/// message in the form that PhxPaxos has it in.
pub type axt_on_message = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        group: u32,
        sender: *const axt_sender,
        bytes: *const u8,
        len: usize,
    ),
>;

/// Called for the messages that were received together. Everything that `batch` leads to lives until this returns.
pub type axt_on_batch = Option<unsafe extern "C" fn(user: *mut c_void, batch: *const axt_batch)>;

/// Called for each event. Everything that `event` leads to lives until this returns.
pub type axt_on_event = Option<unsafe extern "C" fn(user: *mut c_void, event: *const axt_event)>;

/// Which kind of event.
#[repr(C)]
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum axt_event_kind {
    /// Frames can leave for the peer.
    AXT_EVENT_UP = 1,
    /// The connection to the peer has ended.
    AXT_EVENT_DOWN = 2,
    /// Connecting to the peer failed.
    AXT_EVENT_UNREACHABLE = 3,
    /// A node has introduced itself on a connection that it made.
    AXT_EVENT_HEARD = 4,
    /// A node has said that it stops.
    AXT_EVENT_GOODBYE = 5,
    /// Frames from a node are missing. `count` says how many.
    AXT_EVENT_GAP = 6,
    /// Frames were lost after they had been accepted or received. `count` says how many.
    AXT_EVENT_DROPPED = 7,
    /// This subscriber was too slow, and missed `count` events.
    AXT_EVENT_MISSED = 8,
    /// Something else, which the text says.
    AXT_EVENT_OTHER = 9,
}

use axt_event_kind::*;

/// Something that happened to a peer or to the transport.
#[repr(C)]
pub struct axt_event {
    /// Which kind of event. Further kinds may be added.
    pub kind: axt_event_kind,
    /// The lane, 0 where the event is about none.
    pub lane: u32,
    /// What the peer is called, with a zero at the end. Null where the event is about no peer.
    pub peer: *const c_char,
    /// How many frames or events, where the kind says so.
    pub count: u64,
    /// One line for a log, with a zero at the end.
    pub text: *const c_char,
}

/// How long the group is that is in front of each message.
const GROUP_BYTES: usize = 4;

/// What C gave with a callback, and gets back.
#[derive(Debug, Copy, Clone)]
pub(crate) struct User(pub(crate) *mut c_void);

// SAFETY: the header says that the pointer is passed to callbacks on other threads.
unsafe impl Send for User {}
// SAFETY: as above, and on several at once if there are several threads.
unsafe impl Sync for User {}

/// The function that gets messages.
#[derive(Debug, Copy, Clone)]
pub(crate) enum OnMessages {
    Each(unsafe extern "C" fn(*mut c_void, u32, *const axt_sender, *const u8, usize)),
    Batch(unsafe extern "C" fn(*mut c_void, *const axt_batch)),
}

/// Calls C with what was received.
#[derive(Debug)]
pub(crate) struct Callback<F> {
    pub(crate) shared: Arc<Shared>,
    /// The number of the transport.
    pub(crate) node: u64,
    pub(crate) on: F,
    pub(crate) user: User,
    /// Set when the transport has stopped: nothing is called then.
    pub(crate) closed: Arc<AtomicBool>,
}

impl<F> Callback<F> {
    fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
}

impl Callback<OnMessages> {
    /// Calls C with the messages. When the transport stops, this ends after the call that runs: with a slow
    /// callback, the rest of the batch could take hours. The crate then counts the rest as delivered, because it
    /// was with its handler.
    pub(crate) fn deliver(&self, mut inbound: Inbound) {
        if self.is_closed() {
            return;
        }
        let group = inbound.group().get();
        let gap = inbound.gap().is_some();
        // Room for the longest address: an IPv6 address with a scope.
        let mut from = [0; 80];
        let _ = write!(&mut from[..79], "{}", inbound.from());
        let known = inbound.sender().cloned();
        let answerable = known
            .as_ref()
            .map(|sender| Answerable::new(&self.shared, self.node, sender));
        let sender = axt_sender {
            id: answerable.as_ref().map_or(0, |it| it.id),
            known: known.is_some(),
            node: known.as_ref().map_or(0, |it| it.node().get()),
            incarnation: known.as_ref().map_or(0, |it| it.incarnation().get()),
            lane: inbound.lane().get().into(),
            datagram: inbound.via() == Via::Udp,
            from: from.as_ptr().cast(),
        };
        match self.on {
            OnMessages::Each(call) => {
                while let Some(message) = inbound.next_with_group() {
                    // Each may be for another group.
                    let group = match message.first_chunk() {
                        Some(group) => u32::from_le_bytes(*group),
                        None => continue,
                    };
                    // Goes behind the group, and may be taken back to it.
                    let bytes = message.as_ptr().wrapping_add(GROUP_BYTES);
                    // SAFETY: the function is one of C that does what the header says. All that is passed lives
                    // until it returns.
                    unsafe {
                        call(
                            self.user.0,
                            group,
                            &raw const sender,
                            bytes,
                            message.len() - GROUP_BYTES,
                        );
                    }
                    if self.is_closed() {
                        return;
                    }
                }
            }
            OnMessages::Batch(call) => {
                let payloads: Vec<_> = inbound.by_ref().collect();
                let messages: Vec<_> = payloads
                    .iter()
                    .map(|bytes| axt_bytes {
                        data: bytes.as_ptr(),
                        len: bytes.len(),
                    })
                    .collect();
                let batch = axt_batch {
                    group,
                    gap,
                    sender: &raw const sender,
                    messages: messages.as_ptr(),
                    count: messages.len(),
                };
                // SAFETY: as above.
                unsafe { call(self.user.0, &raw const batch) };
            }
        }
    }
}

/// A sender that can be answered until this is dropped.
struct Answerable<'s> {
    shared: &'s Shared,
    id: u64,
}

impl<'s> Answerable<'s> {
    fn new(shared: &'s Shared, node: u64, sender: &actix_transport::Sender) -> Self {
        let id = shared.senders.insert(Arc::new((node, sender.clone())));
        Answerable { shared, id }
    }
}

impl Drop for Answerable<'_> {
    fn drop(&mut self) {
        self.shared.senders.remove(self.id);
    }
}

impl Callback<unsafe extern "C" fn(*mut c_void, *const axt_event)> {
    /// Calls C with an event.
    pub(crate) fn tell(&self, event: &PeerEvent) {
        if self.is_closed() {
            return;
        }
        let (kind, peer, lane, count) = match event {
            PeerEvent::Up { peer, lane, .. } => (AXT_EVENT_UP, Some(peer), Some(*lane), 0),
            PeerEvent::Down { peer, lane, .. } => (AXT_EVENT_DOWN, Some(peer), Some(*lane), 0),
            PeerEvent::Unreachable { peer, lane, .. } => {
                (AXT_EVENT_UNREACHABLE, Some(peer), Some(*lane), 0)
            }
            PeerEvent::Heard { addr, .. } => (AXT_EVENT_HEARD, Some(addr), None, 0),
            PeerEvent::Goodbye { .. } => (AXT_EVENT_GOODBYE, None, None, 0),
            PeerEvent::Gap { lane, lost, .. } => (AXT_EVENT_GAP, None, Some(*lane), *lost),
            PeerEvent::Dropped {
                peer, lane, count, ..
            } => (AXT_EVENT_DROPPED, peer.as_ref(), *lane, count.frames),
            PeerEvent::Missed { events } => (AXT_EVENT_MISSED, None, None, *events),
            _ => (AXT_EVENT_OTHER, None, None, 0),
        };
        let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let peer = peer.map(|peer| text(peer.to_string()));
        let line = text(event.to_string());
        let event = axt_event {
            kind,
            lane: lane.unwrap_or_default().get().into(),
            peer: peer.as_ref().map_or(ptr::null(), |peer| peer.as_ptr()),
            count,
            text: line.as_ptr(),
        };
        // SAFETY: the function is one of C that does what the header says. All that is passed lives until it
        // returns.
        unsafe { (self.on)(self.user.0, &raw const event) };
    }
}
