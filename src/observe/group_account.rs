//! The counters of one group's received frames.
//!
//! A group that is registered has one of these, shared with its batches. Unserved groups have none, so
//! strangers cannot make the transport keep counters for groups of their choice.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    observe::{receive_accounts::NotDelivered, stats::GroupStats},
    wire::count::Count,
};

/// The counters of one group. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupAccount(Arc<Mutex<GroupStats>>);

impl GroupAccount {
    /// Counts frames as received and in delivery.
    pub(super) fn receive(&self, count: Count) {
        let mut stats = self.0.lock();
        stats.received += count;
        stats.in_delivery += count;
    }

    /// Counts frames as received and dropped.
    pub(super) fn receive_dropped(&self, why: NotDelivered, count: Count) {
        let mut stats = self.0.lock();
        stats.received += count;
        *why.counter(&mut stats.dropped) += count;
    }

    /// Counts frames in delivery as delivered, and others as dropped.
    pub(super) fn settle(&self, delivered: Count, dropped: Option<(NotDelivered, Count)>) {
        let mut stats = self.0.lock();
        stats.in_delivery -= delivered;
        stats.delivered += delivered;
        if let Some((why, count)) = dropped {
            stats.in_delivery -= count;
            *why.counter(&mut stats.dropped) += count;
        }
    }

    pub(crate) fn stats(&self) -> GroupStats {
        *self.0.lock()
    }
}
