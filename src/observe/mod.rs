pub(crate) mod event;
pub(crate) mod receive_accounts;
pub(crate) mod stats;
