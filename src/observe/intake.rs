//! [`Intake`]: what one sender sent together, from the moment it is counted as received.
//!
//! Owns that one read costs a few locks and one event, however many groups it has frames for: dropped
//! frames are summed up by reason, and booked and told together.

use std::net::SocketAddr;

use crate::{
    ids::GroupId,
    observe::{
        delivery::Delivery,
        group_account::GroupAccount,
        receive_accounts::{NotDelivered, ReceiveAccounts},
    },
    wire::count::Count,
};

/// Received frames of one sender, while they are handed over.
///
/// Each frame leaves it in a [`Delivery`], or discarded for a reason. Frames that are still here when
/// it is dropped count as dropped, because whoever wanted to hand them over has ended. Subscribers are
/// told of dropped frames when the intake is dropped.
#[derive(Debug)]
pub(crate) struct Intake {
    accounts: ReceiveAccounts,
    from: SocketAddr,
    /// Frames that are counted as received, and nothing else yet.
    left: Count,
    /// Discarded frames that are not counted as dropped yet, by reason.
    unbooked: [Discarded; NotDelivered::ALL.len()],
    /// Frames counted as dropped that subscribers have not been told of, by reason.
    untold: [Discarded; NotDelivered::ALL.len()],
}

impl Intake {
    pub(crate) fn new(accounts: &ReceiveAccounts, from: SocketAddr) -> Self {
        Intake {
            accounts: accounts.clone(),
            from,
            left: Count::ZERO,
            unbooked: Default::default(),
            untold: Default::default(),
        }
    }

    pub(crate) fn from(&self) -> SocketAddr {
        self.from
    }

    /// Counts frames as received.
    pub(crate) fn receive(&mut self, count: Count) {
        if !count.is_zero() {
            self.accounts.receive(count);
            self.left += count;
        }
    }

    /// Takes frames out for a delivery to `group`. `None`: each may be of another.
    pub(crate) fn deliver(
        &mut self,
        group: Option<GroupId>,
        account: &GroupAccount,
        count: Count,
    ) -> Delivery {
        self.left -= count;
        let (accounts, account) = (self.accounts.clone(), account.clone());
        Delivery::new(accounts, account, self.from, group, count)
    }

    /// Drops frames of a group that has no counters, because nobody serves it.
    pub(crate) fn discard_unserved(&mut self, group: Option<GroupId>, count: Count) {
        self.left -= count;
        self.unbooked[NotDelivered::NoGroup as usize].add(group, count);
    }

    /// Drops a message of which not all parts came.
    pub(crate) fn discard_incomplete(&mut self, group: GroupId, count: Count) {
        self.left -= count;
        self.unbooked[NotDelivered::Incomplete as usize].add(Some(group), count);
    }

    /// Drops frames of a registered group.
    pub(crate) fn discard(
        &mut self,
        group: Option<GroupId>,
        account: &GroupAccount,
        count: Count,
        why: NotDelivered,
    ) {
        self.left -= count;
        self.unbooked[why as usize].add(group, count);
        account.receive_dropped(why, count);
    }

    /// Counts the discarded frames as dropped.
    pub(crate) fn book(&mut self) {
        let discarded = self.unbooked.iter().any(|reason| !reason.count.is_zero());
        if !discarded {
            return;
        }
        let booked = NotDelivered::ALL.map(|why| (why, self.unbooked[why as usize].count));
        self.accounts.settle(Count::ZERO, &booked);
        for (untold, unbooked) in self.untold.iter_mut().zip(&mut self.unbooked) {
            untold.merge(std::mem::take(unbooked));
        }
    }

    /// Tells subscribers of the frames that are counted as dropped: one event for each reason.
    pub(crate) fn tell(&mut self) {
        for why in NotDelivered::ALL {
            let Discarded { count, group } = std::mem::take(&mut self.untold[why as usize]);
            if !count.is_zero() {
                self.accounts.tell_dropped(self.from, group, why, count);
            }
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.left);
        if !left.is_zero() {
            let abandoned = Discarded {
                count: left,
                group: None,
            };
            self.unbooked[self.accounts.not_handled() as usize].merge(abandoned);
        }
        self.book();
        self.tell();
    }
}

/// Frames that were dropped for one reason.
#[derive(Debug, Copy, Clone, Default)]
struct Discarded {
    count: Count,
    /// Their group, if they are all of one group.
    group: Option<GroupId>,
}

impl Discarded {
    fn add(&mut self, group: Option<GroupId>, count: Count) {
        self.merge(Discarded { count, group });
    }

    fn merge(&mut self, more: Discarded) {
        if self.count.is_zero() {
            self.group = more.group;
        } else if !more.count.is_zero() && self.group != more.group {
            self.group = None;
        }
        self.count += more.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(accounts: &ReceiveAccounts, frames: usize) -> Intake {
        let mut intake = Intake::new(accounts, ([127, 0, 0, 1], 1).into());
        intake.receive(Count::new(frames, 10 * frames));
        intake
    }

    #[test]
    fn a_frame_is_delivered_or_dropped_for_its_reason_or_counts_as_abandoned() {
        let (accounts, account) = (ReceiveAccounts::default(), GroupAccount::default());
        let mut intake = intake(&accounts, 10);
        let group = Some(GroupId::new(1));
        intake.deliver(group, &account, Count::new(1, 10)).see();
        intake.discard_unserved(group, Count::new(2, 20));
        intake.discard(group, &account, Count::new(3, 30), NotDelivered::Overflow);
        assert_eq!(accounts.stats().in_delivery.frames, 9, "not booked yet");
        intake.book();
        assert_eq!(accounts.stats().in_delivery.frames, 4);
        drop(intake);
        let stats = accounts.stats();
        assert_eq!(stats.delivered.frames, 1);
        assert_eq!(stats.dropped.no_group.frames, 2);
        assert_eq!(stats.dropped.overflow.frames, 3);
        assert_eq!(stats.dropped.actor_gone.frames, 4);
        assert!(stats.in_delivery.is_zero());
        assert_eq!(account.stats().received.frames, 4, "without the unserved");
        assert_eq!(account.stats().balance(), Ok(()));
    }

    #[test]
    fn what_was_dropped_has_a_group_only_if_all_of_it_is_of_that_group() {
        let (one, other) = (Some(GroupId::new(1)), Some(GroupId::new(2)));
        let mut discarded = Discarded::default();
        discarded.add(one, Count::one(10));
        discarded.add(one, Count::one(10));
        discarded.merge(Discarded::default());
        assert_eq!(discarded.group, one);
        discarded.add(other, Count::one(10));
        discarded.add(other, Count::one(10));
        assert_eq!((discarded.group, discarded.count.frames), (None, 4));
    }
}
