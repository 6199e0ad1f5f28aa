//! One write to a connection, without waiting.

use std::io::{self, IoSlice};

use tokio::net::TcpStream;

/// Writes once. Raises no SIGPIPE if the other side has closed the connection, whatever this process does
/// about that signal.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn try_write(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
    use tokio::io::Interest;

    stream.try_io(Interest::WRITABLE, || {
        let written = match slices {
            // The kernel takes one slice faster than a list of one.
            [slice] => send(stream, slice, SendFlags::NOSIGNAL),
            slices => {
                let mut no_control = SendAncillaryBuffer::default();
                sendmsg(stream, slices, &mut no_control, SendFlags::NOSIGNAL)
            }
        };
        written.map_err(io::Error::from)
    })
}

/// Writes once. Where there is a SIGPIPE, the socket's option switches it off.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn try_write(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [slice] => stream.try_write(slice),
        slices => stream.try_write_vectored(slices),
    }
}
