pub(crate) mod admission;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod groups;
pub(crate) mod inbound;
pub(crate) mod listener;
pub(crate) mod reader;
