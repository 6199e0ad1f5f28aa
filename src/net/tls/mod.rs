//! TLS: which certificates are let in, and which bytes begin a TLS connection.

#![allow(dead_code, reason = "the streams that use it follow")]

pub(crate) mod certificate;
pub(crate) mod first_byte;
pub(crate) mod pattern;
