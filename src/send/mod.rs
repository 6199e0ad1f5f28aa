pub(crate) mod doorbell;
pub(crate) mod link;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod queue;
pub(crate) mod writer;
