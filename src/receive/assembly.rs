//! [`Assembly`]: the messages of one connection that are not whole, what they hold of the memory of all connections, and
//! what they have of the length that their node may have.

use std::future::pending;

use futures::future::OptionFuture;

use crate::{
    net::time::{Instant, sleep_until},
    receive::{budget::Share, messages::Messages, node_memory::NodeShare},
};

/// The messages of one connection and their memory.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) messages: Messages,
    pub(super) share: Share,
    pub(super) of_node: NodeShare,
}

impl Assembly {
    pub(super) fn new(messages: Messages, share: Share, of_node: NodeShare) -> Self {
        Assembly {
            messages,
            share,
            of_node,
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
