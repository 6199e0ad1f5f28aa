//! Who is told of events. Telling costs one uncontended lock while nobody has subscribed.
//!
//! Each subscriber has an [`EventQueue`] of its own, and a task that empties it into the subscriber's
//! mailbox.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix::Recipient;
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ids::GroupId,
    lane::PeerLane,
    net::time::timeout,
    observe::{
        event::PeerEvent,
        event_queue::EventQueue,
        stats::{DropReason, Dropped},
    },
    wire::count::Count,
};

/// How long the end of the transport waits for subscribers to handle the last events.
const LAST_EVENTS: Duration = Duration::from_millis(50);

/// How many events are put into queues once the transport ends: one for one subscriber, or a tenth of
/// that for ten of them.
///
/// Thousands of peers may drop their frames then, and each event costs time for each subscriber: 4,096
/// peers and 50 subscribers made `stop` 290 ms late. Subscribers could not handle as many in the time they
/// have. What is more is told as [`PeerEvent::Missed`].
const LAST_PUTS: usize = 16 << 10;

/// The subscribers of one transport. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscribers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queues: Mutex<Queues>,
    tasks: TaskTracker,
    /// Cancelled when the tasks must end, whether or not everything has been handled.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Queues {
    all: Vec<Arc<EventQueue>>,
    /// How many more events may be put into queues. `None` until the transport ends.
    puts_left: Option<usize>,
    /// Events that were not put into any queue, because none may be put any more.
    missed: u64,
}

impl Queues {
    /// Returns whether another event may be put into all queues. Counts it as missed if not.
    fn have_room(&mut self) -> bool {
        let Some(left) = self.puts_left else {
            return true;
        };
        self.puts_left = Some(left.saturating_sub(self.all.len()));
        self.missed += u64::from(left == 0);
        left > 0
    }
}

impl Subscribers {
    /// Adds a subscriber and returns the task that sends it the events, to be run on an arbiter. The
    /// task ends with the subscriber, or after the last event once `close` was called. If it is dropped
    /// earlier, because its arbiter is gone, the subscription ends with it.
    pub(crate) fn add(
        &self,
        subscriber: Recipient<PeerEvent>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let queue = Arc::new(EventQueue::default());
        self.0.queues.lock().all.push(queue.clone());
        let subscription = Subscription(self.0.clone(), queue);
        let sending = async move {
            let Subscription(subscribers, queue) = &subscription;
            let sent = queue.send_all(subscriber);
            subscribers.ended.run_until_cancelled(sent).await;
        };
        self.0.tasks.track_future(sending)
    }

    /// Tells every subscriber.
    pub(crate) fn tell(&self, event: &PeerEvent) {
        let mut queues = self.0.queues.lock();
        if queues.have_room() {
            for queue in &queues.all {
                queue.put(event.clone());
            }
        }
    }

    /// Bounds the work of telling from here on: the transport ends, and many events may come at once.
    pub(crate) fn begin_end(&self) {
        self.0.queues.lock().puts_left.get_or_insert(LAST_PUTS);
    }

    /// Tells of accepted frames that were dropped: those `to` a peer, or datagrams if `None`.
    pub(crate) fn tell_dropped(&self, to: Option<&PeerLane>, dropped: &Dropped) {
        for (reason, count) in dropped.by_reason() {
            if !count.is_zero() {
                self.tell(&PeerEvent::Dropped {
                    peer: to.map(|to| to.peer.clone()),
                    lane: to.map(|to| to.lane),
                    from: None,
                    group: None,
                    reason,
                    count,
                });
            }
        }
    }

    /// Tells of received frames that reached no handler. `group` is `None` if they are of several.
    pub(crate) fn tell_undelivered(
        &self,
        from: SocketAddr,
        group: Option<GroupId>,
        reason: DropReason,
        count: Count,
    ) {
        self.tell(&PeerEvent::Dropped {
            peer: None,
            lane: None,
            from: Some(from),
            group,
            reason,
            count,
        });
    }

    /// Lets the subscribers' tasks end once they have sent everything.
    pub(crate) fn close(&self) {
        self.0.tasks.close();
        let mut queues = self.0.queues.lock();
        let missed = std::mem::take(&mut queues.missed);
        for queue in &queues.all {
            queue.close(missed);
        }
    }

    /// Closes, and waits until all subscribers have handled everything, or have had 50 ms to do so.
    pub(crate) async fn end(&self) {
        self.close();
        let _ = timeout(LAST_EVENTS, self.0.tasks.wait()).await;
        // From here on, new subscriptions end at once.
        self.0.ended.cancel();
        self.0.tasks.wait().await;
    }
}

/// A place among the subscribers, given back on drop.
struct Subscription(Arc<Inner>, Arc<EventQueue>);

impl Drop for Subscription {
    fn drop(&mut self) {
        let Subscription(subscribers, queue) = self;
        let mut queues = subscribers.queues.lock();
        queues.all.retain(|other| !Arc::ptr_eq(other, queue));
    }
}
