//! How a transport stops, and what it reports then.

use std::{net::SocketAddr, time::Duration};

use crate::wire::count::Count;

/// How [`Transport::stop`](crate::Transport::stop) stops.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum Shutdown {
    /// At once. What is queued is dropped and counted.
    Now,
    /// When the queues are empty and what was received by then is handled, but no later than after this
    /// time. Frames are received as long as the queues are not empty.
    Drain(Duration),
}

/// What a stop left undone.
#[derive(Debug, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StopReport {
    /// The accepted frames that were still queued or being written at the end, by peer. Peers without
    /// any are left out.
    pub undelivered: Vec<(SocketAddr, Count)>,
    /// The accepted datagrams that were not sent.
    pub datagrams: Count,
}
