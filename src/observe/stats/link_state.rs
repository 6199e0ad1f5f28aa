//! [`LinkState`]: whether there is a connection to a peer.

use std::fmt;

/// Whether there is a connection to a peer, and if not, why.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LinkState {
    /// There is a connection.
    Up,
    /// There is no connection, and no frame that needs one: nothing has been sent yet, or the connection
    /// has ended. The next frame makes a new one.
    Idle,
    /// Frames wait for a connection that is being made.
    Connecting,
    /// The latest dials failed. The peer is dialled again while frames wait for it.
    Unreachable {
        /// How many dials have failed since the last connection.
        failures: u32,
    },
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkState::Up => f.write_str("up"),
            LinkState::Idle => f.write_str("idle"),
            LinkState::Connecting => f.write_str("connecting"),
            LinkState::Unreachable { failures } => {
                write!(f, "unreachable after {failures} failed dials")
            }
        }
    }
}
