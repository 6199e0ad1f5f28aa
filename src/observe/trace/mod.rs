//! The spans of calls on both sides, and which trace a call belongs to.
//!
//! ```text
//! caller   current span ─► span `call` (client) ─► context in the call     outgoing
//! callee   context in the call ─► span `call` (server) ─► handler          call_span
//! ```
//!
//! Both sides need to know ids. OpenTelemetry gives them to spans if its layer is installed (`open_telemetry`).
//! Otherwise they are drawn here, and the fields of the spans show them, so that they are in the log.
//!
//! Leaves to others: the bytes of a context (`wire/trace_context`), and where a call keeps it.

pub(crate) mod call_span;
#[cfg(feature = "opentelemetry")]
mod open_telemetry;
pub(crate) mod outgoing;
mod scope;

#[cfg(not(feature = "opentelemetry"))]
#[path = "no_open_telemetry.rs"]
mod open_telemetry;

/// The target of the spans of calls, for filters such as `actix_transport::call=off`. Their level is INFO.
const TARGET: &str = "actix_transport::call";
