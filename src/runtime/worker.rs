//! An arbiter of the transport, as a place to start tasks from any thread.

use tokio::sync::mpsc;

use crate::runtime::{lifecycle::Lifecycle, load_counter::LoadCounter};

type Start = Box<dyn FnOnce() + Send>;

/// An arbiter, as somewhere to start tasks from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    // Unbounded, but it carries only the starts of actors and subscribers, of which there are as many as there are
    // actors and subscribers, and of tasks for answers to calls, for which groups have bounds.
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

    pub(super) fn start(&self, start: Start) -> bool {
        self.starts.send(start).is_ok()
    }
}

/// Returns a worker, and the task that must run on its arbiter.
pub(super) fn worker(lifecycle: &Lifecycle) -> (Worker, impl Future<Output = ()> + Send + use<>) {
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
