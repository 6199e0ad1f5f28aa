//! How many datagrams the kernel dropped on one socket, from one look to the next.

use std::{
    io,
    net::UdpSocket,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::net::sock_diag::Question;

/// The count of one socket. It belongs to the socket and not to the actor that uses it, so that what is
/// dropped between two lives of the actor is counted.
#[derive(Debug, Default)]
pub(crate) struct DropCount {
    /// `None` if the system does not tell.
    question: Option<Question>,
    /// The kernel's count at the last look.
    seen: AtomicU32,
}

impl DropCount {
    pub(super) fn of(socket: &UdpSocket) -> Self {
        DropCount {
            question: Question::about(socket).ok(),
            seen: AtomicU32::new(0),
        }
    }

    /// Returns how many datagrams were dropped since the last call. One actor calls this at a time.
    pub(crate) fn newly(&self) -> io::Result<u32> {
        let Some(question) = &self.question else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let total = question.drops()?;
        // The kernel's count starts over after 2³².
        Ok(total.wrapping_sub(self.seen.swap(total, Relaxed)))
    }
}

/// A system that does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
enum Question {}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Question {
    fn about(_: &UdpSocket) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drops(&self) -> io::Result<u32> {
        match *self {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn each_dropped_datagram_is_told_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("free port");
        let (addr, count) = (socket.local_addr().expect("bound"), DropCount::of(&socket));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("free port");
        let mut told = 0;
        let mut sent = 0;
        while told < 3 {
            sender.send_to(b"x", addr).expect("sent");
            sent += 1;
            told += count.newly().expect("netlink");
        }
        assert_eq!(count.newly().expect("netlink"), 0);
        socket.set_nonblocking(true).expect("open");
        let received = std::iter::from_fn(|| socket.recv(&mut [0]).ok()).count();
        assert_eq!(received + 3, sent);
    }
}
