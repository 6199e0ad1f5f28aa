//! [`KnownNodes`]: the latest incarnation of each node that introduced itself, and the links with it.
//!
//! When a later incarnation of a node comes, the links of the former one are told to end. Each link watches
//! its [`Session`]. Does no I/O.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ids::{Incarnation, NodeId},
    lane::Lane,
    peer_addr::PeerAddr,
    session::{
        admitted::Session,
        inbound_stream::{InboundStream, RememberedGroups},
        open_link::OpenLink,
    },
};

/// The most nodes that are known. Strangers can make up any number of ids. If there are more, those without
/// a link that have not been heard of for longest are forgotten: half of them at once, so that this takes
/// little time for each.
const MAX_KNOWN: usize = 16 << 10;

/// The most streams of one node that are remembered: two for each lane. If there are more, one that no link has is
/// forgotten.
const MAX_STREAMS: usize = 2 * Lane::COUNT;

/// The nodes that have introduced themselves to this one.
#[derive(Debug, Default)]
pub(super) struct KnownNodes {
    nodes: HashMap<NodeId, Known>,
    /// How many groups all streams remember.
    remembered: RememberedGroups,
    /// How many links with each node are being made, by lane, whoever dialled. Those with none are not in here.
    greetings: HashMap<(NodeId, Lane), usize>,
    /// Grows with every look-up, to tell which node has not been heard of for longest.
    clock: u64,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    life: Life,
    /// The links of the incarnation before.
    former: TaskTracker,
    heard: u64,
    /// The links that may be written to, if nobody writes to them.
    open: Vec<Weak<OpenLink>>,
    /// What its queues have sent, by their numbers.
    streams: HashMap<u64, Arc<InboundStream>>,
    /// The peer that stands for the node: frames for it go into the queue of this one.
    peer: Option<PeerAddr>,
    /// The streams of our own queues for the node that have ended.
    retired: Vec<Retired>,
}

/// How far the numbers of a queue got that has ended.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Retired {
    pub(crate) lane: Lane,
    pub(crate) stream: u64,
    pub(crate) next: u64,
}

/// The links with one incarnation of a node.
#[derive(Debug, Clone, Default)]
struct Life {
    superseded: CancellationToken,
    links: TaskTracker,
}

/// Why a node gets no session.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum NotAdmitted {
    /// This later incarnation is known.
    Older(Incarnation),
    /// Too many nodes have links.
    Full,
}

