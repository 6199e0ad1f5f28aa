//! Receiving: from an accepted socket to the mailboxes of the groups' actors.
//!
//! ```text
//! listener ─► reader ─► connection ─► deliver ─► mailbox of the group's actor
//! admission             read_buffer   grouping   inbound
//!                       frame_deadline  groups
//! ```

pub(crate) mod admission;
pub(crate) mod charge;
pub(crate) mod connection;
pub(crate) mod deliver;
pub(crate) mod frame_deadline;
pub(crate) mod group_hasher;
pub(crate) mod grouping;
pub(crate) mod groups;
pub(crate) mod inbound;
pub(crate) mod listener;
pub(crate) mod read_buffer;
pub(crate) mod reader;
