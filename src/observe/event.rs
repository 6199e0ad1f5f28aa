//! What a transport tells its subscribers: `PeerEvent`, in order, from a bounded queue that merges.
//!
//! Each subscriber has an outbox of its own and a task that empties it into the subscriber's mailbox,
//! one message at a time. What is not yet read is not piled up: of one kind of news about one component,
//! only the latest stands in the outbox, at the place of the latest, and numbers of dropped frames
//! add up. So a subscriber that sleeps for an hour wakes to the state of things, not to their story.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::{Message, Recipient};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    observe::stats::{DropReason, Dropped},
    wire::count::Count,
};

/// News for an outbox holds at most this many; what comes then replaces the oldest and is counted.
const OUTBOX: usize = 16 << 10;

/// Something about a peer, or about the transport itself, that its users may want to act on.
///
/// Subscribe with [`Transport::subscribe`](crate::Transport::subscribe). Events about one peer come
/// in order, the next when the one before has been handled. A subscriber that is slow gets the latest
/// of each kind, with dropped frames added up. What it has not read is bounded by 16,384 events; of
/// more, the oldest go, and [`Missed`](PeerEvent::Missed) says how many. When the transport stops,
/// subscribers have 50 ms to read the last of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A connection to the peer stands.
    Up {
        /// Where the peer listens.
        peer: SocketAddr,
        /// Which connection to it this is, counted from 1.
        epoch: u64,
    },
    /// The connection to the peer ended.
    Down {
        /// Where the peer listens.
        peer: SocketAddr,
        /// Which connection ended.
        epoch: u64,
        /// Why.
        reason: DownReason,
    },
    /// The peer could not be connected to. Its frames wait and go stale meanwhile.
    Unreachable {
        /// Where the peer should listen.
        peer: SocketAddr,
        /// When the first try in a row failed.
        since: SystemTime,
        /// How many failed in a row.
        failures: u32,
        /// How the last one failed.
        error: io::ErrorKind,
    },
    /// One of the transport's own actors ended unasked and was started anew. Nothing queued to be
    /// sent, counted or registered was lost by it. A `Reader` takes its connections along, and it and
    /// the `UdpActor` what they had read that was not taken yet, which is counted
    /// ([`DropReason::ActorGone`]); the peers of connections dial again.
    Restarted {
        /// Which.
        component: Component,
    },
    /// One of the transport's own actors ended unasked more often than
    /// [`Config::restart_limit`](crate::Config::restart_limit) allows; it is tried again after
    /// [`Config::failed_retry`](crate::Config::failed_retry).
    Failed {
        /// Which.
        component: Component,
    },
    /// Frames were lost, after they had been accepted or received.
    Dropped {
        /// The peer they were for; none for frames that came in, and for datagrams either way.
        peer: Option<SocketAddr>,
        /// Why.
        reason: DropReason,
        /// How many since the last event of this kind that was read.
        count: Count,
    },
    /// This subscriber was so far behind that news had to go unread.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Message for PeerEvent {
    type Result = ();
}

/// Why a connection ended.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The peer closed it.
    Closed,
    /// The system gave it up.
    Lost(io::ErrorKind),
    /// The peer wrote on a link that only we write on: it does not speak this protocol.
    Spoke,
    /// There was nothing to send for [`Config::idle_timeout`](crate::Config::idle_timeout).
    Idle,
    /// The transport stopped, or the actor that wrote on it ended.
    Ended,
}

/// One of the transport's own actors.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Component {
    /// The one that accepts connections.
    Listener,
    /// One of those that read them.
    Reader(usize),
    /// The [`Node`](crate::Node).
    Node,
    /// The one that writes to this peer.
    PeerWriter(SocketAddr),
    /// The one that sends and receives datagrams.
    UdpActor,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Listener => f.write_str("listener"),
            Component::Reader(index) => write!(f, "reader {index}"),
            Component::Node => f.write_str("node"),
            Component::PeerWriter(peer) => write!(f, "writer of {peer}"),
            Component::UdpActor => f.write_str("udp actor"),
        }
    }
}

