//! The places where the transport's actors run.
//!
//! Owns the arbiters. A [`Place`] is one of them, or the arbiter that called `bind`: somewhere to
//! start actors from any thread. Who runs where is decided by those who start them.

use std::{io, sync::Arc};

use actix_rt::Arbiter;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Placement, observe::event::Events, runtime::load_counter::LoadCounter,
    runtime::shared::Shared,
};

type Job = Box<dyn FnOnce() + Send>;

/// Somewhere to run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    // Carries the starts of actors and subscribers, as many as there may be of those, and no data.
    jobs: mpsc::UnboundedSender<Job>,
    tasks: TaskTracker,
    pub(crate) load: LoadCounter,
}

impl Place {
    /// Runs `task` there. False when that place is gone.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce() -> F + Send + 'static) -> bool
    where
        F: Future<Output = ()> + 'static,
    {
        let tasks = self.tasks.clone();
        self.run(Box::new(move || {
            actix_rt::spawn(tasks.track_future(task()));
        }))
    }

    /// The same for a task that `stop` does not wait for.
    pub(crate) fn spawn_untracked(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        self.run(Box::new(|| {
            actix_rt::spawn(task);
        }))
    }

    fn run(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }
}

/// All places of one transport.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) readers: Vec<Place>,
    pub(crate) writers: Vec<Place>,
    arbiters: Mutex<Vec<Arbiter>>,
    /// Told on the first of them.
    events: Events,
    /// Cancelled when their threads have ended, or there are none.
    joined: CancellationToken,
}

impl Pool {
    /// Starts the arbiters that the placement asks for.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        // Made first, so that those that were started end with it if one cannot be.
        let mut pool = Pool {
            readers: Vec::new(),
            writers: Vec::new(),
            arbiters: Mutex::default(),
            events: shared.events.clone(),
            joined: CancellationToken::new(),
        };
        match shared.config.placement {
            Placement::Dedicated { readers, writers } => {
                for _ in 0..readers {
                    let place = pool.dedicated(shared)?;
                    pool.readers.push(place);
                }
                for _ in 0..writers {
                    let place = pool.dedicated(shared)?;
                    pool.writers.push(place);
                }
            }
            Placement::Current => {
                let (place, jobs) = place(shared);
                actix_rt::spawn(jobs);
                pool.readers.push(place.clone());
                pool.writers.push(place);
            }
        }
        if pool.arbiters.get_mut().is_empty() {
            pool.joined.cancel();
        }
        Ok(pool)
    }

    /// Starts an arbiter.
    fn dedicated(&mut self, shared: &Shared) -> io::Result<Place> {
        let arbiter = Arbiter::try_new()?;
        let (place, jobs) = place(shared);
        arbiter.spawn(jobs);
        self.arbiters.get_mut().push(arbiter);
        Ok(place)
    }

    /// Ends the arbiters and waits until their threads have ended, whoever began to.
    pub(crate) async fn stop(&self) {
        let arbiters = std::mem::take(&mut *self.arbiters.lock());
        if !arbiters.is_empty() {
            let joined = self.joined.clone().drop_guard();
            // Joining blocks, so it has a thread of its own: a short-lived one, and not one of a pool
            // that would outlive the transport.
            std::thread::spawn(move || {
                let _joined = joined;
                for arbiter in arbiters {
                    arbiter.stop();
                    // A thread that panicked has ended, too.
                    let _ = arbiter.join();
                }
            });
        }
        self.joined.cancelled().await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for arbiter in self.arbiters.get_mut() {
            // Not before the subscribers know what there is to know, or have had the time to.
            let events = self.events.clone();
            arbiter.spawn(async move {
                events.end().await;
                Arbiter::current().stop();
            });
        }
    }
}

/// A place, and the task that makes it one.
fn place(shared: &Shared) -> (Place, impl Future<Output = ()> + Send + use<>) {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let (kill, tasks) = (shared.kill.clone(), shared.tasks.clone());
    let starting = async move {
        while let Some(job) = jobs.recv().await {
            job();
        }
    };
    let work = tasks.track_future(async move {
        kill.run_until_cancelled(starting).await;
    });
    let place = Place {
        jobs: sender,
        tasks,
        load: LoadCounter::default(),
    };
    (place, work)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, pin::pin};

    use futures::FutureExt;

    use super::*;
    use crate::{config::Config, runtime::failpoints::Failpoints};

    #[actix::test]
    async fn a_stop_that_was_given_up_leaves_the_next_one_to_wait_all_the_same() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let shared = Shared::new(Config::default(), nobody, Failpoints::default());
        let pool = Pool::start(&Arc::new(shared)).expect("arbiters");
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (busy, is_busy) = tokio::sync::oneshot::channel();
        pool.readers[0].run(Box::new(move || {
            let _ = busy.send(());
            // Holds the thread until it is let go.
            let _ = wait.recv();
        }));
        is_busy.await.expect("it runs");
        assert!(pool.stop().now_or_never().is_none(), "given up");
        let mut again = pin!(pool.stop());
        assert!(again.as_mut().now_or_never().is_none(), "still running");
        drop(go);
        again.await;
    }
}
