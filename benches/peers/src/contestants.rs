//! Those whom this crate is measured against, one to a file, and the runtimes they are on.

pub(crate) mod actix_per_frame;
pub(crate) mod actix_telepathy;
#[cfg(feature = "libzmq")]
pub(crate) mod libzmq;
pub(crate) mod quinn;
pub(crate) mod ractor_cluster;
pub(crate) mod tarpc;
pub(crate) mod tonic;

use tokio::runtime::Builder;

use crate::{Failure, figures::Figures};

/// Runs a side on the thread that calls.
pub(crate) fn on_one_thread(
    side: impl Future<Output = Result<Figures, Failure>>,
) -> Result<Figures, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(side)
}

/// Runs a side on as many threads as there are cores, as `#[tokio::main]` does.
pub(crate) fn on_all_threads(
    side: impl Future<Output = Result<Figures, Failure>> + Send + 'static,
) -> Result<Figures, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    // Not on the thread that calls, which is none of the runtime's own.
    runtime.block_on(async { tokio::spawn(side).await? })
}
