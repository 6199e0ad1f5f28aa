//! What is counted, reported and logged.

pub(crate) mod event;
mod event_queue;
mod link_counters;
pub(crate) mod receive_accounts;
pub(crate) mod reporter;
pub(crate) mod stats;
pub(crate) mod subscribers;
