//! The peer's end of the transport's links, accepted and read by the test itself.

use std::{net::SocketAddr, time::Duration};

use actix_transport::Transport;
use bytes::{Bytes, BytesMut};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{LONG, group, until};

/// An address reserved for the test. Nobody listens there and nobody else is given it, until the
/// test listens or binds a transport there.
pub(crate) struct Vacant(Socket);

impl Vacant {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // The transport sets this option, too. Two sockets with the option may bind the same
        // address until one of them listens.
        socket.set_reuse_address(true).expect("open");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("free port");
        Vacant(socket)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        let addr = self.0.local_addr().expect("bound");
        addr.as_socket().expect("an ip address")
    }

    pub(crate) fn listen(self) -> TcpListener {
        self.0.set_nonblocking(true).expect("open");
        self.0.listen(128).expect("nobody else listens");
        TcpListener::from_std(self.0.into()).expect("a runtime")
    }
}

/// A listener whose connections only the test accepts, and its address.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let vacant = Vacant::new();
    let addr = vacant.addr();
    (vacant.listen(), addr)
}

/// A listener that answers no dial: it accepts nothing, and its backlog is full.
pub(crate) struct Mute {
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _waiting: TcpStream,
}

impl Mute {
    pub(crate) async fn new() -> Self {
        let vacant = Vacant::new();
        vacant.0.listen(0).expect("nobody else listens");
        let addr = vacant.addr();
        // A backlog of 0 holds one connection. This one fills it.
        let waiting = TcpStream::connect(addr).await.expect("listening");
        Mute {
            addr,
            _listener: vacant.0,
            _waiting: waiting,
        }
    }
}

/// A link of the transport that only the test reads, or nobody.
pub(crate) struct Tap {
    stream: TcpStream,
    /// Bytes that were read but not yet returned as a frame.
    read: BytesMut,
}

impl Tap {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let accepted = timeout(LONG, listener.accept()).await;
        let (stream, _) = accepted.expect("nobody dials").expect("listening");
        Tap {
            stream,
            read: BytesMut::new(),
        }
    }

    /// Returns the group and payload of the next frame, or `None` when the link has ended.
    pub(crate) async fn frame(&mut self) -> Option<(u32, Bytes)> {
        loop {
            if let Some(length) = self.read.first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.read.len() >= length {
                    let frame = self.read.split_to(length).freeze();
                    let group = u32::from_le_bytes(*frame[4..].first_chunk().expect("a group"));
                    return Some((group, frame.slice(8..)));
                }
                // Room for the whole frame at once, so that a long frame is not copied each time
                // the buffer grows.
                self.read.reserve(length - self.read.len());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// Returns the number of the next frame. Fails if the link ends first.
    pub(crate) async fn number(&mut self) -> u32 {
        let (_, payload) = self.frame().await.expect("the link ended");
        number(&payload)
    }

    /// Reads until `n` bytes are buffered, without taking frames out of them.
    pub(crate) async fn buffer_bytes(&mut self, n: usize) {
        while self.read.len() < n {
            assert!(self.read_more().await, "the link ended");
        }
    }

    /// Reads until the link ends. Returns the numbers of the frames that came and the number of
    /// bytes after the last whole frame.
    pub(crate) async fn read_to_end(mut self) -> (Vec<u32>, usize) {
        let mut numbers = Vec::new();
        while let Some((_, payload)) = self.frame().await {
            numbers.push(number(&payload));
        }
        (numbers, self.read.len())
    }

    async fn read_more(&mut self) -> bool {
        self.read.reserve(8 << 10);
        let read = timeout(LONG, self.stream.read_buf(&mut self.read)).await;
        read.expect("nothing came").is_ok_and(|n| n > 0)
    }

    /// Writes bytes to the link, which a real peer never does.
    pub(crate) async fn write_back(&mut self) {
        self.stream.write_all(b"HTTP").await.expect("open");
    }

    /// Writes bytes to the link, such as an answer to a `Hello`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("open");
    }

    /// Returns whether nothing has arrived that was not returned as a frame.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.read.is_empty() && self.stream.try_read_buf(&mut self.read).is_err()
    }

    /// Closes this side for writing. Reading goes on.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("open");
    }

    /// Makes the kernel delay the acknowledgement of the next bytes, in the hope of sending it with
    /// an answer. No answer follows.
    #[cfg(target_os = "linux")]
    pub(crate) fn acknowledge_late(&self) {
        let socket = SockRef::from(&self.stream);
        socket.set_tcp_quickack(false).expect("open");
    }

    /// Ends the link with a reset, as a peer that dies does.
    pub(crate) fn reset(self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("open");
    }
}

/// A link that takes no more bytes: a frame too long for the kernel's buffers is partly written,
/// and the other side does not read. Whatever is sent behind it waits until the test reads, however
/// long that takes.
pub(crate) struct Plugged(Tap);

/// Length of the plug's payload: more than the buffers of both sockets hold.
pub(crate) const PLUG: usize = 16 << 20;

/// Bytes that the plug takes of a queue: its payload and its header.
pub(crate) const PLUG_BYTES: usize = PLUG + 8;

impl Plugged {
    /// Sends the plug over the transport's link to `listener` and waits until it is stuck.
    pub(crate) async fn new(transport: &Transport, listener: &TcpListener) -> Self {
        let to = listener.local_addr().expect("bound");
        let plug = vec![0; PLUG];
        transport.try_send(to, group(0), plug).expect("room");
        let tap = Tap::accept(listener).await;
        // Once the writer has taken the plug, it writes the plug before anything else.
        until("plugged", || {
            let frames = transport.peer_stats(to).expect("known").frames;
            frames.in_flight.bytes as usize == PLUG_BYTES
        })
        .await;
        tap.stream.readable().await.expect("open");
        Plugged(tap)
    }

    /// Reads the plug, so that what is behind it can follow.
    pub(crate) async fn pull(self) -> Tap {
        let Plugged(mut tap) = self;
        let (_, plug) = tap.frame().await.expect("the link ended");
        assert_eq!(plug.len(), PLUG);
        tap
    }

    /// Returns the link with the plug still unread.
    pub(crate) fn into_tap(self) -> Tap {
        self.0
    }
}

/// A payload of `len` bytes, at least four, that begins with `number`.
pub(crate) fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; len];
    payload[..4].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Returns the number of a [`numbered`] payload. Fails if any other byte is not as it was sent.
pub(crate) fn number(payload: &[u8]) -> u32 {
    let number = u32::from_le_bytes(*payload.first_chunk().expect("four bytes"));
    // Comparing each byte with the next is much faster than comparing all with one value.
    if let [first, others @ ..] = &payload[4..] {
        let intact = *first == number as u8 && payload[4..payload.len() - 1] == *others;
        assert!(intact, "frame {number} was garbled");
    }
    number
}
