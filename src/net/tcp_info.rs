//! Asks the kernel how many bytes of a connection are acknowledged (`TCP_INFO`).
//!
//! One question takes a microsecond. `tcpi_bytes_acked` was compared with what a peer's kernel held
//! (Linux 6.18, loopback):
//!
//! | what happened | `tcpi_bytes_acked` |
//! |---|---|
//! | connected | 1 on the side that dialled, for its SYN; 0 on the other |
//! | the peer read everything and closed | all bytes, and it stays so |
//! | we wrote after that, and got a reset | does not grow by the bytes that the reset answers |
//! | the peer closed with bytes unread, which resets | what was in its receive buffer, to the byte; also after the error was read |
//! | no room at the peer until `TCP_USER_TIMEOUT` | the same |
//! | the peer read for a while, and reset with `SO_LINGER` 0 | what it had read, and what was in its receive buffer |
//! | we shut the connection down | 1 more once the FIN is acknowledged |
//!
//! So the number outlives the connection. The other ways do not: `NETLINK_SOCK_DIAG` (see `sock_diag`) no
//! longer finds a socket that was reset, and safe code cannot ask for `SIOCOUTQ`.
//!
//! A peer's kernel may wait 40 ms before it acknowledges. A reset is not taken as an acknowledgement, so
//! what came in during this time stays unacknowledged for ever.

use std::panic::{self, AssertUnwindSafe};

use nix::{
    libc,
    sys::socket::{getsockopt, sockopt::GetStruct},
};
use rustix::system::uname;
use tokio::net::TcpStream;

/// Where `tcpi_bytes_acked` ends in the kernel's `tcp_info`.
const LEN: usize = 128;

/// The kernel that brought `tcpi_bytes_acked`. An older one answers with fewer than [`LEN`] bytes.
const SINCE: [u32; 2] = [4, 1];

#[derive(Debug, Copy, Clone)]
struct Info;

// nix has no `TCP_INFO` of its own, but lets its users add options. An array of bytes is valid whatever
// the kernel puts into it, and nix panics if it is not filled.
nix::getsockopt_impl!(
    Info,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u8; LEN],
    GetStruct<[u8; LEN]>
);

/// Returns whether this kernel counts acknowledged bytes.
pub(super) fn supported() -> bool {
    uname().release().to_str().is_ok_and(is_recent)
}

/// Returns how many bytes are acknowledged, in the kernel's own count. Must be called only where
/// [`supported`].
pub(super) fn bytes_acknowledged(stream: &TcpStream) -> Option<u64> {
    // nix panics if it gets fewer bytes. Linux does not do that, but a system that says to be Linux may.
    let asked = panic::catch_unwind(AssertUnwindSafe(|| getsockopt(stream, Info)));
    let info = asked.ok()?.ok()?;
    let (_, bytes) = info.split_last_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let version = [(); 2].map(|()| numbers.next().and_then(|number| number.parse().ok()));
    matches!(version, [Some(major), Some(minor)] if [major, minor] >= SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_not_asked() {
        for recent in [
            "4.1",
            "4.1.0-rc1",
            "4.19.112+",
            "5.4.0-150-generic",
            "6.18.44",
        ] {
            assert!(is_recent(recent), "{recent}");
        }
        for old in ["3.10.0-1160.el7.x86_64", "4.0.9", "2.6.32", "4", "", "x.y"] {
            assert!(!is_recent(old), "{old}");
        }
    }
}
