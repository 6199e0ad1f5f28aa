//! The events that one subscriber has not handled yet.
//!
//! Bounded by merging: a newer event replaces a waiting one of the same kind and the same lane of a
//! peer, or the same component, and goes to the end of the queue. Counts of dropped frames are added up. So a
//! subscriber that sleeps for an hour gets the present state and not an hour of history.

use std::collections::{BTreeMap, HashMap};

use actix::Recipient;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    ids::{Incarnation, NodeId},
    lane::{Lane, PeerLane},
    observe::{
        event::{Component, PeerEvent},
        stats::DropReason,
    },
    peer_addr::PeerAddr,
};

/// The most events that wait. One more discards the oldest, which is counted.
const MAX_WAITING: usize = 16 << 10;

/// The most events about nodes that wait. One more is discarded. Strangers can make up nodes, and could push
/// all other events out of the queue.
const MAX_OF_NODES: usize = 4 << 10;

/// The queue of one subscriber.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: Mutex<Waiting>,
    /// Notified when an event was put in, and when the queue was closed.
    changed: Notify,
}

impl EventQueue {
    pub(super) fn put(&self, event: PeerEvent) {
        self.waiting.lock().put(event);
        self.changed.notify_one();
    }

    /// Lets `send_all` return once the queue is empty. `missed` more events happened that were not put
    /// into it.
    pub(super) fn close(&self, missed: u64) {
        let mut waiting = self.waiting.lock();
        waiting.missed += missed;
        waiting.closed = true;
        drop(waiting);
        self.changed.notify_one();
    }

    /// Sends each event to the subscriber, the next when it has handled the one before. Returns when
    /// the queue is closed and empty, or the subscriber has ended.
    pub(super) async fn send_all(&self, subscriber: Recipient<PeerEvent>) {
        while let Some(event) = self.next().await {
            if subscriber.send(event).await.is_err() && !subscriber.connected() {
                return;
            }
        }
    }

    async fn next(&self) -> Option<PeerEvent> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(event) = waiting.pop() {
                    return Some(event);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// The events by their number, which grows with every event put in.
    events: BTreeMap<u64, (Topic, PeerEvent)>,
    /// The number of the event of each topic.
    by_topic: HashMap<Topic, u64>,
    next_number: u64,
    /// How many of the events are about nodes.
    of_nodes: usize,
    /// Discarded events that the subscriber has not been told of.
    missed: u64,
    closed: bool,
}

impl Waiting {
    fn put(&mut self, mut event: PeerEvent) {
        let topic = Topic::of(&event);
        if let Some(number) = self.by_topic.get(&topic)
            && let Some((_, older)) = self.events.remove(number)
        {
            merge(&mut event, &older);
        } else if topic.is_of_node() && self.of_nodes >= MAX_OF_NODES {
            self.missed += 1;
            return;
        } else if self.events.len() >= MAX_WAITING {
            self.missed += u64::from(self.pop_oldest().is_some());
        }
        if self
            .by_topic
            .insert(topic.clone(), self.next_number)
            .is_none()
        {
            self.of_nodes += usize::from(topic.is_of_node());
        }
        self.events.insert(self.next_number, (topic, event));
        self.next_number += 1;
    }

    fn pop(&mut self) -> Option<PeerEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.pop_oldest(),
            events => Some(PeerEvent::Missed { events }),
        }
    }

    fn pop_oldest(&mut self) -> Option<PeerEvent> {
        let (_, (topic, event)) = self.events.pop_first()?;
        self.by_topic.remove(&topic);
        self.of_nodes -= usize::from(topic.is_of_node());
        Some(event)
    }
}

