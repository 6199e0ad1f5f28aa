//! Receiving: from an accepted connection to the mailbox of the group's actor.

mod accept_errors;
pub(crate) mod admission;
pub(crate) mod budget;
mod charge;
mod connection;
pub(crate) mod context;
pub(crate) mod deliver;
mod end;
mod frame_deadline;
mod group_frames;
mod group_hasher;
mod group_map;
pub(crate) mod grouping;
pub(crate) mod groups;
pub(crate) mod inbound;
mod introduction;
mod large_frame;
mod link_control;
pub(crate) mod link_reading;
pub(crate) mod listener;
pub(crate) mod origin;
mod patience;
mod read_buffer;
pub(crate) mod reader;
pub(crate) mod reader_set;
pub(crate) mod sender;
mod source;
