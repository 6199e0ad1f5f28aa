//! The options of a connection's socket.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::Config;

/// Sets what a socket needs that frames are written to.
pub(super) fn set_writing_options(socket: &SockRef<'_>, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(config.nodelay)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(config.user_timeout))?;
    Ok(())
}

pub(super) fn keepalive(config: &Config) -> TcpKeepalive {
    let interval = (config.keepalive / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(config.keepalive);
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    let keepalive = keepalive.with_interval(interval);
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let keepalive = keepalive.with_retries(3);
    keepalive
}

/// Asks the system to delay acknowledgements, as TCP does where data goes both ways: they wait for
/// a second segment, or for some 40 ms.
///
/// Without this, the kernel acknowledges every read on a link on which we never write: one packet
/// for each of the peer's, which took a sixth of the time of a round trip. The kernel forgets the
/// request after it has waited in vain, so it is repeated whenever a link has been idle.
pub(super) fn delay_acks(stream: &TcpStream) {
    // If the kernel refuses, that costs time and nothing else.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(stream).set_tcp_quickack(false);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}