/// What an event is about. A newer event of the same topic replaces the older one.
#[derive(Debug, Clone, Eq, PartialEq, Hash)]
enum Topic {
    Up(PeerLane),
    Down(PeerLane),
    Unreachable(PeerLane),
    #[cfg(feature = "tls")]
    Certified(PeerAddr),
    #[cfg(feature = "tls")]
    TlsReloaded,
    #[cfg(feature = "tls")]
    TlsNotReloaded,
    #[cfg(feature = "tls")]
    CertificateExpires,
    NotAccepting,
    Rebound,
    Restarted(Component),
    Failed(Component),
    /// About frames for a peer, or datagrams.
    Dropped(Option<PeerLane>, DropReason),
    /// About received frames. Senders and groups are not told apart here, because strangers choose them
    /// and could push all other events out of the queue.
    Undelivered(DropReason),
    Heard(NodeId),
    Goodbye(NodeId),
    Gap(NodeId, Incarnation, Lane),
    Missed,
}

impl Topic {
    fn of(event: &PeerEvent) -> Self {
        let of = |peer: &PeerAddr, lane| PeerLane {
            peer: peer.clone(),
            lane,
        };
        match event {
            PeerEvent::Up { peer, lane, .. } => Topic::Up(of(peer, *lane)),
            PeerEvent::Down { peer, lane, .. } => Topic::Down(of(peer, *lane)),
            PeerEvent::Unreachable { peer, lane, .. } => Topic::Unreachable(of(peer, *lane)),
            #[cfg(feature = "tls")]
            PeerEvent::Certified { peer, .. } => Topic::Certified(peer.clone()),
            #[cfg(feature = "tls")]
            PeerEvent::TlsReloaded { .. } => Topic::TlsReloaded,
            #[cfg(feature = "tls")]
            PeerEvent::TlsNotReloaded { .. } => Topic::TlsNotReloaded,
            #[cfg(feature = "tls")]
            PeerEvent::CertificateExpires { .. } => Topic::CertificateExpires,
            PeerEvent::NotAccepting { .. } => Topic::NotAccepting,
            PeerEvent::Rebound { .. } => Topic::Rebound,
            PeerEvent::Restarted { component } => Topic::Restarted(component.clone()),
            PeerEvent::Failed { component } => Topic::Failed(component.clone()),
            PeerEvent::Dropped {
                from: Some(_),
                reason,
                ..
            } => Topic::Undelivered(*reason),
            PeerEvent::Dropped {
                peer, lane, reason, ..
            } => {
                let to = peer.as_ref().zip(*lane);
                Topic::Dropped(to.map(|(peer, lane)| of(peer, lane)), *reason)
            }
            PeerEvent::Heard { node, .. } => Topic::Heard(*node),
            PeerEvent::Goodbye { node, .. } => Topic::Goodbye(*node),
            PeerEvent::Gap {
                node,
                incarnation,
                lane,
                ..
            } => Topic::Gap(*node, *incarnation, *lane),
            PeerEvent::Missed { .. } => Topic::Missed,
        }
    }

    fn is_of_node(&self) -> bool {
        matches!(self, Topic::Heard(_) | Topic::Goodbye(_) | Topic::Gap(..))
    }
}

