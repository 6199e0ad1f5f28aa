//! [`Delivery`]: the frames of one batch, until they are counted as delivered or dropped.
//!
//! They are counted when the delivery is dropped, so that no code path, and no panic, can lose a frame.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    ids::GroupId,
    observe::{group_account::GroupAccount, receive_accounts::ReceiveAccounts},
    wire::count::Count,
};

/// Received frames of one sender for one actor, on their way to a handler or with it.
///
/// A message in a mailbox goes away in one of two ways: a handler gets it, or the actor ends and its
/// mailbox drops it. Only a handler looks at the message. A delivery that was dropped without having
/// been looked at therefore counts as not delivered.
#[derive(Debug)]
pub(crate) struct Delivery {
    accounts: ReceiveAccounts,
    group_account: GroupAccount,
    from: SocketAddr,
    /// `None`: each may be of another.
    group: Option<GroupId>,
    /// Frames that the handler has not taken.
    left: Count,
    taken: Count,
    /// Whether a handler has looked at the batch.
    seen: AtomicBool,
}

impl Delivery {
    /// Makes a delivery of frames that `accounts` already counts as in delivery.
    pub(super) fn new(
        accounts: ReceiveAccounts,
        group_account: GroupAccount,
        from: SocketAddr,
        group: Option<GroupId>,
        left: Count,
    ) -> Self {
        group_account.receive(left);
        Delivery {
            accounts,
            group_account,
            from,
            group,
            left,
            taken: Count::ZERO,
            seen: AtomicBool::new(false),
        }
    }

    /// Notes that a handler has looked at the batch. From now on, dropping the delivery counts its frames
    /// as delivered.
    #[inline]
    pub(crate) fn see(&self) -> &Self {
        self.seen.store(true, Relaxed);
        self
    }

    pub(crate) fn from(&self) -> SocketAddr {
        self.from
    }

    /// Returns the frames that have not been taken.
    pub(crate) fn left(&self) -> Count {
        self.left
    }

    /// Notes that the handler took a frame of `bytes` bytes.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        let frame = Count::one(bytes);
        self.left -= frame;
        self.taken += frame;
    }

    /// Returns whether the frames left count as delivered: a handler had the batch, and dropped it
    /// without a panic.
    fn is_handled(&self) -> bool {
        (self.seen.load(Relaxed) || !self.taken.is_zero()) && !std::thread::panicking()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.left.is_zero() || self.is_handled() {
            let delivered = self.taken + self.left;
            self.group_account.settle(delivered, None);
            return self.accounts.settle(delivered, &[]);
        }
        let dropped = (self.accounts.not_handled(), self.left);
        self.group_account.settle(self.taken, Some(dropped));
        self.accounts.settle(self.taken, &[dropped]);
        let (why, count) = dropped;
        self.accounts
            .tell_dropped(self.from, self.group, why, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(accounts: &ReceiveAccounts, account: &GroupAccount, count: Count) -> Delivery {
        accounts.receive(count);
        let from = ([127, 0, 0, 1], 1).into();
        let group = Some(GroupId::new(3));
        Delivery::new(accounts.clone(), account.clone(), from, group, count)
    }

    #[test]
    fn a_batch_that_was_seen_counts_as_delivered_and_an_unseen_one_as_dropped() {
        let (accounts, account) = (ReceiveAccounts::default(), GroupAccount::default());
        delivery(&accounts, &account, Count::new(2, 20)).see();
        drop(delivery(&accounts, &account, Count::new(1, 10)));
        let stats = accounts.stats();
        assert_eq!(stats.delivered, Count::new(2, 20));
        assert_eq!(stats.dropped.actor_gone, Count::new(1, 10));
        assert!(stats.in_delivery.is_zero());
        let group = account.stats();
        assert_eq!(group.delivered, stats.delivered);
        assert_eq!(group.dropped, stats.dropped);
        assert_eq!(group.balance(), Ok(()));
    }

    #[test]
    fn a_batch_dropped_unseen_after_the_transport_stopped_counts_as_stopped() {
        let (accounts, account) = (ReceiveAccounts::default(), GroupAccount::default());
        let delivery = delivery(&accounts, &account, Count::one(10));
        accounts.stopping();
        drop(delivery);
        assert_eq!(accounts.stats().dropped.stopped, Count::one(10));
    }
}
