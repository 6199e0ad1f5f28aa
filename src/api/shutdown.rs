//! How a transport stops, and what it reports then.

use std::time::Duration;

use crate::{peer_addr::PeerAddr, wire::count::Count};

/// Whether [`Transport::stop`](crate::Transport::stop) drops what is queued or first tries to send it.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum Shutdown {
    /// Stops at once. Queued frames are dropped and counted.
    Now,
    /// First writes everything that is queued, then waits until everything received is handled. Gives up
    /// after this time. New sends are refused at once; frames are received until the queues are empty.
    Drain(Duration),
}

/// The frames that were accepted for sending and dropped because the transport stopped.
#[derive(Debug, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StopReport {
    /// The accepted frames that were still queued or being written at the end, by peer. Peers without
    /// any are left out.
    pub undelivered: Vec<(PeerAddr, Count)>,
    /// The accepted datagrams that were still queued at the end.
    pub datagrams: Count,
}
