//! Where actors run, how they are kept alive, and how all of it ends.

pub(crate) mod arbiters;
pub(crate) mod backoff;
pub(crate) mod failpoints;
mod keeper;
pub(crate) mod lifecycle;
pub(crate) mod load_counter;
mod restart_budget;
#[cfg(feature = "remote")]
pub(crate) mod self_driven;
pub(crate) mod supervision;
pub(crate) mod work_slot;
pub(crate) mod worker;
