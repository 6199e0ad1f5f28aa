//! The counters of one group's received frames, as users see them.

use crate::{
    observe::stats::{
        balance::{Imbalance, check},
        receive_stats::Undelivered,
    },
    wire::count::Count,
};

/// What was received for one registered group, over connections and as datagrams, and what became of it.
///
/// `received = delivered + dropped + in_delivery`, in frames and in bytes, in every snapshot.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupStats {
    /// Complete frames.
    pub received: Count,
    /// Frames that a handler of the group's actor had.
    pub delivered: Count,
    /// Frames that no handler had. `no_group` is always zero here.
    pub dropped: Undelivered,
    /// Frames now on the way to the actor, or in an [`Inbound`](crate::Inbound) that it holds.
    pub in_delivery: Count,
}

impl GroupStats {
    /// Checks that every frame for this group is counted in exactly one place.
    ///
    /// # Errors
    ///
    /// Names the sum that does not hold. That would be a defect of this crate.
    pub fn balance(&self) -> Result<(), Imbalance> {
        let sum = self.delivered + self.dropped.total() + self.in_delivery;
        let text = "received = delivered + dropped + in_delivery";
        check("group", text, self.received, sum)
    }
}
