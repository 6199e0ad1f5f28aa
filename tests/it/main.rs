//! What the transport promises, tested on real sockets. One file per behaviour.

mod addresses;
mod backpressure;
mod both_ways;
mod bursts;
mod calls;
#[cfg(feature = "serde")]
mod config_files;
mod crowding;
mod cut_frames;
mod cut_messages;
mod datagram_sockets;
mod datagrams;
mod delivery;
#[cfg(target_os = "linux")]
mod dialling;
mod draining;
mod events;
mod group_share;
mod groups;
mod half_messages;
#[cfg(target_os = "linux")]
mod in_doubt;
mod lanes;
mod large_messages;
mod limits;
mod links;
mod listening;
mod logging;
#[cfg(target_os = "linux")]
mod memory;
mod messages;
mod named_peers;
mod names;
mod order;
mod panicking_payloads;
mod peer_links;
mod peers;
mod queueing;
mod reading;
#[cfg(feature = "remote")]
mod remote;
mod sessions;
mod settings;
#[cfg(unix)]
mod signals;
mod snapshots;
mod stopping;
mod streams;
#[cfg(feature = "failpoints")]
mod supervision;
mod support;
mod surroundings;
#[cfg(feature = "tls")]
mod tls;
mod trace;
mod wire;
