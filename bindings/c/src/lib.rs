//! The C interface of actix-transport. The header `include/actix_transport.h` is made of this and is what
//! users read.
//!
//! The files whose functions C calls are `code`, `context`, `config`, `transport`, `register`, `peer`, `send` and
//! `stats`; the others serve them. Every entry goes through [`guard`], which lets no panic pass, and finds
//! what a handle stands for in a [`table`]. Only this package has `unsafe` code.

// The types have the names that they have in C.
#![allow(non_camel_case_types)]

mod callback;
mod code;
mod config;
mod context;
mod directory;
mod error;
mod guard;
mod living;
mod node;
mod peer;
mod process;
mod register;
mod send;
mod serving;
mod stats;
mod table;
mod transport;
mod wait;

pub use crate::{
    callback::{axt_batch, axt_bytes, axt_event, axt_event_kind, axt_sender},
    callback::{axt_on_batch, axt_on_event, axt_on_message},
    code::{axt_code, axt_error_text},
    config::{axt_config, axt_config_file, axt_config_free, axt_config_new, axt_config_set},
    context::{axt_context, axt_context_free, axt_context_new},
    error::{AXT_ERROR_TEXT, axt_error},
    peer::{axt_peer, axt_peer_free, axt_peer_get, axt_sender_peer},
    register::axt_subscribe,
    register::{axt_register, axt_register_all, axt_register_all_batches, axt_register_batches},
    send::{axt_reply, axt_send, axt_send_auto, axt_send_datagram, axt_send_options, axt_try_send},
    stats::{axt_count, axt_send_stats, axt_stats, axt_stats_get, axt_stats_json, axt_string_free},
    transport::{axt_address, axt_bind, axt_identity, axt_meant, axt_tls, axt_transport},
    transport::{axt_stop, axt_stop_report, axt_transport_free, axt_transport_new},
};
