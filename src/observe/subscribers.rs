//! Who is told of events. Telling costs one uncontended lock while nobody has subscribed.
//!
//! Each subscriber has an [`EventQueue`] of its own, and a task that empties it into the subscriber's
//! mailbox.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix::Recipient;
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
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

/// The subscribers of one transport. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscribers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queues: Mutex<Vec<Arc<EventQueue>>>,
    tasks: TaskTracker,
    /// Cancelled when the tasks must end, whether or not everything has been handled.
    ended: CancellationToken,
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
        self.0.queues.lock().push(queue.clone());
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
        for queue in self.0.queues.lock().iter() {
            queue.put(event.clone());
        }
    }

    /// Tells of accepted frames that were dropped: those for `peer`, or datagrams if `None`.
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

    /// Tells of received frames that reached no actor.
    pub(crate) fn tell_undelivered(&self, reason: DropReason, count: Count) {
        self.tell(&PeerEvent::Dropped {
            peer: None,
            reason,
            count,
        });
    }

    /// Lets the subscribers' tasks end once they have sent everything.
    pub(crate) fn close(&self) {
        self.0.tasks.close();
        for queue in self.0.queues.lock().iter() {
            queue.close();
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
        queues.retain(|other| !Arc::ptr_eq(other, queue));
    }
}