/// How long the end waits for subscribers to read the last news.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Who is told. Cheap to tell while nobody listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Subscribers>);

#[derive(Debug, Default)]
struct Subscribers {
    outboxes: Mutex<Vec<Arc<Outbox>>>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Events {
    /// Adds a subscriber and returns the task that keeps it informed, to be run on an arbiter. The
    /// task ends when the subscriber does, or after the last word once `close` was called; dropped
    /// before, by an arbiter that is gone, it leaves nothing behind.
    pub(crate) fn subscribe(
        &self,
        observer: Recipient<PeerEvent>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let outbox = Arc::new(Outbox::default());
        self.0.outboxes.lock().push(outbox.clone());
        let subscription = Subscription(self.0.clone(), outbox);
        let telling = async move {
            let Subscription(subscribers, outbox) = &subscription;
            let told = outbox.tell_all(observer);
            subscribers.over.run_until_cancelled(told).await;
        };
        self.0.tasks.track_future(telling)
    }

    pub(crate) fn tell(&self, event: &PeerEvent) {
        for outbox in self.0.outboxes.lock().iter() {
            outbox.put(event.clone());
        }
    }

    /// Tells of frames dropped on the way out to `peer`, or as datagrams.
    pub(crate) fn tell_dropped(&self, peer: Option<SocketAddr>, dropped: &Dropped) {
        for (reason, count) in dropped.by_reason() {
            if !count.is_zero() {
                self.tell(&PeerEvent::Dropped {
                    peer,
                    reason,
                    count,
                });
            }
        }
    }

    /// Tells of frames that came in and reached no actor.
    pub(crate) fn tell_undelivered(&self, reason: DropReason, count: Count) {
        self.tell(&PeerEvent::Dropped {
            peer: None,
            reason,
            count,
        });
    }

    /// Lets the subscribers' tasks end once they have told everything.
    pub(crate) fn close(&self) {
        self.0.tasks.close();
        for outbox in self.0.outboxes.lock().iter() {
            outbox.news.lock().closed = true;
            outbox.bell.notify_one();
        }
    }

    /// Closes, and waits until all subscribers know, or have had the time to.
    pub(crate) async fn end(&self) {
        self.close();
        let _ = timeout(LAST_WORDS, self.0.tasks.wait()).await;
        // Also for those who subscribe to what is over.
        self.0.over.cancel();
        self.0.tasks.wait().await;
    }
}

/// A place among the subscribers, for as long as there is somebody to tell.
struct Subscription(Arc<Subscribers>, Arc<Outbox>);

impl Drop for Subscription {
    fn drop(&mut self) {
        let Subscription(subscribers, outbox) = self;
        let mut outboxes = subscribers.outboxes.lock();
        outboxes.retain(|other| !Arc::ptr_eq(other, outbox));
    }
}

/// What one subscriber has not read yet.
#[derive(Debug, Default)]
struct Outbox {
    news: Mutex<News>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct News {
    /// In the order of telling.
    unread: BTreeMap<u64, PeerEvent>,
    /// Where the unread news of each topic stands.
    place: HashMap<Topic, u64>,
    next: u64,
    missed: u64,
    closed: bool,
}

impl Outbox {
    fn put(&self, event: PeerEvent) {
        self.news.lock().put(event);
        self.bell.notify_one();
    }

    /// Tells the observer what there is to tell, until there can be no more or it has ended.
    async fn tell_all(&self, observer: Recipient<PeerEvent>) {
        while let Some(event) = self.next().await {
            if observer.send(event).await.is_err() && !observer.connected() {
                return;
            }
        }
    }

