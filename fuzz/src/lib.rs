//! What the fuzzers run: for each target a plain function that takes bytes. `tests/corpora.rs` of
//! the crate runs the same functions on the corpora.

pub mod call_heads;
pub mod calls;
#[cfg(feature = "tls")]
pub mod certificate;
#[cfg(feature = "serde")]
pub mod config;
pub mod connection;
pub mod datagram;
pub mod decoder;
#[cfg(feature = "tls")]
pub mod first_bytes;
pub mod handshake;
pub mod parts;
#[cfg(feature = "tls")]
pub mod patterns;
pub mod queue;
pub mod writer;

mod node;
mod reference;
mod script;
