//! The other end of the transport's own links, as the test wants it.

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

/// An address kept for the test: nobody listens there, and nobody else is given it, until the test
/// listens or binds a transport there.
pub(crate) struct Vacant(Socket);

impl Vacant {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // So does the transport, and two that do so may share an address until one listens.
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

/// A listener that accepts what the test accepts by hand.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let vacant = Vacant::new();
    let addr = vacant.addr();
    (vacant.listen(), addr)
}

/// A listener that answers nobody: it accepts nothing, and no more fit into its backlog.
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
        // A backlog of none holds one.
        let waiting = TcpStream::connect(addr).await.expect("listening");
        Mute {
            addr,
            _listener: vacant.0,
            _waiting: waiting,
        }
    }
}

/// A link of the transport, read by hand or not at all.
pub(crate) struct Tap {
    stream: TcpStream,
    /// What has been read and not taken.
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

    /// The next frame, group and payload; none when the link has ended.
    pub(crate) async fn frame(&mut self) -> Option<(u32, Bytes)> {
        loop {
            if let Some(length) = self.read.first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.read.len() >= length {
                    let frame = self.read.split_to(length).freeze();
                    let group = u32::from_le_bytes(*frame[4..].first_chunk().expect("a group"));
                    return Some((group, frame.slice(8..)));
                }
                // Long frames are not to be copied along as they grow.
                self.read.reserve(length - self.read.len());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// The number of the next frame, which must come.
    pub(crate) async fn number(&mut self) -> u32 {
        let (_, payload) = self.frame().await.expect("the link ended");
        number(&payload)
    }

    /// Reads until `n` bytes are there that no frame was made of.
    pub(crate) async fn buffer_bytes(&mut self, n: usize) {
        while self.read.len() < n {
            assert!(self.read_more().await, "the link ended");
        }
    }

    /// Reads to the link's end: the numbers of the frames that come, and how many bytes come behind
    /// the last whole one.
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

    /// Answers, which no peer does.
    pub(crate) async fn write_back(&mut self) {
        self.stream.write_all(b"HTTP").await.expect("open");
    }

    /// Says that nothing will be written on this side, and goes on reading.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("open");
    }

    /// Lets the kernel acknowledge what comes next with the answer, if there is one soon. There is
    /// none.
    #[cfg(target_os = "linux")]
    pub(crate) fn acknowledge_late(&self) {
        let socket = SockRef::from(&self.stream);
        socket.set_tcp_quickack(false).expect("open");
    }

    /// Ends the link as a peer that dies does.
    pub(crate) fn reset(self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("open");
    }
}

/// A link that takes nothing more: a frame that is longer than the kernel keeps has begun on it, and
/// the other side does not read. No matter how long it is waited, what is sent behind it waits.
pub(crate) struct Plugged(Tap);

/// The payload of the frame that plugs: more than the buffers of both sockets hold.
pub(crate) const PLUG: usize = 16 << 20;

/// What `PLUG` takes of a queue's bytes.
pub(crate) const PLUG_BYTES: usize = PLUG + 8;

impl Plugged {
    /// Sends the plug over the transport's link to `listener` and waits until it is stuck.
    pub(crate) async fn new(transport: &Transport, listener: &TcpListener) -> Self {
        let to = listener.local_addr().expect("bound");
        let plug = vec![0; PLUG];
        transport.try_send(to, group(0), plug).expect("room");
        let tap = Tap::accept(listener).await;
        // The writer writes what it has taken before it does anything else.
        until("plugged", || {
            let frames = transport.peer_stats(to).expect("known").frames;
            frames.in_flight.bytes as usize == PLUG_BYTES
        })
        .await;
        tap.stream.readable().await.expect("open");
        Plugged(tap)
    }

    /// Reads the plug; what is behind it comes through again.
    pub(crate) async fn pull(self) -> Tap {
        let Plugged(mut tap) = self;
        let (_, plug) = tap.frame().await.expect("the link ended");
        assert_eq!(plug.len(), PLUG);
        tap
    }

    /// Leaves the plug in.
    pub(crate) fn into_tap(self) -> Tap {
        self.0
    }
}

/// A payload that tells its place in an order: `len` bytes, four at least.
pub(crate) fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; len];
    payload[..4].copy_from_slice(&number.to_le_bytes());
    payload
}

/// The place that a [`numbered`] payload tells; fails if another of its bytes is not as it was sent.
pub(crate) fn number(payload: &[u8]) -> u32 {
    let number = u32::from_le_bytes(*payload.first_chunk().expect("four bytes"));
    // That all bytes are equal is found much faster by comparing each with the next.
    if let [first, others @ ..] = &payload[4..] {
        let intact = *first == number as u8 && payload[4..payload.len() - 1] == *others;
        assert!(intact, "frame {number} was garbled");
    }
    number
}