/// Adds the counts of `older`, a waiting event of the same topic, to `newer`. A sender or group that
/// differs between the two is set to `None`. All else of the newer one stays as it is.
fn merge(newer: &mut PeerEvent, older: &PeerEvent) {
    if let PeerEvent::Down { receipt, .. } = newer
        && let PeerEvent::Down {
            receipt: Some(more),
            ..
        } = older
    {
        *receipt.get_or_insert_default() += *more;
    }
    if let PeerEvent::Dropped {
        from, group, count, ..
    } = newer
        && let PeerEvent::Dropped {
            from: older_from,
            group: older_group,
            count: more,
            ..
        } = older
    {
        *from = from.filter(|_| from == older_from);
        *group = group.filter(|_| group == older_group);
        *count += *more;
    }
    if let PeerEvent::Gap { lost, .. } = newer
        && let PeerEvent::Gap { lost: more, .. } = older
    {
        *lost = lost.saturating_add(*more);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        ids::GroupId,
        observe::{event::DownReason, stats::Receipt},
        wire::count::Count,
    };

    fn peer(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn stale(port: u16, frames: usize) -> PeerEvent {
        PeerEvent::Dropped {
            lane: Some(Lane::NORMAL),
            peer: Some(peer(port).into()),
            from: None,
            group: None,
            reason: DropReason::Stale,
            count: Count::new(frames, 0),
        }
    }

    fn all(waiting: &mut Waiting) -> Vec<String> {
        std::iter::from_fn(|| waiting.pop())
            .map(|event| match event {
                PeerEvent::Up { epoch, .. } => format!("up {epoch}"),
                PeerEvent::Down { epoch, receipt, .. } => {
                    let in_doubt = receipt.map_or(0, |receipt| receipt.in_doubt.frames);
                    format!("down {epoch}, {in_doubt} in doubt")
                }
                PeerEvent::Dropped { count, .. } => format!("dropped {}", count.frames),
                PeerEvent::Missed { events } => format!("missed {events}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_subscriber_that_keeps_up_gets_each_event() {
        let mut waiting = Waiting::default();
        waiting.put(stale(1, 2));
        assert_eq!(all(&mut waiting), ["dropped 2"]);
        waiting.put(stale(1, 3));
        assert_eq!(all(&mut waiting), ["dropped 3"]);
    }

    #[test]
    fn events_that_wait_merge_into_the_latest_state() {
        let mut waiting = Waiting::default();
        for epoch in 1..=3 {
            waiting.put(PeerEvent::Up {
                lane: Lane::NORMAL,
                peer: peer(1).into(),
                addr: peer(1),
                node: None,
                epoch,
            });
            waiting.put(stale(1, 5));
            if epoch < 3 {
                let reason = DownReason::Closed;
                waiting.put(PeerEvent::Down {
                    lane: Lane::NORMAL,
                    peer: peer(1).into(),
                    addr: peer(1),
                    node: None,
                    epoch,
                    reason,
                    receipt: Some(Receipt {
                        confirmed: Count::ZERO,
                        in_doubt: Count::new(4, 0),
                    }),
                });
            }
        }
        assert_eq!(
            all(&mut waiting),
            ["down 2, 8 in doubt", "up 3", "dropped 15"]
        );
    }

    #[test]
    fn received_frames_of_many_senders_and_groups_merge_into_one_event_for_each_reason() {
        let mut waiting = Waiting::default();
        let undelivered = |port, group| PeerEvent::Dropped {
            lane: None,
            peer: None,
            from: Some(peer(port)),
            group: Some(GroupId::new(group)),
            reason: DropReason::NoGroup,
            count: Count::new(1, 8),
        };
        waiting.put(undelivered(1, 7));
        waiting.put(undelivered(2, 7));
        waiting.put(undelivered(2, 7));
        let merged = waiting.pop();
        let expected = "Some(Dropped { peer: None, lane: None, from: None, group: Some(GroupId(7)), \
            reason: NoGroup, count: Count { frames: 3, bytes: 24 } })";
        assert_eq!(format!("{merged:?}"), expected);
        waiting.put(undelivered(1, 7));
        waiting.put(undelivered(1, 8));
        let PeerEvent::Dropped { from, group, .. } = waiting.pop().expect("one") else {
            panic!("another event");
        };
        assert_eq!((from, group), (Some(peer(1)), None));
        assert!(waiting.pop().is_none());
    }

    #[test]
    fn a_queue_that_nobody_reads_does_not_grow_beyond_its_bound() {
        let mut waiting = Waiting::default();
        for port in 1..=u16::MAX {
            waiting.put(stale(port, 1));
        }
        let held = (waiting.events.len(), waiting.by_topic.len());
        assert_eq!(held, (MAX_WAITING, MAX_WAITING));
        let missed = u16::MAX as usize - MAX_WAITING;
        assert_eq!(all(&mut waiting)[0], format!("missed {missed}"));
    }
}