    async fn next(&self) -> Option<PeerEvent> {
        loop {
            {
                let mut news = self.news.lock();
                if let Some(event) = news.pop() {
                    return Some(event);
                }
                if news.closed {
                    return None;
                }
            }
            self.bell.notified().await;
        }
    }
}

impl News {
    fn put(&mut self, mut event: PeerEvent) {
        let topic = Topic::of(&event);
        if let Some(old) = self.place.remove(&topic)
            && let Some(old) = self.unread.remove(&old)
        {
            event.absorb(&old);
        } else if self.unread.len() >= OUTBOX {
            self.missed += u64::from(self.pop_oldest().is_some());
        }
        self.place.insert(topic, self.next);
        self.unread.insert(self.next, event);
        self.next += 1;
    }

    fn pop(&mut self) -> Option<PeerEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.pop_oldest(),
            events => Some(PeerEvent::Missed { events }),
        }
    }

    fn pop_oldest(&mut self) -> Option<PeerEvent> {
        let (_, event) = self.unread.pop_first()?;
        self.place.remove(&Topic::of(&event));
        Some(event)
    }
}

/// News of the same topic replace each other.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
enum Topic {
    Up(SocketAddr),
    Down(SocketAddr),
    Unreachable(SocketAddr),
    Restarted(Component),
    Failed(Component),
    Dropped(Option<SocketAddr>, DropReason),
    Missed,
}

impl Topic {
    fn of(event: &PeerEvent) -> Self {
        match *event {
            PeerEvent::Up { peer, .. } => Topic::Up(peer),
            PeerEvent::Down { peer, .. } => Topic::Down(peer),
            PeerEvent::Unreachable { peer, .. } => Topic::Unreachable(peer),
            PeerEvent::Restarted { component } => Topic::Restarted(component),
            PeerEvent::Failed { component } => Topic::Failed(component),
            PeerEvent::Dropped { peer, reason, .. } => Topic::Dropped(peer, reason),
            PeerEvent::Missed { .. } => Topic::Missed,
        }
    }
}

impl PeerEvent {
    /// Takes over what an older event of the same topic said and this one does not.
    fn absorb(&mut self, older: &PeerEvent) {
        if let (PeerEvent::Dropped { count, .. }, PeerEvent::Dropped { count: more, .. }) =
            (self, older)
        {
            *count += *more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn stale(port: u16, frames: usize) -> PeerEvent {
        PeerEvent::Dropped {
            peer: Some(peer(port)),
            reason: DropReason::Stale,
            count: Count::new(frames, 0),
        }
    }

    fn all(news: &mut News) -> Vec<String> {
        std::iter::from_fn(|| news.pop())
            .map(|event| match event {
                PeerEvent::Up { epoch, .. } => format!("up {epoch}"),
                PeerEvent::Down { epoch, .. } => format!("down {epoch}"),
                PeerEvent::Dropped { count, .. } => format!("dropped {}", count.frames),
                PeerEvent::Missed { events } => format!("missed {events}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_is_read_in_time_is_read_as_it_happened() {
        let mut news = News::default();
        news.put(stale(1, 2));
        assert_eq!(all(&mut news), ["dropped 2"]);
        news.put(stale(1, 3));
        assert_eq!(all(&mut news), ["dropped 3"]);
    }

    #[test]
    fn what_is_not_read_merges_into_the_latest_state() {
        let mut news = News::default();
        for epoch in 1..=3 {
            news.put(PeerEvent::Up {
                peer: peer(1),
                epoch,
            });
            news.put(stale(1, 5));
            if epoch < 3 {
                let reason = DownReason::Closed;
                news.put(PeerEvent::Down {
                    peer: peer(1),
                    epoch,
                    reason,
                });
            }
        }
        assert_eq!(all(&mut news), ["down 2", "up 3", "dropped 15"]);
    }

    #[test]
    fn an_outbox_that_nobody_reads_does_not_grow() {
        let mut news = News::default();
        for port in 1..=u16::MAX {
            news.put(stale(port, 1));
        }
        assert_eq!((news.unread.len(), news.place.len()), (OUTBOX, OUTBOX));
        let missed = u16::MAX as usize - OUTBOX;
        assert_eq!(all(&mut news)[0], format!("missed {missed}"));
    }
}
