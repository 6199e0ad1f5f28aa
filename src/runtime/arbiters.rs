//! The threads that the transport's actors run on.
//!
//! Owns the arbiters. A [`Worker`] is one of them, or the arbiter that called `bind`: tasks can be
//! started on it from any thread. Which actor runs where is decided by whoever starts it.

use std::io;

use actix_rt::Arbiter;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Placement,
    observe::subscribers::Subscribers,
    runtime::{lifecycle::Lifecycle, load_counter::LoadCounter},
};

/// All workers of one transport.
#[derive(Debug)]
pub(crate) struct Arbiters {
    pub(crate) readers: Vec<Worker>,
    pub(crate) writers: Vec<Worker>,
    /// Those that the transport started.
    own: Mutex<Vec<Arbiter>>,
    /// The subscribers' tasks run on `readers[0]`.
    subscribers: Subscribers,
    /// Cancelled when the threads of `own` have ended, or there are none.
    joined: CancellationToken,
}

impl Arbiters {
    /// Starts the arbiters that the placement asks for.
    pub(crate) fn start(
        placement: Placement,
        lifecycle: &Lifecycle,
        subscribers: Subscribers,
    ) -> io::Result<Self> {
        // Made first: if one arbiter cannot be started, dropping this ends those that were.
        let mut arbiters = Arbiters {
            readers: Vec::new(),
            writers: Vec::new(),
            own: Mutex::default(),
            subscribers,
            joined: CancellationToken::new(),
        };
        match placement {
            Placement::Dedicated { readers, writers } => {
                for _ in 0..readers {
                    let worker = arbiters.start_one(lifecycle)?;
                    arbiters.readers.push(worker);
                }
                for _ in 0..writers {
                    let worker = arbiters.start_one(lifecycle)?;
                    arbiters.writers.push(worker);
                }
            }
            Placement::Current => {
                let (worker, work) = worker(lifecycle);
                actix_rt::spawn(work);
                arbiters.readers.push(worker.clone());
                arbiters.writers.push(worker);
            }
        }
        if arbiters.own.get_mut().is_empty() {
            arbiters.joined.cancel();
        }
        Ok(arbiters)
    }

    fn start_one(&mut self, lifecycle: &Lifecycle) -> io::Result<Worker> {
        let arbiter = Arbiter::try_new()?;
        let (worker, work) = worker(lifecycle);
        arbiter.spawn(work);
        self.own.get_mut().push(arbiter);
        Ok(worker)
    }

    /// Ends the arbiters and waits until their threads have ended. May be called again, and after a
    /// call that was cancelled; each call waits for the same end.
    pub(crate) async fn stop(&self) {
        let arbiters = std::mem::take(&mut *self.own.lock());
        if !arbiters.is_empty() {
            let joined = self.joined.clone().drop_guard();
            // Joining blocks, so it has a thread of its own: a short-lived one, and not one of a pool
            // that would outlive the transport.
            std::thread::spawn(move || {
                let _joined = joined;
                for arbiter in arbiters {
                    arbiter.stop();
                    // A thread that panicked has ended as well.
                    let _ = arbiter.join();
                }
            });
        }
        self.joined.cancelled().await;
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        for arbiter in self.own.get_mut() {
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

type Start = Box<dyn FnOnce() + Send>;

/// An arbiter, as somewhere to start tasks from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    // Unbounded, but it carries only the starts of actors and subscribers, of which there are as many
    // as there are actors and subscribers. It carries no data.
    starts: mpsc::UnboundedSender<Start>,
    lifecycle: Lifecycle,
    /// How many peers this worker writes to.
    pub(crate) load: LoadCounter,
}

impl Worker {
    /// Runs `task` there, and lets `stop` wait for it. Returns false if the arbiter is gone.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce() -> F + Send + 'static) -> bool
    where
        F: Future<Output = ()> + 'static,
    {
        let lifecycle = self.lifecycle.clone();
        self.start(Box::new(move || {
            actix_rt::spawn(lifecycle.track(task()));
        }))
    }

    /// The same for a task that `stop` does not wait for.
    pub(crate) fn spawn_untracked(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        self.start(Box::new(|| {
            actix_rt::spawn(task);
        }))
    }

    fn start(&self, start: Start) -> bool {
        self.starts.send(start).is_ok()
    }
}

/// Returns a worker, and the task that must run on its arbiter.
fn worker(lifecycle: &Lifecycle) -> (Worker, impl Future<Output = ()> + Send + use<>) {
    let (sender, mut starts) = mpsc::unbounded_channel::<Start>();
    let starting = async move {
        while let Some(start) = starts.recv().await {
            start();
        }
    };
    let until_end = lifecycle.clone();
    let work = lifecycle.track(async move {
        until_end.run(starting).await;
    });
    let worker = Worker {
        starts: sender,
        lifecycle: lifecycle.clone(),
        load: LoadCounter::default(),
    };
    (worker, work)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

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
}
