//! Sockets, time and random numbers: the only folder that asks the operating system for them.
//!
//! Everything above uses the types of this folder. A TLS stream, a simulated network, a paused clock or
//! a seeded random source can therefore be put in here, and nothing above changes.
//!
//! A tokio socket belongs to the runtime that it was registered with. So a socket is detached before it
//! moves to another arbiter, and attached there.

pub(crate) mod addr;
pub(crate) mod bind;
pub(crate) mod candidates;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod halves;
pub(crate) mod names;
pub(crate) mod random;
mod sent;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod sock_diag;
pub(crate) mod tcp;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tcp_info;
mod tcp_options;
pub(crate) mod time;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod udp_buffers;
pub(crate) mod udp_drops;
pub(crate) mod utc;
