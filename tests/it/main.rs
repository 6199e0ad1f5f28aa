//! What the transport promises, tested on real sockets. One file per behaviour.

mod addresses;
mod backpressure;
mod datagrams;
mod delivery;
mod draining;
mod events;
mod groups;
mod limits;
mod links;
mod listening;
#[cfg(target_os = "linux")]
mod memory;
mod messages;
mod peers;
mod queueing;
mod reading;
mod settings;
mod stopping;
#[cfg(feature = "failpoints")]
mod supervision;
mod support;
mod wire;
