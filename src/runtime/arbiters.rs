//! The threads that the transport's actors run on.
//!
//! Owns the arbiters, and decides in which actix `System` they run. A [`Worker`] is one of them, or the
//! arbiter that called `bind`: tasks can be started on it from any thread. Which actor runs where is
//! decided by whoever starts it. How the arbiters' threads are ended is in `keeper`.

use std::io;

use actix_rt::{Arbiter, ArbiterHandle, System};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    config::Placement,
    observe::subscribers::Subscribers,
    runtime::{
        keeper::Keeper,
        lifecycle::Lifecycle,
        worker::{Worker, worker},
    },
};

/// All workers of one transport.
#[derive(Debug)]
pub(crate) struct Arbiters {
    pub(crate) readers: Vec<Worker>,
    pub(crate) writers: Vec<Worker>,
    /// With `Placement::Current` the arbiter that called `bind`, otherwise the first of the `System` that
    /// the transport runs in.
    pub(crate) home: ArbiterHandle,
    /// The arbiter of the first reader. The subscribers' tasks and the timers of `stop` run on it.
    pub(crate) first: ArbiterHandle,
    presence: Presence,
    /// Those that the transport started, and who ends them. `None` when `stop` has begun to end them.
    own: Mutex<Option<(Keeper, Vec<Arbiter>)>>,
    subscribers: Subscribers,
    /// Cancelled when the threads of `own` have ended, or there are none.
    joined: CancellationToken,
}

impl Arbiters {
    /// Starts the arbiters that the placement asks for, and, where no `System` runs on this thread, the
    /// `System` that they belong to.
    pub(crate) fn start(
        placement: Placement,
        lifecycle: &Lifecycle,
        subscribers: Subscribers,
    ) -> io::Result<Self> {
        let (number, readers) = match placement {
            Placement::Dedicated { readers, writers } => (readers + writers, Some(readers)),
            Placement::Shared { arbiters } => (arbiters, None),
            Placement::Current => return Self::on_this_thread(lifecycle, subscribers),
        };
        let joined = CancellationToken::new();
        let (keeper, arbiters, home) = match living_system() {
            Some(system) => Keeper::beside(&system, number, &joined)?,
            None => Keeper::with_system(number, &joined, &subscribers)?,
        };
        // There is at least one of each kind, as the configuration was checked.
        let first = arbiters[0].handle();
        let mut workers: Vec<_> = arbiters
            .iter()
            .map(|arbiter| {
                let (worker, work) = worker(lifecycle);
                arbiter.spawn(work);
                worker
            })
            .collect();
        let writers = match readers {
            Some(readers) => workers.split_off(readers),
            None => workers.clone(),
        };
        Ok(Arbiters {
            writers,
            readers: workers,
            home,
            presence: Presence::of(&first),
            first,
            own: Mutex::new(Some((keeper, arbiters))),
            subscribers,
            joined,
        })
    }

    /// Everything runs on the arbiter of this thread, and there is no thread to end.
    fn on_this_thread(lifecycle: &Lifecycle, subscribers: Subscribers) -> io::Result<Self> {
        let ended = || io::Error::other("the arbiter of this thread has ended");
        let here = Arbiter::try_current().ok_or_else(ended)?;
        let (worker, work) = worker(lifecycle);
        if !here.spawn(work) {
            return Err(ended());
        }
        let joined = CancellationToken::new();
        joined.cancel();
        Ok(Arbiters {
            readers: vec![worker.clone()],
            writers: vec![worker],
            home: here.clone(),
            presence: Presence::of(&here),
            first: here,
            own: Mutex::new(None),
            subscribers,
            joined,
        })
    }

