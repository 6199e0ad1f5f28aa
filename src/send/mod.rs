//! Sending: from `Peer::try_send` to the socket.

mod back_channel;
pub(crate) mod dialer;
pub(crate) mod direct_write;
pub(crate) mod expiry;
mod idle_timer;
pub(crate) mod link;
pub(crate) mod peer;
pub(crate) mod peer_state;
pub(crate) mod peers;
pub(crate) mod queue;
mod redial;
mod writer;
pub(crate) mod writer_context;
