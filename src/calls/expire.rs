//! [`Expire`]: what ends calls that are too late.

use std::task::{Context, Poll};

use crate::net::time::Instant;

/// Calls that become too late.
pub(crate) trait Expire {
    /// Ends those that are too late now. Returns when the next look is due, if there are any more.
    fn expire(&self, now: Instant) -> Option<Instant>;

    /// Is ready when a deadline has come that is before the next look. Only one may wait for this at a time.
    fn poll_sooner(&self, cx: &mut Context<'_>) -> Poll<()>;
}
