//! [`SendOptions`]: what a sender wants of one frame.

use std::time::Duration;

use crate::{ids::GroupId, lane::Lane, send::queue::Terms};

/// The longest age limit, as of [`Config::stale_after`](crate::Config::stale_after).
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sender wants of one frame, beyond what holds for its lane.
///
/// ```
/// use std::time::Duration;
/// use actix_transport::{Lane, SendOptions};
///
/// let vote = SendOptions::new().lane(Lane::CONTROL).ttl(Duration::from_millis(200));
/// ```
///
/// A frame with a `ttl` or a key is kept by itself until it is written, which costs more than to append a short
/// frame to others.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[must_use]
pub struct SendOptions {
    lane: Option<Lane>,
    ttl: Option<Duration>,
    key: Option<u64>,
}

impl SendOptions {
    /// Returns the options of a plain send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends it on this lane. Default: that of the handle.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = Some(lane);
        self
    }

    /// Drops it when it has waited this long to be written ([`DropReason::Stale`](crate::DropReason::Stale)).
    /// Shorter or longer than [`Config::stale_after`](crate::Config::stale_after), which is the default, or what
    /// the lane has instead. Measured as that is: in steps of 1 to 10 ms, and perhaps one step short. A day at most.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl.min(DAY));
        self
    }

    /// Lets it replace the frame with the same group and key that still waits on the lane; see
    /// [`Peer::try_send_latest`](crate::Peer::try_send_latest).
    pub fn latest(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    pub(super) fn on_lane(&self) -> Option<Lane> {
        self.lane
    }

    pub(super) fn terms(&self, group: GroupId) -> Terms {
        Terms {
            ttl: self.ttl,
            key: self.key.map(|key| (group, key)),
            ..Terms::default()
        }
    }
}
