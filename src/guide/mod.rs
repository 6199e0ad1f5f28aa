#![doc = include_str!("how_to.md")]

#[doc = include_str!("restarts.md")]
pub mod restarts {}
