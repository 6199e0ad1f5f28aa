//! Receiving: from an accepted connection to the mailbox of the group's actor.

pub(crate) mod admission;
pub(crate) mod budget;
mod charge;
mod connection;
pub(crate) mod context;
pub(crate) mod deliver;
mod frame_deadline;
mod group_hasher;
pub(crate) mod grouping;
pub(crate) mod groups;
pub(crate) mod inbound;
mod large_frame;
pub(crate) mod listener;
mod read_buffer;
pub(crate) mod reader;
pub(crate) mod reader_set;
mod source;
