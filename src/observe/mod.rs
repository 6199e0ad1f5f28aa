//! What is counted, reported and logged.

pub(crate) mod delivery;
pub(crate) mod event;
mod event_queue;
pub(crate) mod group_account;
pub(crate) mod intake;
mod link_counters;
pub(crate) mod link_end;
mod quiet_log;
pub(crate) mod receive_accounts;
pub(crate) mod reporter;
pub(crate) mod stats;
pub(crate) mod subscribers;
pub(crate) mod trace;
