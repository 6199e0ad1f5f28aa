//! TCP: accepting and dialling. Reading and writing are in `halves`.
//!
//! [`Stream`] is one connection attached to this thread's runtime, [`DetachedStream`] the same while it
//! moves from one arbiter to another.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    config::Config,
    net::{
        halves::{ReadHalf, WriteHalf},
        sent::Sent,
        tcp_options::{delay_acks, keepalive, set_writing_options},
        time::timeout,
        tls::Secured,
    },
};

/// One connection, attached to the runtime of this thread.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) tcp: TcpStream,
    pub(super) sent: Sent,
    /// What encrypts it. `None` if nothing does.
    pub(super) tls: Option<Arc<Secured>>,
}

impl Stream {
    /// Dials `addr`, for `connect_timeout` at most.
    pub(crate) async fn dial(addr: SocketAddr, config: &Config) -> io::Result<Self> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        let options = SockRef::from(&socket);
        set_writing_options(&options, config)?;
        options.set_tcp_keepalive(&keepalive(config))?;
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
        Stream {
            tcp: stream,
            sent,
            tls: None,
        }
    }

    /// Returns whether both ends have the same ip, so that the connection does not leave this machine.
    pub(crate) fn is_within_machine(&self) -> bool {
        let ip = |addr: io::Result<SocketAddr>| addr.ok().map(|addr| addr.ip());
        let local = ip(self.tcp.local_addr());
        local.is_some() && local == ip(self.tcp.peer_addr())
    }

    /// Attaches a connected socket of a test's own.
    #[cfg(all(unix, any(test, feature = "test-internals")))]
    pub(crate) fn from_fd(fd: std::os::fd::OwnedFd) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream).map(Stream::new)
    }

    /// Splits the connection, so that one task can read while another writes.
    pub(crate) fn split(self) -> (ReadHalf, WriteHalf) {
        let (reading, writing) = self.tcp.into_split();
        let reading = ReadHalf::new(reading, self.tls.clone());
        (reading, WriteHalf::new(writing, self.sent, self.tls))
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
        let stream = Stream {
            tcp: stream,
            sent: Sent::default(),
            tls: None,
        };
        Ok((stream, from))
    }
}

/// A connection that belongs to no runtime, so that it can move to another arbiter.
#[derive(Debug)]
pub(crate) struct DetachedStream(std::net::TcpStream);

impl DetachedStream {
    /// Takes an accepted connection out of its runtime.
    pub(crate) fn detach(stream: Stream) -> io::Result<Self> {
        stream.tcp.into_std().map(DetachedStream)
    }

    /// Attaches the connection to the runtime of this thread, with the options that an accepted
    /// connection has.
    pub(crate) fn attach(self, config: &Config) -> io::Result<Stream> {
        let stream = TcpStream::from_std(self.0)?;
        SockRef::from(&stream).set_tcp_keepalive(&keepalive(config))?;
        let stream = Stream::new(stream);
        delay_acks(&stream.tcp);
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
            let stream = Stream::dial(bound.addr, &config).await.expect("listening");
            let stream = stream.tcp;
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
            let stream = Stream::dial(bound.addr, &config).await.expect("listening");
            let stream = stream.tcp;
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
