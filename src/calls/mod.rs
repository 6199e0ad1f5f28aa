//! Calls that wait for their answers.
//!
//! Owns which calls there are, how each ends, when it is too late, and the counters of the caller's side. Leaves to
//! others: the frames of calls (`wire/call`), how they are sent (`send/call`), and how calls of others are served
//! (`receive/served`).

mod call_table;
pub(crate) mod deadlines;
pub(crate) mod expire;
pub(crate) mod foreign;
pub(crate) mod keeper;
pub(crate) mod lane_calls;
pub(crate) mod pending;
pub(crate) mod queued_call;
pub(crate) mod rooms;

#[cfg(test)]
mod tests;
