pub(crate) mod arbiters;
pub(crate) mod backoff;
pub(crate) mod failpoints;
pub(crate) mod load_counter;
pub(crate) mod shared;
pub(crate) mod supervision;
