//! What users call, and the order in which the parts of a transport start and stop.

pub(crate) mod builder;
mod calls;
mod groups;
pub(crate) mod node;
mod running;
pub(crate) mod shutdown;
mod start;
pub(crate) mod streams;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_watch;
pub(crate) mod transport;

#[cfg(feature = "test-internals")]
pub mod test_internals;
