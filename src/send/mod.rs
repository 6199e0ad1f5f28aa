//! Sending: from `Peer::try_send` to the socket.

mod attempt;
pub(crate) mod back_channel;
mod dial_places;
mod dial_request;
pub(crate) mod dialer;
pub(crate) mod direct_write;
pub(crate) mod expiry;
mod greeting;
mod idle_timer;
pub(crate) mod link;
pub(crate) mod peer;
pub(crate) mod peer_state;
mod peer_table;
pub(crate) mod peers;
pub(crate) mod queue;
mod race;
mod redial;
pub(crate) mod send_all_error;
mod writer;
pub(crate) mod writer_context;
