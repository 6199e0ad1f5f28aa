//! [`NodeMemory`]: how long the messages of one node may be together that are not whole, over all its connections.
//!
//! A message takes its whole length of what its node may have before its first bytes are kept. So a message waits for
//! those of other connections, and is not dropped in the middle for them. The memory for what has come is taken from
//! `budget`, as for everything else.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::NodeId;

/// What all nodes may have. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct NodeMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What each node may have, in bytes.
    max: usize,
    nodes: Mutex<HashMap<NodeId, OfNode>>,
}

#[derive(Debug)]
struct OfNode {
    /// Has one permit for each byte. Whoever waits is served in turn, so that long messages get their turn, too.
    free: Arc<Semaphore>,
    /// How many connections have a share. Without any, the node is forgotten.
    shares: usize,
}

impl NodeMemory {
    /// Lets each node have as much as the longest message.
    pub(crate) fn new(longest_message: usize) -> Self {
        NodeMemory(Arc::new(Inner {
            max: longest_message,
            nodes: Mutex::default(),
        }))
    }

    /// Returns the share of one connection of this node. It has nothing yet.
    pub(super) fn share(&self, node: NodeId) -> NodeShare {
        let mut nodes = self.0.nodes.lock();
        let of_node = nodes.entry(node).or_insert_with(|| OfNode {
            free: Arc::new(Semaphore::new(self.0.max)),
            shares: 0,
        });
        of_node.shares += 1;
        NodeShare {
            taken: None,
            free: of_node.free.clone(),
            memory: self.clone(),
            node,
        }
    }
}

/// What one connection has taken of what its node may have. Dropping this gives it back.
#[derive(Debug)]
pub(super) struct NodeShare {
    taken: Option<OwnedSemaphorePermit>,
    free: Arc<Semaphore>,
    memory: NodeMemory,
    node: NodeId,
}

impl NodeShare {
    /// Raises what this connection has to `bytes`, if the node may have as many.
    pub(super) fn try_raise(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken());
        if more == 0 {
            return true;
        }
        let Ok(permit) = self.free.clone().try_acquire_many_owned(permits(more)) else {
            return false;
        };
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        true
    }

    /// Waits until the node may have this many bytes more. Gives back what this connection has first: otherwise two
    /// connections could wait for each other.
    pub(super) async fn wait_for(&mut self, bytes: usize) {
        self.taken = None;
        // Fails only if the semaphore is closed, which it never is.
        self.taken = self
            .free
            .clone()
            .acquire_many_owned(permits(bytes))
            .await
            .ok();
    }

    /// Lowers what this connection has to `bytes`, if it is more.
    pub(super) fn lower(&mut self, bytes: usize) {
        let less = self.taken().saturating_sub(bytes);
        if less > 0 {
            let given_back = self.taken.as_mut().and_then(|taken| taken.split(less));
            drop(given_back);
        }
    }

    fn taken(&self) -> usize {
        self.taken
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

impl Drop for NodeShare {
    fn drop(&mut self) {
        let mut nodes = self.memory.0.nodes.lock();
        if let Some(of_node) = nodes.get_mut(&self.node) {
            of_node.shares -= 1;
            if of_node.shares == 0 {
                nodes.remove(&self.node);
            }
        }
    }
}

/// No message is longer than 1 GiB.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LONGEST: usize = 1 << 20;

    fn two_of(memory: &NodeMemory, node: u64) -> [NodeShare; 2] {
        [(); 2].map(|()| memory.share(NodeId::new(node)))
    }

    #[test]
    fn the_connections_of_a_node_have_one_longest_message_together_and_another_node_as_much() {
        let memory = NodeMemory::new(LONGEST);
        let mut shares: Vec<_> = (0..100).map(|_| memory.share(NodeId::new(1))).collect();
        let taken = shares.iter_mut().map(|share| share.try_raise(64 << 10));
        assert_eq!(taken.filter(|taken| *taken).count(), LONGEST >> 16);
        assert!(memory.share(NodeId::new(2)).try_raise(LONGEST));
        drop(shares);
        assert!(memory.share(NodeId::new(1)).try_raise(LONGEST));
    }

    #[test]
    fn what_is_given_back_goes_to_those_who_wait_in_their_order() {
        let memory = NodeMemory::new(LONGEST);
        let [mut has, mut long] = two_of(&memory, 1);
        let [mut short, mut late] = two_of(&memory, 1);
        assert!(has.try_raise(LONGEST));
        let mut long = Box::pin(long.wait_for(LONGEST / 2));
        let mut short = Box::pin(short.wait_for(1));
        assert_eq!(
            (long.as_mut().now_or_never(), short.as_mut().now_or_never()),
            (None, None)
        );
        has.lower(LONGEST - 1);
        assert!(!late.try_raise(1) && short.as_mut().now_or_never().is_none());
        has.lower(LONGEST / 2);
        assert_eq!(long.now_or_never(), Some(()));
        assert_eq!(short.now_or_never(), None);
        drop(has);
        assert!(late.try_raise(1));
    }

    #[test]
    fn whoever_waits_has_given_back_what_it_had() {
        let memory = NodeMemory::new(LONGEST);
        let [mut first, mut second] = two_of(&memory, 1);
        assert!(first.try_raise(LONGEST / 2) && second.try_raise(LONGEST / 2));
        assert_eq!(first.wait_for(LONGEST).now_or_never(), None);
        assert_eq!(second.wait_for(LONGEST).now_or_never(), Some(()));
    }

    #[test]
    fn what_a_connection_has_is_raised_and_lowered_and_never_beyond() {
        let memory = NodeMemory::new(LONGEST);
        let [mut first, mut second] = two_of(&memory, 1);
        assert!(first.try_raise(10) && first.try_raise(LONGEST) && first.try_raise(5));
        assert!(!second.try_raise(1) && !first.try_raise(LONGEST + 1));
        first.lower(LONGEST - 1);
        first.lower(LONGEST);
        assert!(second.try_raise(1) && !second.try_raise(2));
    }

    #[test]
    fn nodes_without_such_connections_are_forgotten() {
        let memory = NodeMemory::new(LONGEST);
        let known = || memory.0.nodes.lock().len();
        let [first, second] = two_of(&memory, 1);
        drop(first);
        assert_eq!(known(), 1);
        drop(second);
        assert_eq!(known(), 0);
    }
}
