//! [`Assembly`]: the messages of one connection that are not whole, and what they hold of the memory of all
//! connections.

use std::future::pending;

use futures::future::OptionFuture;

use crate::{
    net::time::{Instant, sleep_until},
    receive::{
        budget::{InboundBudget, Share},
        messages::Messages,
    },
};

/// The messages of one connection and their memory.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) messages: Messages,
    pub(super) share: Share,
}

impl Assembly {
    pub(super) fn new(messages: Messages, budget: &InboundBudget) -> Self {
        Assembly {
            messages,
            share: budget.share(),
        }
    }

    /// Returns whether a message has waited too long by now, or all must be given up.
    pub(super) fn is_over_by(&self, now: Instant) -> bool {
        self.share.is_given_up() || self.messages.due().is_some_and(|due| due <= now)
    }

    /// Waits until a message has waited too long for its next part, or all of them must be given up.
    pub(super) async fn is_over(&self) {
        let late = OptionFuture::from(self.messages.due().map(sleep_until));
        let share = Some(&self.share).filter(|share| share.may_be_given_up());
        let given_up = OptionFuture::from(share.map(Share::given_up));
        tokio::select! {
            biased;
            Some(()) = late => {}
            Some(_) = given_up => {}
            else => pending().await,
        }
    }
}