    /// Runs `task` on an arbiter, where timers work, and waits until it has ended. If the arbiter is gone,
    /// or ends meanwhile, so does the wait. Dropping the future cancels the task.
    ///
    /// For `stop`, which may run on a thread without a runtime.
    pub(crate) fn run<T>(&self, task: T) -> impl Future<Output = ()> + use<T>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let (mut running, ended) = oneshot::channel::<()>();
        self.first.spawn(async move {
            tokio::select! {
                () = task => {}
                () = running.closed() => {}
            }
        });
        let gone = self.presence.gone.clone();
        async move {
            tokio::select! {
                // The task drops its end, whether it was run to its end or not.
                _ = ended => {}
                () = gone.cancelled() => {}
            }
        }
    }

    /// Ends the arbiters and waits until their threads have ended. May be called again, and after a
    /// call that was cancelled; each call waits for the same end.
    pub(crate) async fn stop(&self) {
        let own = self.own.lock().take();
        if let Some((keeper, arbiters)) = own {
            keeper.end(arbiters);
        }
        self.joined.cancelled().await;
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        let Some((_keeper, arbiters)) = self.own.get_mut().take() else {
            return;
        };
        for arbiter in arbiters {
            // The arbiters stay until the subscribers have handled the last events, or have had the
            // time to.
            let subscribers = self.subscribers.clone();
            arbiter.spawn(async move {
                subscribers.end().await;
                Arbiter::current().stop();
            });
        }
    }
}

/// Tells when an arbiter has ended.
///
/// That its tasks are dropped does not tell it: a task that is given to an arbiter at the moment of its end may stay in
/// the channel to it, where nobody takes it and nobody drops it.
#[derive(Debug)]
struct Presence {
    /// Cancelled when the arbiter has ended.
    gone: CancellationToken,
    /// Ends the task that tells.
    _watched: DropGuard,
}

impl Presence {
    fn of(arbiter: &ArbiterHandle) -> Self {
        let (gone, unwatched) = (CancellationToken::new(), CancellationToken::new());
        let (here, end) = (gone.clone().drop_guard(), unwatched.clone());
        arbiter.spawn(async move {
            let _here = here;
            end.cancelled().await;
        });
        Presence {
            gone,
            _watched: unwatched.drop_guard(),
        }
    }
}

/// Returns whether an actix arbiter runs on this thread.
pub(crate) fn is_arbiter_here() -> bool {
    Arbiter::try_current().is_some_and(|arbiter| arbiter.alive())
}

/// Returns the `System` of this thread. A `System` that has ended stays registered on its thread, and
/// does not count.
fn living_system() -> Option<System> {
    System::try_current().filter(|system| system.arbiter().alive())
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, thread};

    use futures::{FutureExt, executor::block_on};

    use super::*;

    #[actix::test]
    async fn a_second_stop_waits_for_the_threads_although_the_first_was_cancelled() {
        let arbiters = Arbiters::start(
            Placement::default(),
            &Lifecycle::default(),
            Subscribers::default(),
        );
        let arbiters = arbiters.expect("arbiters");
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (busy, is_busy) = tokio::sync::oneshot::channel();
        arbiters.readers[0].start(Box::new(move || {
            let _ = busy.send(());
            // Blocks the thread until `go` is dropped.
            let _ = wait.recv();
        }));
        is_busy.await.expect("it runs");
        assert!(arbiters.stop().now_or_never().is_none(), "cancelled");
        let mut again = pin!(arbiters.stop());
        assert!(again.as_mut().now_or_never().is_none(), "still running");
        drop(go);
        again.await;
    }

    /// Without [`Presence`], one of some 90,000 waits did not end.
    #[test]
    fn a_wait_for_a_task_ends_although_the_arbiter_ends_as_the_task_is_given_to_it() {
        for _ in 0..50 {
            let arbiters = Arbiters::start(
                Placement::Shared { arbiters: 1 },
                &Lifecycle::default(),
                Subscribers::default(),
            );
            let arbiters = arbiters.expect("arbiters");
            thread::scope(|scope| {
                scope.spawn(|| (0..100).for_each(|_| block_on(arbiters.run(async {}))));
                block_on(arbiters.stop());
            });
        }
    }
}
