//! Counts what an actor receives and notes when; the role asks for it at the end.

use std::time::{Duration, Instant};

use actix::{Message, dev::MessageResponse};
use actix_transport::Count;

#[derive(Copy, Clone, Default, MessageResponse)]
pub(crate) struct Received {
    pub(crate) count: Count,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Asks an actor for its counts.
#[derive(Message)]
#[rtype(Received)]
pub(crate) struct GetReceived;

impl Received {
    /// Adds frames whose handling began at `begun` and ends now.
    pub(crate) fn add(&mut self, count: Count, begun: Instant) {
        self.count += count;
        self.first.get_or_insert(begun);
        self.last = Some(Instant::now());
    }

    /// Returns the time from the first frame to the last.
    pub(crate) fn time(&self) -> Duration {
        let times = self.first.zip(self.last);
        times.map_or(Duration::ZERO, |(first, last)| last - first)
    }
}
