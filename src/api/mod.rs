pub(crate) mod node;
pub(crate) mod transport;

#[cfg(feature = "test-internals")]
pub mod test_internals;
