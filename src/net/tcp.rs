//! TCP: accepting, dialling, reading and writing.
//!
//! [`Stream`] is one connection attached to this thread's runtime, [`DetachedStream`] the same while it
//! moves from one arbiter to another.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{Interest, Ready},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::io::poll_read_buf;

use crate::{
    config::Config,
    net::{sent::Sent, time::timeout},
};

/// Whether a socket can be read or written.
pub(crate) type Readiness = Ready;

/// One connection, attached to the runtime of this thread.
#[derive(Debug)]
pub(crate) struct Stream(TcpStream, Sent);

impl Stream {
    /// Dials `addr`, for `connect_timeout` at most.
    pub(crate) async fn dial(addr: SocketAddr, config: &Config) -> io::Result<Self> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(config.nodelay)?;
        let options = SockRef::from(&socket);
        options.set_tcp_keepalive(&keepalive(config))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        options.set_tcp_user_timeout(Some(config.user_timeout))?;
        #[cfg(target_vendor = "apple")]
        options.set_nosigpipe(true)?;
        let connecting = timeout(config.connect_timeout, socket.connect(addr));
        let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
        // A peer on this machine may listen on a port from which the system also draws the ports of
        // outgoing connections. If it draws that port while the peer is away, TCP connects the socket to
        // itself.
        if stream.local_addr()? == stream.peer_addr()? {
            // Closed with a reset: otherwise the port stays in TIME_WAIT for a minute, and the peer
            // cannot listen on it when it comes back.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "connected to itself",
            ));
        }
        Ok(Stream::new(stream))
    }

    /// Wraps a connection on which nothing has been written yet.
    fn new(stream: TcpStream) -> Self {
        let sent = Sent::on(&stream);
        Stream(stream, sent)
    }

    /// Attaches a connected socket of a test's own.
    #[cfg(all(unix, any(test, feature = "test-internals")))]
    pub(crate) fn from_fd(fd: std::os::fd::OwnedFd) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream).map(Stream::new)
    }

    /// Waits until there may be something to read. An error of the socket counts: the read returns it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Returns whether there may be something to read now.
    pub(crate) fn is_readable(&self) -> bool {
        self.0.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    /// Waits until the socket can be read or written.
    pub(crate) async fn ready(&self) -> io::Result<Readiness> {
        self.0.ready(Interest::READABLE | Interest::WRITABLE).await
    }

    /// Returns whether the socket can be read or written now; `None` if neither.
    pub(crate) fn ready_now(&self) -> Option<io::Result<Readiness>> {
        self.ready().now_or_never()
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
            const PERIOD: Duration = Duration::from_millis(200);

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

    /// Writes once, without waiting. Raises no SIGPIPE if the other side has closed the connection,
    /// whatever this process does about that signal.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

        let written = self.0.try_io(Interest::WRITABLE, || {
            let written = match slices {
                // The kernel takes one slice faster than a list of one.
                [slice] => send(&self.0, slice, SendFlags::NOSIGNAL),
                slices => {
                    let mut no_control = SendAncillaryBuffer::default();
                    sendmsg(&self.0, slices, &mut no_control, SendFlags::NOSIGNAL)
                }
            };
            written.map_err(io::Error::from)
        })?;
        self.1.wrote(written);
        Ok(written)
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

    /// Returns how many bytes have been written on this connection. `None` if the system does not tell
    /// how many of them are acknowledged.
    pub(crate) fn written(&self) -> Option<u64> {
        self.1.written()
    }

    /// Returns how many of the written bytes the other side's system has acknowledged. Also after the
    /// connection has ended. `None` if this system does not tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.1.acknowledged(&self.0)
    }

    /// Says that nothing more will be written. Reading goes on.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(std::net::Shutdown::Write)
    }

    /// Asks the system to delay acknowledgements, as TCP does where data goes both ways: they wait for
    /// a second segment, or for some 40 ms.
    ///
    /// Without this, the kernel acknowledges every read on a link on which we never write: one packet
    /// for each of the peer's, which took a sixth of the time of a round trip. The kernel forgets the
    /// request after it has waited in vain, so it is repeated whenever a link has been idle.
    pub(crate) fn delay_acks(&self) {
        // If the kernel refuses, that costs time and nothing else.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&self.0).set_tcp_quickack(false);
    }
}

/// A listening socket. It outlives the actor that accepts from it, so that the connections in its
/// backlog survive a restart of that actor.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    /// `None` after it was found broken, until another one is bound.
    socket: Mutex<Option<std::net::TcpListener>>,
    addr: SocketAddr,
    backlog: u32,
}

impl ListeningSocket {
    /// Binds a socket and listens. For port 0 the system chooses the port.
    pub(crate) fn bind(addr: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = listen(addr, backlog)?;
        Ok(ListeningSocket {
            addr: socket.local_addr()?,
            socket: Mutex::new(Some(socket)),
            backlog,
        })
    }

    /// Returns the address, with the port that the system chose for port 0.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes a broken socket, of which no [`Acceptor`] may be left.
    pub(crate) fn close(&self) {
        *self.socket.lock() = None;
    }

    /// Binds another socket at the same address if the former one was closed. Returns whether it was.
    pub(crate) fn bind_again(&self) -> io::Result<bool> {
        let mut socket = self.socket.lock();
        if socket.is_some() {
            return Ok(false);
        }
        *socket = Some(listen(self.addr, self.backlog)?);
        Ok(true)
    }

