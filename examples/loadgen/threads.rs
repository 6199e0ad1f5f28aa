//! Which threads calls are made or served on.

use clap::ValueEnum;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{Failure, callers};

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(crate) enum Threads {
    /// The thread of an arbiter.
    Current,
    /// A multi-threaded tokio runtime, with a thread for each core. It knows nothing of actix.
    Multi,
}

/// The multi-threaded runtime, if it is wanted.
pub(crate) struct Started(Option<Runtime>);

impl Threads {
    pub(crate) fn start(self) -> Result<Started, Failure> {
        Ok(Started(match self {
            Threads::Current => None,
            Threads::Multi => Some(Builder::new_multi_thread().enable_all().build()?),
        }))
    }
}

impl Started {
    pub(crate) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Returns where callers run.
    pub(crate) fn for_callers(&self) -> callers::Runtime {
        match self.handle() {
            Some(handle) => callers::Runtime::Tokio(handle),
            None => callers::Runtime::Arbiter,
        }
    }
}

impl Drop for Started {
    /// Waits for nothing: this may run on a thread that must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
