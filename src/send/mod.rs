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
mod keep_writing;
mod large;
pub(crate) mod link;
mod numbering;
pub(crate) mod options;
pub(crate) mod outgoing_stream;
pub(crate) mod peer;
pub(crate) mod peer_state;
mod peer_table;
pub(crate) mod peers;
pub(crate) mod queue;
mod race;
pub(crate) mod read_links;
mod redial;
pub(crate) mod send_all_error;
pub(crate) mod wire;
mod writer;
pub(crate) mod writer_context;
