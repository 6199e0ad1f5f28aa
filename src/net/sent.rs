//! How many bytes were written on one connection, and how many of them are acknowledged.
//!
//! Counts what is written. The acknowledgements are counted by the system, see `tcp_info`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::net::TcpStream;

/// The bytes of one connection. By default the system does not tell what is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// One task or sender writes at a time, and whoever reads this has taken over from it. So the order of
    /// other memory does not hang on it.
    written: AtomicU64,
    /// What the system's count was before anything was written: it counts the packet that opens a
    /// connection as a byte, on the side that dials. `None` if the system does not tell.
    before: Option<u64>,
}

impl Sent {
    /// Begins to count on a connection on which nothing has been written yet.
    pub(super) fn on(stream: &TcpStream) -> Self {
        Sent {
            written: AtomicU64::new(0),
            before: supported().then(|| bytes_acknowledged(stream)).flatten(),
        }
    }

    /// Notes that the system has taken `bytes` more.
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Returns how many bytes were written. `None` if the system does not tell what is acknowledged.
    pub(super) fn written(&self) -> Option<u64> {
        self.before.map(|_| self.written.load(Relaxed))
    }

    /// Returns how many of the written bytes are acknowledged. `None` if the system does not tell.
    pub(super) fn acknowledged(&self, stream: &TcpStream) -> Option<u64> {
        let acknowledged = bytes_acknowledged(stream)?.checked_sub(self.before?)?;
        // The system counts the packet that ends a connection, too.
        Some(acknowledged.min(self.written.load(Relaxed)))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::net::tcp_info::{bytes_acknowledged, supported};

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn supported() -> bool {
    false
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bytes_acknowledged(_: &TcpStream) -> Option<u64> {
    None
}
