//! Actor transport.
#![allow(dead_code)]
mod backoff;
mod clock;
mod config;
mod error;
mod frame;
mod load;
mod queue;
mod stats;
pub use crate::config::*;
pub use crate::error::*;
pub use crate::frame::GroupId;
pub use crate::stats::*;
#[derive(Debug)]
pub struct Builder;
#[derive(Debug)]
pub struct Transport;
#[derive(Debug)]
pub struct PeerEvent;
#[derive(Debug)]
pub struct Inbound;
#[derive(Debug)]
pub enum GroupOverflow {
    Drop,
}