impl KnownNodes {
    /// Adds a link with a node. If this is a later incarnation than was known, the links of the former one
    /// are told to end.
    pub(super) fn admit(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<Session, NotAdmitted> {
        self.clock += 1;
        if self.nodes.len() >= MAX_KNOWN && !self.nodes.contains_key(&node) {
            self.forget_some();
            if self.nodes.len() >= MAX_KNOWN {
                return Err(NotAdmitted::Full);
            }
        }
        let known = match self.nodes.entry(node) {
            Entry::Vacant(vacant) => vacant.insert(Known::new(incarnation, TaskTracker::new())),
            Entry::Occupied(occupied) => {
                let known = occupied.into_mut();
                if incarnation < known.incarnation {
                    return Err(NotAdmitted::Older(known.incarnation));
                }
                if incarnation > known.incarnation {
                    known.life.superseded.cancel();
                    let peer = known.peer.take();
                    *known = Known::new(incarnation, known.life.links.clone());
                    known.peer = peer;
                }
                known
            }
        };
        known.heard = self.clock;
        Ok(Session {
            superseded: known.life.superseded.clone(),
            former: known.former.clone(),
            _link: known.life.links.token(),
        })
    }

    /// Returns a number that is higher than those before it.
    pub(super) fn count_up(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Adds a link that may be written to. Of any two of a lane, the worse is replaced if the better is free.
    pub(super) fn add_link(&mut self, link: &Arc<OpenLink>) {
        let Some(known) = self.of(link.node, link.incarnation) else {
            return;
        };
        known.open.retain(|open| open.strong_count() > 0);
        let open = known.open.iter().filter_map(Weak::upgrade);
        for open in open.filter(|open| open.lane == link.lane) {
            let (worse, better) = match open.rank < link.rank {
                true => (&*open, link),
                false => (&**link, &open),
            };
            if better.is_free() {
                worse.replace();
            }
        }
        known.open.push(Arc::downgrade(link));
    }

    /// Notes that a link of a lane with a node is being made.
    pub(super) fn greets(&mut self, node: NodeId, lane: Lane) {
        *self.greetings.entry((node, lane)).or_default() += 1;
    }

    /// Notes that such a link is there, or that there will be none.
    pub(super) fn has_greeted(&mut self, node: NodeId, lane: Lane) {
        if let Some(count) = self.greetings.get_mut(&(node, lane)) {
            *count -= 1;
            if *count == 0 {
                self.greetings.remove(&(node, lane));
            }
        }
    }

    /// Returns whether frames may still begin to come on another link of the same lane with the node of this one. They
    /// may come as soon as one end has answered: before this end has read the answer, or right after it has
    /// written it.
    pub(super) fn another_may_begin(&self, link: &OpenLink) -> bool {
        if self.greetings.contains_key(&(link.node, link.lane)) {
            return true;
        }
        let known = self.nodes.get(&link.node);
        let known = known.filter(|known| known.incarnation == link.incarnation);
        let open = known.into_iter().flat_map(|known| &known.open);
        let mut others = open
            .filter_map(Weak::upgrade)
            .filter(|open| open.lane == link.lane && open.rank != link.rank);
        others.any(|other| other.may_begin())
    }

    /// Returns all links that are open.
    #[cfg(feature = "tls")]
    pub(super) fn links(&self) -> Vec<Arc<OpenLink>> {
        let open = self.nodes.values().flat_map(|known| &known.open);
        open.filter_map(Weak::upgrade).collect()
    }

    /// Returns the best of the links of a lane with a node that nobody writes to.
    pub(super) fn best_link(&self, node: NodeId, lane: Lane) -> Option<Arc<OpenLink>> {
        let open = self.nodes.get(&node)?.open.iter();
        let of_lane = open
            .filter_map(Weak::upgrade)
            .filter(|open| open.lane == lane);
        let free = of_lane.filter(|open| open.is_free());
        free.max_by_key(|open| open.rank)
    }

    /// Returns one of the streams of a node. `None` if a later incarnation has come.
    pub(super) fn stream(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        number: u64,
    ) -> Option<Arc<InboundStream>> {
        let known = self.nodes.get_mut(&node);
        let known = known.filter(|known| known.incarnation == incarnation)?;
        if known.streams.len() >= MAX_STREAMS && !known.streams.contains_key(&number) {
            let unused = known
                .streams
                .iter()
                .filter(|(_, it)| Arc::strong_count(it) == 1);
            // Of those, the queue that was made first.
            let oldest = unused.map(|(&number, _)| number).min();
            known.streams.remove(&oldest?);
        }
        let new = || Arc::new(InboundStream::new(self.remembered.clone()));
        Some(known.streams.entry(number).or_insert_with(new).clone())
    }

    /// Lets a peer stand for the node.
    pub(super) fn set_peer(&mut self, node: NodeId, peer: &PeerAddr) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.peer = Some(peer.clone());
        }
    }

    /// Returns the peer that stands for the node.
    pub(super) fn peer(&self, node: NodeId) -> Option<&PeerAddr> {
        self.nodes.get(&node)?.peer.as_ref()
    }

    /// Notes how far a queue for the node got.
    pub(super) fn retire(&mut self, node: NodeId, retired: Retired) {
        if let Some(known) = self.nodes.get_mut(&node)
            && known.retired.len() < MAX_STREAMS
        {
            known.retired.push(retired);
        }
    }

    /// Takes one of those of a lane out, for a queue that goes on with its numbers.
    pub(super) fn take_retired(&mut self, node: NodeId, lane: Lane) -> Option<Retired> {
        let retired = &mut self.nodes.get_mut(&node)?.retired;
        let last = retired.iter().rposition(|retired| retired.lane == lane)?;
        Some(retired.remove(last))
    }

