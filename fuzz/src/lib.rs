//! What the fuzzers run, one plain function of bytes each. `tests/corpora.rs` of the crate runs the
//! same ones over the corpora.

pub mod config;
pub mod connection;
pub mod datagram;
pub mod decoder;
pub mod queue;
pub mod writer;

mod node;
mod reference;
mod script;
