//! Panics on demand, for tests, in a build with the `failpoints` feature; nothing at all otherwise.
//!
//! Each transport has its own failpoints, so that tests in one process do not meet.

/// Where an actor of the transport can be made to panic.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unreachable_pub, reason = "shown with the feature only")
)]
#[non_exhaustive]
pub enum Failpoint {
    /// The `Listener`, between two connections.
    Listener,
    /// Every `Reader`, between two messages.
    Reader,
    /// The `Node`, between two messages.
    Node,
    /// A `PeerWriter`, before it takes a batch.
    BeforeTake,
    /// A `PeerWriter`, with a batch in hand of which nothing is written.
    AfterTake,
    /// A `PeerWriter`, with a batch in hand of which the kernel took a part.
    MidWrite,
    /// A `PeerWriter`, after the kernel took a whole batch.
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

    /// The panics that are still to happen.
    #[derive(Debug, Clone, Default)]
    pub struct Failpoints(Arc<Inner>);

    #[derive(Debug, Default)]
    struct Inner {
        due: Mutex<HashMap<Failpoint, usize>>,
        /// The sum of those, changed under their lock and read without: a batch that passes a point
        /// where nothing is due pays for one load.
        armed: AtomicUsize,
        bell: Notify,
    }

    impl Failpoints {
        /// Makes the next actor to pass `point` panic.
        pub fn arm(&self, point: Failpoint) {
            let mut due = self.0.due.lock();
            *due.entry(point).or_default() += 1;
            self.0.armed.fetch_add(1, Relaxed);
            drop(due);
            self.0.bell.notify_waiters();
        }

        /// Returns whether no panic is due any more.
        pub fn spent(&self) -> bool {
            self.0.armed.load(Relaxed) == 0
        }

        /// Panics if that is due here.
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

        /// Panics as soon as that is due here.
        pub(crate) async fn strike(&self, point: Failpoint) {
            loop {
                let armed = self.0.bell.notified();
                self.hit(point);
                armed.await;
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
        #[expect(clippy::unused_self, reason = "the shape of the armed one")]
        pub(crate) fn hit(&self, _: Failpoint) {}

        #[expect(clippy::unused_self, reason = "the shape of the armed one")]
        pub(crate) fn spent(&self) -> bool {
            true
        }

        #[expect(clippy::unused_self, reason = "the shape of the armed one")]
        pub(crate) fn strike(&self, _: Failpoint) -> std::future::Pending<()> {
            std::future::pending()
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::Failpoints;
#[cfg(not(feature = "failpoints"))]
pub(crate) use disarmed::Failpoints;