    /// Attaches the socket to the runtime of this thread.
    pub(crate) fn attach(&self) -> io::Result<Acceptor> {
        let socket = self.socket.lock();
        let socket = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        TcpListener::from_std(socket.try_clone()?).map(Acceptor)
    }
}

fn listen(addr: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a node that restarts have its port while connections of its former life are in TIME_WAIT.
    // On Windows the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A listening socket that is attached to the runtime of this thread.
#[derive(Debug)]
pub(crate) struct Acceptor(TcpListener);

impl Acceptor {
    /// Waits for the next connection. Dropping the future loses none.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((Stream(stream, Sent::default()), from))
    }
}

/// A connection that belongs to no runtime, so that it can move to another arbiter.
#[derive(Debug)]
pub(crate) struct DetachedStream(std::net::TcpStream);

impl DetachedStream {
    /// Takes an accepted connection out of its runtime.
    pub(crate) fn detach(stream: Stream) -> io::Result<Self> {
        stream.0.into_std().map(DetachedStream)
    }

    /// Attaches the connection to the runtime of this thread, with the options that an accepted
    /// connection has.
    pub(crate) fn attach(self, config: &Config) -> io::Result<Stream> {
        let stream = TcpStream::from_std(self.0)?;
        SockRef::from(&stream).set_tcp_keepalive(&keepalive(config))?;
        let stream = Stream::new(stream);
        stream.delay_acks();
        Ok(stream)
    }
}

/// Returns whether accepting failed because the system lacks something that may come back
/// (descriptors, memory), and not because of one connection.
pub(crate) fn is_exhaustion(err: &io::Error) -> bool {
    // std has no `ErrorKind` for these codes. ENOBUFS is 105 on Linux and 55 on BSD and macOS.
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: [i32; 2] = [105, 55];
    let code = err.raw_os_error().unwrap_or(0);
    err.kind() == io::ErrorKind::OutOfMemory
        || (cfg!(unix) && (code == EMFILE || code == ENFILE || ENOBUFS.contains(&code)))
}

/// Returns whether accepting failed because the socket does not listen any more: somebody shut it down
/// (`ss -K` does), or took its descriptor away. It will never accept again.
pub(crate) fn is_broken(err: &io::Error) -> bool {
    // std has no `ErrorKind` for the first two codes. ENOTSOCK is 88 on Linux and 38 on BSD and macOS.
    const EBADF: i32 = 9;
    const ENOTSOCK: [i32; 2] = [88, 38];
    let code = err.raw_os_error().unwrap_or(0);
    let kind = err.kind();
    kind == io::ErrorKind::InvalidInput
        || kind == io::ErrorKind::Unsupported
        || (cfg!(unix) && (code == EBADF || ENOTSOCK.contains(&code)))
}

fn keepalive(config: &Config) -> TcpKeepalive {
    let interval = (config.keepalive / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(config.keepalive);
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    let keepalive = keepalive.with_interval(interval);
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let keepalive = keepalive.with_retries(3);
    keepalive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bind::bind;

    #[tokio::test]
    async fn a_dialled_connection_has_the_options_of_the_config() {
        let any_port = ([127, 0, 0, 1], 0).into();
        let bound = bind(any_port, &Config::default()).expect("free port");
        for nodelay in [true, false] {
            let config = Config::default()
                .nodelay(nodelay)
                .keepalive(Duration::from_secs(7))
                .user_timeout(Duration::from_millis(1234));
            let Stream(stream, _) = Stream::dial(bound.addr, &config).await.expect("listening");
            let socket = SockRef::from(&stream);
            assert_eq!(stream.nodelay().expect("tcp"), nodelay);
            assert!(socket.keepalive().expect("tcp"));
            #[cfg(target_os = "linux")]
            {
                let timeout = socket.tcp_user_timeout().expect("tcp");
                assert_eq!(timeout, Some(config.user_timeout));
                let idle = socket.tcp_keepalive_time().expect("tcp");
                assert_eq!(idle, config.keepalive);
            }
        }
    }

    /// The system walks through its range of ports, and dials to a port of that range get to it after
    /// some ten thousand tries.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_to_itself_is_refused_and_leaves_nothing_in_time_wait() {
        const TRIES: usize = 1_000_000;

        let config = Config::default();
        // A port as the system draws it for an outgoing connection.
        let addr = {
            let bound = bind(([127, 0, 0, 1], 0).into(), &config).expect("free port");
            let Stream(stream, _) = Stream::dial(bound.addr, &config).await.expect("listening");
            let socket = SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).expect("open");
            stream.local_addr().expect("connected")
        };
        for _ in 0..TRIES {
            let err = Stream::dial(addr, &config)
                .await
                .expect_err("nobody listens");
            assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
            if err.to_string() == "connected to itself" {
                // Binding the port would not prove it: another program may have taken it by now.
                let port = format!(":{:04X}", addr.port());
                let table = std::fs::read_to_string("/proc/net/tcp").expect("linux");
                let left = table.lines().find(|line| {
                    let mut ends = line.split_whitespace().skip(1).take(2);
                    ends.all(|end| end.ends_with(&port))
                });
                assert_eq!(left, None);
                return;
            }
        }
        panic!("never connected to itself");
    }
}
