//! The two halves of a connection: reading and writing.
//!
//! They may live on different threads. Both belong to the runtime that the connection was attached to: its
//! thread wakes whoever waits for either.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::Poll,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use socket2::SockRef;
use tokio::{
    io::{Interest, Ready},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio_util::io::poll_read_buf;

use crate::{
    config::Config,
    net::{
        sent::Sent,
        tcp_options::{delay_acks, set_writing_options},
    },
};

/// Whether a socket can be read or written.
pub(crate) type Readiness = Ready;

/// The half of a connection that is read.
#[derive(Debug)]
pub(crate) struct ReadHalf(OwnedReadHalf);

impl ReadHalf {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        ReadHalf(half)
    }

    /// Waits until there may be something to read. An error of the socket counts: the read returns it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Reads into the spare room of `buffer` once. `None`: there was nothing to read. Zero bytes: the
    /// other side has ended the connection.
    ///
    /// A read that does not fill the room has read everything. Unlike tokio's `try_read_buf`, this then
    /// marks the socket as not readable, which saves a system call that would find nothing.
    pub(crate) async fn read(&mut self, buffer: &mut impl BufMut) -> io::Result<Option<usize>> {
        let read = poll_fn(|cx| Poll::Ready(poll_read_buf(Pin::new(&mut self.0), cx, buffer)));
        match read.await {
            Poll::Ready(read) => read.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Reads once into `bytes`, without waiting.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }

    /// Waits until the peer has closed the connection or it was lost, whether or not there are bytes
    /// to read before that.
    pub(crate) async fn closed_by_peer(&self) {
        // There is never urgent data, because the socket was not registered for it. The end of what
        // the peer sends is the only other thing that this waits for.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.0.ready(Interest::PRIORITY).await;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        loop {
            const PERIOD: std::time::Duration = std::time::Duration::from_millis(200);

            match self.0.ready(Interest::READABLE).now_or_never() {
                Some(Ok(ready)) if !ready.is_read_closed() => {}
                None => {}
                _ => return,
            }
            crate::net::time::sleep(PERIOD).await;
        }
    }

    /// Reads what the peer sent before it closed the connection, at most `max` bytes.
    pub(crate) fn rest(&self, max: usize) -> Bytes {
        const ROOM: usize = 16 << 10;

        let mut rest = BytesMut::new();
        while rest.len() < max {
            rest.reserve(ROOM);
            let mut room = (&mut rest).limit(ROOM);
            match self.0.try_read_buf(&mut room) {
                Ok(1..) => {}
                _ => break,
            }
        }
        rest.truncate(max);
        // A copy, because the buffer has more room than is needed.
        Bytes::copy_from_slice(&rest)
    }

    /// See [`delay_acks`].
    pub(crate) fn delay_acks(&self) {
        delay_acks(self.0.as_ref());
    }
}

/// The half of a connection that is written. When it is dropped, the far end reads the end of the stream
/// behind what was written.
#[derive(Debug)]
pub(crate) struct WriteHalf(OwnedWriteHalf, Sent);

impl WriteHalf {
    pub(super) fn new(half: OwnedWriteHalf, sent: Sent) -> Self {
        WriteHalf(half, sent)
    }

    /// Sets the options that a dialled connection has, on one that was accepted only to be read.
    pub(crate) fn prepare(&self, config: &Config) -> io::Result<()> {
        set_writing_options(&SockRef::from(self.0.as_ref()), config)
    }

    /// Returns whether there may be something to read now.
    pub(crate) fn is_readable(&self) -> bool {
        self.0
            .as_ref()
            .try_io(Interest::READABLE, || Ok(()))
            .is_ok()
    }

    /// Waits until the socket can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Waits until the socket can be read or written.
    pub(crate) async fn ready(&self) -> io::Result<Readiness> {
        self.0.ready(Interest::READABLE | Interest::WRITABLE).await
    }

    /// Returns whether the socket can be written now; `None` if not.
    pub(crate) fn writable_now(&self) -> Option<io::Result<Readiness>> {
        self.0.ready(Interest::WRITABLE).now_or_never()
    }

    /// Returns whether the socket can be read or written now; `None` if neither.
    pub(crate) fn ready_now(&self) -> Option<io::Result<Readiness>> {
        self.ready().now_or_never()
    }

    /// Writes once, without waiting. Raises no SIGPIPE if the other side has closed the connection,
    /// whatever this process does about that signal.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

        let written = self.0.as_ref().try_io(Interest::WRITABLE, || {
            let written = match slices {
                // The kernel takes one slice faster than a list of one.
                [slice] => send(self.0.as_ref(), slice, SendFlags::NOSIGNAL),
                slices => {
                    let mut no_control = SendAncillaryBuffer::default();
                    sendmsg(
                        self.0.as_ref(),
                        slices,
                        &mut no_control,
                        SendFlags::NOSIGNAL,
                    )
                }
            };
            written.map_err(io::Error::from)
        })?;
        self.1.wrote(written);
        Ok(written)
    }

    /// Returns how many bytes have been written on this connection. `None` if the system does not tell
    /// how many of them are acknowledged.
    pub(crate) fn written(&self) -> Option<u64> {
        self.1.written()
    }

    /// Returns how many of the written bytes the other side's system has acknowledged. Also after the
    /// connection has ended. `None` if this system does not tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.1.acknowledged(self.0.as_ref())
    }

    /// Writes once, without waiting. Where there is a SIGPIPE, the socket's option switches it off.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.0.try_write(slice),
            slices => self.0.try_write_vectored(slices),
        }
    }

    /// Writes all of `bytes`, waiting for room where there is none. If this is cancelled, a part may have
    /// been written.
    pub(crate) async fn write_whole(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&[IoSlice::new(bytes)]) {
                Ok(n) => bytes = &bytes[n..],
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => self.0.writable().await?,
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}
