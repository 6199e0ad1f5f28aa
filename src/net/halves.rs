//! The two halves of a connection: reading and writing.
//!
//! They may live on different threads. Both belong to the runtime that the connection was attached to: its
//! thread wakes whoever waits for either. If the connection is encrypted, both use what `tls` keeps for it.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use socket2::SockRef;
use tokio::{
    io::{Interest, Ready},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    task::{coop::consume_budget, yield_now},
};
use tokio_util::io::poll_read_buf;

use crate::{
    config::Config,
    ids::NodeId,
    net::{
        sent::Sent,
        tcp_options::{delay_acks, set_writing_options},
        tls::Secured,
        write,
    },
};

/// Whether a socket can be read or written.
pub(crate) type Readiness = Ready;

/// The half of a connection that is read.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    socket: OwnedReadHalf,
    tls: Option<Arc<Secured>>,
}

impl ReadHalf {
    pub(super) fn new(socket: OwnedReadHalf, tls: Option<Arc<Secured>>) -> Self {
        ReadHalf { socket, tls }
    }

    /// Waits until there may be something to read. An error of the socket counts: the read returns it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.tls {
            Some(tls) if tls.has_more() => {
                // A loop that never waits for the socket must let others have their turn, too.
                consume_budget().await;
                Ok(())
            }
            _ => self.socket.readable().await,
        }
    }

    /// Returns what encrypts the connection.
    pub(crate) fn tls(&self) -> Option<&Arc<Secured>> {
        self.tls.as_ref()
    }

    /// Returns whether the far end, which says to be this node, may speak for it, as far as its certificate
    /// tells. It may if nothing encrypts the connection, because then there is no certificate.
    pub(crate) fn vouches_for(&self, node: NodeId) -> bool {
        let Some(tls) = &self.tls else {
            return true;
        };
        let vouches = tls.vouches_for(node);
        if !vouches {
            tls.is_of_another_node(node);
        }
        vouches
    }

    /// Reads into the spare room of `buffer` once. `None`: there was nothing to read. Zero bytes: the
    /// other side has ended the connection.
    ///
    /// A read that does not fill the room has read everything. Unlike tokio's `try_read_buf`, this then
    /// marks the socket as not readable, which saves a system call that would find nothing.
    pub(crate) async fn read(&mut self, buffer: &mut impl BufMut) -> io::Result<Option<usize>> {
        let socket = &mut self.socket;
        let Some(tls) = &self.tls else {
            let read = poll_fn(|cx| Poll::Ready(poll_read_buf(Pin::new(&mut *socket), cx, buffer)));
            return match read.await {
                Poll::Ready(read) => read.map(Some),
                Poll::Pending => Ok(None),
            };
        };
        let read = poll_fn(|cx| {
            let read = tls.read(buffer, |encrypted| {
                match poll_read_buf(Pin::new(&mut *socket), cx, encrypted) {
                    Poll::Ready(read) => read,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            Poll::Ready(read)
        });
        let read = read.await;
        tls.answer(self.socket.as_ref());
        if matches!(read, Ok(None)) && tls.has_more() {
            yield_now().await;
        }
        read
    }

    /// Reads once into `bytes`, without waiting.
    pub(crate) fn try_read(&self, mut bytes: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.socket.try_read(bytes);
        };
        let read = tls.read(&mut bytes, |encrypted| self.socket.try_read_buf(encrypted));
        tls.answer(self.socket.as_ref());
        read?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Waits until the peer has closed the connection or it was lost, whether or not there are bytes
    /// to read before that.
    pub(crate) async fn closed_by_peer(&self) {
        // There is never urgent data, because the socket was not registered for it. The end of what
        // the peer sends is the only other thing that this waits for.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.socket.ready(Interest::PRIORITY).await;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        loop {
            const PERIOD: std::time::Duration = std::time::Duration::from_millis(200);

            match self.socket.ready(Interest::READABLE).now_or_never() {
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
            let read = match &self.tls {
                None => self.socket.try_read_buf(&mut room).map(Some),
                Some(tls) => tls.read(&mut room, |encrypted| self.socket.try_read_buf(encrypted)),
            };
            match (read, &self.tls) {
                (Ok(Some(1..)), _) => {}
                // Records without payload.
                (Ok(None), Some(tls)) if tls.has_more() => {}
                _ => break,
            }
        }
        rest.truncate(max);
        // A copy, because the buffer has more room than is needed.
        Bytes::copy_from_slice(&rest)
    }

    /// See [`delay_acks`].
    pub(crate) fn delay_acks(&self) {
        delay_acks(self.socket.as_ref());
    }
}

/// The half of a connection that is written. When it is dropped, the far end reads the end of the stream
/// behind what was written.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    socket: OwnedWriteHalf,
    /// Counts what is written if nothing encrypts the connection.
    sent: Sent,
    tls: Option<Arc<Secured>>,
}

impl WriteHalf {
    pub(super) fn new(socket: OwnedWriteHalf, sent: Sent, tls: Option<Arc<Secured>>) -> Self {
        WriteHalf { socket, sent, tls }
    }

    /// Sets the options that a dialled connection has, on one that was accepted only to be read.
    pub(crate) fn prepare(&self, config: &Config) -> io::Result<()> {
        set_writing_options(&SockRef::from(self.socket.as_ref()), config)
    }

    /// Returns whether there may be something to read now.
    pub(crate) fn is_readable(&self) -> bool {
        self.socket
            .as_ref()
            .try_io(Interest::READABLE, || Ok(()))
            .is_ok()
    }

    /// Waits until the socket can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Waits until the socket can be read or written.
    pub(crate) async fn ready(&self) -> io::Result<Readiness> {
        self.socket
            .ready(Interest::READABLE | Interest::WRITABLE)
            .await
    }

    /// Returns whether the socket can be written now; `None` if not.
    pub(crate) fn writable_now(&self) -> Option<io::Result<Readiness>> {
        self.socket.ready(Interest::WRITABLE).now_or_never()
    }

    /// Returns whether the socket can be read or written now; `None` if neither.
    pub(crate) fn ready_now(&self) -> Option<io::Result<Readiness>> {
        self.ready().now_or_never()
    }

    /// Writes once, without waiting, and raises no SIGPIPE.
    ///
    /// If the connection is encrypted and this fails because the system takes no more, the first
    /// [`encrypted`](WriteHalf::encrypted) bytes are encrypted already. The same bytes must come first in the
    /// next write, or nothing more may be written.
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.try_write(self.socket.as_ref(), slices);
        }
        let written = write::try_write(self.socket.as_ref(), slices)?;
        self.sent.wrote(written);
        Ok(written)
    }

    /// Returns how many bytes are encrypted and not written whole.
    pub(crate) fn encrypted(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.encrypted())
    }

    /// Returns how many bytes have been written on this connection, counted before they were encrypted.
    /// `None` if the system does not tell how many of them are acknowledged.
    pub(crate) fn written(&self) -> Option<u64> {
        match &self.tls {
            Some(tls) => tls.written(),
            None => self.sent.written(),
        }
    }

    /// Returns how many of the written bytes the other side's system has acknowledged. Also after the
    /// connection has ended. `None` if this system does not tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        let socket = self.socket.as_ref();
        match &self.tls {
            Some(tls) => tls.acknowledged(socket),
            None => self.sent.acknowledged(socket),
        }
    }

    /// Writes all of `bytes`, waiting for room where there is none. If this is cancelled, a part may have
    /// been written.
    pub(crate) async fn write_whole(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&[IoSlice::new(bytes)]) {
                Ok(n) => bytes = &bytes[n..],
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

impl Drop for WriteHalf {
    /// Says that this is the end, so that the far end can tell it from a connection that somebody cut.
    fn drop(&mut self) {
        if let Some(tls) = &self.tls {
            tls.end_writing(self.socket.as_ref());
        }
    }
}
