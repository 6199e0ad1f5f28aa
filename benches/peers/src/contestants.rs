//! The contestants that this crate is compared with, one per file, and the runtimes they run on.

pub(crate) mod actix_per_frame;
pub(crate) mod actix_telepathy;
#[cfg(feature = "libzmq")]
pub(crate) mod libzmq;
pub(crate) mod quinn;
pub(crate) mod ractor_cluster;
pub(crate) mod tarpc;
pub(crate) mod tonic;

use tokio::runtime::Builder;

use crate::{Failure, figures::Figures, work::Work};

/// Runs a side on one thread if it has one connection, otherwise on all threads. With one
/// connection, one thread was faster for tonic and tarpc, and used less cpu for quinn; with many
/// connections, all threads were faster for tonic.
pub(crate) fn on_threads_for(
    work: &Work,
    side: impl Future<Output = Result<Figures, Failure>> + Send + 'static,
) -> Result<Figures, Failure> {
    match work.peers {
        1 => on_one_thread(side),
        _ => on_all_threads(side),
    }
}

/// Runs a side on the calling thread.
pub(crate) fn on_one_thread(
    side: impl Future<Output = Result<Figures, Failure>>,
) -> Result<Figures, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(side)
}

/// Runs a side on as many threads as there are cores, as `#[tokio::main]` does.
fn on_all_threads(
    side: impl Future<Output = Result<Figures, Failure>> + Send + 'static,
) -> Result<Figures, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    // Spawned, because the calling thread is not one of the runtime's workers.
    runtime.block_on(async { tokio::spawn(side).await? })
}