    fn of(&mut self, node: NodeId, incarnation: Incarnation) -> Option<&mut Known> {
        let known = self.nodes.get_mut(&node);
        known.filter(|known| known.incarnation == incarnation)
    }

    /// Forgets the half of the nodes without links that have not been heard of for longest.
    fn forget_some(&mut self) {
        let unused = self.nodes.values().filter(|known| known.is_unused());
        let mut heard: Vec<_> = unused.map(|known| known.heard).collect();
        let middle = heard.len() / 2;
        if heard.is_empty() {
            return;
        }
        let (_, middle, _) = heard.select_nth_unstable(middle);
        let middle = *middle;
        self.nodes
            .retain(|_, known| known.heard > middle || !known.is_unused());
    }
}

impl Known {
    fn new(incarnation: Incarnation, former: TaskTracker) -> Self {
        // A tracker can be waited for only when it is closed. A closed one still counts.
        former.close();
        Known {
            incarnation,
            life: Life::default(),
            former,
            heard: 0,
            open: Vec::new(),
            streams: HashMap::new(),
            peer: None,
            retired: Vec::new(),
        }
    }

    fn is_unused(&self) -> bool {
        self.life.links.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn admit(known: &mut KnownNodes, node: u64, number: u64) -> Result<Session, NotAdmitted> {
        known.admit(NodeId::new(node), Incarnation::new(number))
    }

    #[test]
    fn an_older_incarnation_is_not_admitted_and_learns_which_is_known() {
        let mut known = KnownNodes::default();
        admit(&mut known, 1, 7).expect("the first");
        admit(&mut known, 1, 7).expect("the same again");
        let older = admit(&mut known, 1, 6).expect_err("older");
        assert_eq!(older, NotAdmitted::Older(Incarnation::new(7)));
        admit(&mut known, 2, 6).expect("another node");
    }

    #[test]
    fn a_later_incarnation_ends_the_links_of_the_former_and_can_wait_for_that() {
        let mut known = KnownNodes::default();
        let former = admit(&mut known, 1, 7).expect("the first");
        let other = admit(&mut known, 2, 7).expect("another node");
        let later = admit(&mut known, 1, 8).expect("later");
        assert!(former.superseded.is_cancelled());
        assert!(!later.superseded.is_cancelled() && !other.superseded.is_cancelled());
        assert!(later.former_ended().now_or_never().is_none());
        let second = admit(&mut known, 1, 8).expect("the same");
        assert!(second.former_ended().now_or_never().is_none());
        drop(former);
        assert!(later.former_ended().now_or_never().is_some());
        assert!(second.former_ended().now_or_never().is_some());
    }

    #[test]
    fn a_first_incarnation_waits_for_nobody() {
        let first = admit(&mut KnownNodes::default(), 1, 7).expect("the first");
        assert!(first.former_ended().now_or_never().is_some());
    }

    #[test]
    fn the_number_of_known_nodes_is_bounded_and_those_with_links_stay() {
        let mut known = KnownNodes::default();
        let link = admit(&mut known, 0, 7).expect("the first");
        for node in 1..3 * MAX_KNOWN as u64 {
            admit(&mut known, node, 7).expect("others are forgotten");
            assert!(known.nodes.len() <= MAX_KNOWN);
        }
        admit(&mut known, 0, 6).expect_err("it is still known");
        let last = 3 * MAX_KNOWN as u64 - 1;
        admit(&mut known, last, 6).expect_err("heard of lately");
        admit(&mut known, 1, 6).expect("forgotten long ago");
        drop(link);
        let full: Vec<_> = (0..2 * MAX_KNOWN as u64)
            .map_while(|node| admit(&mut known, node, 9).ok())
            .collect();
        assert_eq!(full.len(), MAX_KNOWN);
        let refused = admit(&mut known, u64::MAX, 1).expect_err("all have links");
        assert_eq!(refused, NotAdmitted::Full);
    }
}
