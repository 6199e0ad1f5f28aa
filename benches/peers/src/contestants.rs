//! The contestants that this crate is compared with, one per file, and the runtimes they run on.

pub(crate) mod actix_per_frame;
pub(crate) mod actix_telepathy;
#[cfg(feature = "libzmq")]
pub(crate) mod libzmq;
pub(crate) mod quinn;
pub(crate) mod ractor_cluster;
pub(crate) mod tarpc;
pub(crate) mod tokio_rustls;
pub(crate) mod tonic;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    runtime::Builder,
};

use crate::{
    Failure,
    figures::Figures,
    goal::Goal,
    work::{HEADER, PREFIX, Work, touch},
};

/// Bytes of one read of [`read`].
const READ: usize = 64 << 10;

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
pub(crate) fn on_all_threads(
    side: impl Future<Output = Result<Figures, Failure>> + Send + 'static,
) -> Result<Figures, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    // Spawned, because the calling thread is not one of the runtime's workers.
    runtime.block_on(async { tokio::spawn(side).await? })
}

/// Reads frames of our wire format until the stream ends.
async fn read(mut stream: impl AsyncRead + Unpin, size: usize, goal: &Goal) -> Result<(), Failure> {
    // Room for one read behind the part of a frame that the read before may leave.
    let mut buffer = vec![0; HEADER + size + READ];
    let mut end = 0;
    loop {
        let n = stream.read(&mut buffer[end..end + READ]).await?;
        if n == 0 {
            return Ok(());
        }
        goal.begin();
        end += n;
        let (mut start, mut frames) = (0, 0);
        while let Some(prefix) = buffer[start..end].first_chunk::<PREFIX>()
            && let Some(frame) = buffer[start..end].get(..u32::from_be_bytes(*prefix) as usize)
        {
            touch(&frame[HEADER..]);
            start += frame.len();
            frames += 1;
        }
        if start > 0 {
            buffer.copy_within(start..end, 0);
            end -= start;
        }
        goal.add(frames);
    }
}
