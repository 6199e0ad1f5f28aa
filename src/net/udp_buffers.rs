//! The room that the kernel has for the datagrams of one socket.

use std::{io, net::UdpSocket};

use socket2::SockRef;

/// The sizes of the UDP socket's buffers in the kernel, in bytes; see
/// [`Transport::datagram_buffers`](crate::Transport::datagram_buffers).
///
/// These are the system's own numbers. Linux gives twice what it was asked for, because it also counts
/// what it needs to manage each datagram: some 700 bytes beside a short one.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct DatagramBuffers {
    /// Room for datagrams that have arrived and have not been read.
    pub receive: usize,
    /// Room for datagrams that were sent and have not left.
    pub send: usize,
}

impl DatagramBuffers {
    /// Asks for these sizes, and returns what the system gave. A smaller buffer is no reason not to start.
    pub(super) fn grant(self, socket: &UdpSocket) -> io::Result<Self> {
        let socket = SockRef::from(socket);
        at_most(self.receive, |size| socket.set_recv_buffer_size(size));
        at_most(self.send, |size| socket.set_send_buffer_size(size));
        Ok(DatagramBuffers {
            receive: socket.recv_buffer_size()?,
            send: socket.send_buffer_size()?,
        })
    }
}

/// Sets the size. If the system refuses, tries a half, a quarter and so on; if it refuses all, changes
/// nothing. Linux does not refuse: it gives what it has. Other systems do.
fn at_most(wanted: usize, set: impl Fn(usize) -> io::Result<()>) {
    let mut size = wanted;
    while set(size).is_err() && size > 1 {
        size /= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_largest_size_that_is_not_refused_is_set() {
        let tried = RefCell::new(Vec::new());
        at_most(1000, |size| {
            tried.borrow_mut().push(size);
            match size {
                0..300 => Ok(()),
                _ => Err(io::ErrorKind::OutOfMemory.into()),
            }
        });
        assert_eq!(*tried.borrow(), [1000, 500, 250]);
        // A system that accepts none is not asked for ever.
        at_most(1000, |_| Err(io::ErrorKind::OutOfMemory.into()));
    }
}
