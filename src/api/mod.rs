pub(crate) mod node;
pub(crate) mod transport;

#[cfg(feature = "internals")]
pub mod internals;
