//! Points at which tests can make the transport's actors panic. Without the feature `failpoints` they
//! do nothing.
//!
//! Each transport has its own, so that tests in one process do not affect each other.

/// A place where an actor of the transport can be made to panic.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unreachable_pub, reason = "public with the feature only")
)]
#[non_exhaustive]
pub enum Failpoint {
    /// The `Listener`, between two connections.
    Listener,
    /// A `Reader`, between two messages.
    Reader,
    /// The `Node`, between two messages.
    Node,
    /// A `PeerWriter`, before it takes a batch.
    BeforeTake,
    /// A `PeerWriter` that has taken a batch and written nothing of it.
    AfterTake,
    /// A `PeerWriter` that is writing a batch, between two writes.
    MidWrite,
    /// A `PeerWriter` that has written a whole batch.
    AfterWrite,
    /// The `UdpActor`, between two datagrams.
    Udp,
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        collections::HashMap,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use parking_lot::Mutex;
    use tokio::sync::Notify;

    use super::Failpoint;

    /// The panics that a test has asked for and that have not happened yet.
    #[derive(Debug, Clone, Default)]
    pub struct Failpoints(Arc<Inner>);

    #[derive(Debug, Default)]
    struct Inner {
        due: Mutex<HashMap<Failpoint, usize>>,
        /// The sum of `due`. Changed under its lock and read without, so that a batch that passes a
        /// point where nothing is armed costs one atomic load.
        armed: AtomicUsize,
        changed: Notify,
    }

    impl Failpoints {
        /// Makes the next actor to pass `point` panic.
        pub fn arm(&self, point: Failpoint) {
            let mut due = self.0.due.lock();
            *due.entry(point).or_default() += 1;
            self.0.armed.fetch_add(1, Relaxed);
            drop(due);
            self.0.changed.notify_waiters();
        }

        /// Returns whether no panic is armed.
        pub fn spent(&self) -> bool {
            self.0.armed.load(Relaxed) == 0
        }

        /// Panics if `point` is armed.
        #[inline]
        pub(crate) fn hit(&self, point: Failpoint) {
            if self.0.armed.load(Relaxed) > 0 {
                self.hit_if_due(point);
            }
        }

        #[cold]
        fn hit_if_due(&self, point: Failpoint) {
            let mut due = self.0.due.lock();
            let Some(due_here) = due.get_mut(&point).filter(|due| **due > 0) else {
                return;
            };
            *due_here -= 1;
            self.0.armed.fetch_sub(1, Relaxed);
            drop(due);
            panic!("failpoint {point:?}");
        }

        /// Waits until `point` is armed, and panics.
        pub(crate) async fn strike(&self, point: Failpoint) {
            loop {
                let changed = self.0.changed.notified();
                self.hit(point);
                changed.await;
            }
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod disarmed {
    use super::Failpoint;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Failpoints;

    impl Failpoints {
        #[inline]
        #[expect(clippy::unused_self, reason = "same signature as with the feature")]
        pub(crate) fn hit(&self, _: Failpoint) {}

        #[expect(clippy::unused_self, reason = "same signature as with the feature")]
        pub(crate) fn spent(&self) -> bool {
            true
        }

        #[expect(clippy::unused_self, reason = "same signature as with the feature")]
        pub(crate) fn strike(&self, _: Failpoint) -> std::future::Pending<()> {
            std::future::pending()
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::Failpoints;
#[cfg(not(feature = "failpoints"))]
pub(crate) use disarmed::Failpoints;
