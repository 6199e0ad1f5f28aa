//! Typed messages: actors of other nodes are asked with the messages that they handle, as actors of this process are.
//!
//! ```text
//! caller  RemoteRecipient::send ─► codec ─► Peer::call
//!         recipient
//!
//! callee  connection ─► GroupMessages ─► codec ─► mailbox of the actor ─► codec ─► Call::reply
//!         receive/call_frames  messages    served                         on the arbiter of the actor
//! ```
//!
//! Owns which messages are served in a group, how they are encoded and decoded, and the handles of callers. Leaves to
//! others: calls with their deadlines, bounds and counters (`send/call`, `receive/served`), and what is before the
//! message in a call (`wire/message`).
//!
//! Codecs are foreign code. Each runs where its panic costs its own call only, and the answer of a handler is encoded
//! on the thread that has it, so that no other needs to be woken.

pub(crate) mod addr;
pub(crate) mod blob;
pub(crate) mod codec;
mod encoded;
pub(crate) mod error;
pub(crate) mod message;
mod messages;
pub(crate) mod postcard;
pub(crate) mod recipient;
pub(crate) mod request;
mod serve;
pub(crate) mod serve_messages;
mod served;
mod tail;
pub(crate) mod traced;
