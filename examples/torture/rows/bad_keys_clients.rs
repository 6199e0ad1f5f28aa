//! Clients without the right keys: everything between plain bytes and a whole handshake with a certificate that
//! must not be accepted.
//!
//! They are cheap, because they share the processors with the node that they attack: a few threads with
//! blocking calls, which check nothing.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConnection;
use socket2::{Domain, Socket, Type};

use crate::{
    keys::{Authority, Request},
    row::Failure,
    tls_client::{TlsClient, say},
};

/// What a client does.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Kind {
    /// Sends a `Hello` without TLS.
    Plain,
    /// Sends random bytes.
    Garbage,
    /// Sends half of a ClientHello and nothing more.
    Half,
    /// Sends records without content.
    EmptyRecords,
    /// Sends a part of a ClientHello, each time one byte more, and then an alert.
    Alert,
    Expired,
    NotYetValid,
    OtherCa,
    NotAllowed,
    /// Shows a valid certificate of node 4, and says that it is node 5.
    OtherNode,
    LongChain,
    WrongKey,
    NoCertificate,
}

pub(super) const KINDS: [Kind; 13] = [
    Kind::Plain,
    Kind::Expired,
    Kind::Garbage,
    Kind::NotYetValid,
    Kind::Half,
    Kind::OtherCa,
    Kind::EmptyRecords,
    Kind::NotAllowed,
    Kind::Alert,
    Kind::OtherNode,
    Kind::LongChain,
    Kind::WrongKey,
    Kind::NoCertificate,
];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Garbage => "garbage",
            Kind::Half => "half a ClientHello",
            Kind::EmptyRecords => "empty records",
            Kind::Alert => "alert within a ClientHello",
            Kind::Expired => "expired",
            Kind::NotYetValid => "not yet valid",
            Kind::OtherCa => "of another CA",
            Kind::NotAllowed => "not allowed",
            Kind::OtherNode => "of another node",
            Kind::LongChain => "too long a chain",
            Kind::WrongKey => "wrong key",
            Kind::NoCertificate => "no certificate",
        }
    }
}

/// Threads that make connections at a steady rate.
const THREADS: usize = 4;

/// How long a client waits for the node to end the connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one that sent bytes which may be the beginning of a handshake waits before it closes.
const SHORT: Duration = Duration::from_millis(50);

/// What the clients send, made once.
pub(super) struct Material {
    /// The clients that make whole handshakes.
    shown: Vec<(Kind, TlsClient)>,
    flight: Vec<u8>,
    /// What they say once they are in, or think that they are: who they are, and a frame.
    words: Vec<u8>,
}

/// What became of them.
#[derive(Debug, Default, Clone)]
pub(super) struct Made {
    pub(super) by_kind: [u64; KINDS.len()],
    /// Bytes that reached the applications of clients without the right keys, encrypted or not.
    pub(super) bytes_out: u64,
}

impl Made {
    pub(super) fn total(&self) -> u64 {
        self.by_kind.iter().sum()
    }

    fn add(&mut self, other: &Made) {
        for (sum, more) in self.by_kind.iter_mut().zip(other.by_kind) {
            *sum += more;
        }
        self.bytes_out += other.bytes_out;
    }

    fn note(&mut self, kind: Kind, bytes_out: usize) {
        let index = KINDS.iter().position(|other| *other == kind);
        self.by_kind[index.expect("one of all")] += 1;
        // Node 4 is told why it is refused.
        if kind != Kind::OtherNode {
            self.bytes_out += bytes_out as u64;
        }
    }
}

impl Material {
    pub(super) fn new(authority: &Authority) -> Result<Self, Failure> {
        let other = Authority::new("other");
        let long = authority.intermediate("level").below(7);
        let good = authority.certificate(Request::node(4));
        let wrong_key = good
            .clone()
            .with_key_of(&other.certificate(Request::node(4)));
        let shown = [
            (
                Kind::Expired,
                Some(authority.certificate(Request::node(4).expired())),
            ),
            (
                Kind::NotYetValid,
                Some(authority.certificate(Request::node(4).not_yet_valid())),
            ),
            (Kind::OtherCa, Some(other.certificate(Request::node(4)))),
            (
                Kind::NotAllowed,
                Some(authority.certificate(Request::new().dns("web-4.test"))),
            ),
            (Kind::OtherNode, Some(good)),
            (Kind::LongChain, Some(long.certificate(Request::node(4)))),
            (Kind::WrongKey, Some(wrong_key)),
            (Kind::NoCertificate, None),
        ];
        let shown = shown.into_iter().map(|(kind, keys)| {
            let client = TlsClient::showing(keys.as_ref())?;
            Ok((kind, client))
        });
        Ok(Material {
            shown: shown.collect::<Result<_, Failure>>()?,
            flight: TlsClient::showing(None)?.first_flight()?,
            words: [hello(5), frame(1, &[7; 32])].concat(),
        })
    }

    fn begin(&self, kind: Kind) -> Option<ClientConnection> {
        let (_, client) = self.shown.iter().find(|(shown, _)| *shown == kind)?;
        client.begin().ok()
    }

    /// Makes one connection. Returns it if it stays open.
    fn one(
        &self,
        kind: Kind,
        to: SocketAddr,
        index: usize,
        made: &mut Made,
    ) -> io::Result<Option<TcpStream>> {
        let mut stream = connect(to, index)?;
        if let Some(rustls) = self.begin(kind) {
            made.note(kind, say(rustls, stream, &self.words));
            return Ok(None);
        }
        let mut draw = fastrand::Rng::with_seed(index as u64);
        let bytes = match kind {
            Kind::Plain => self.words.clone(),
            Kind::Garbage => (0..draw.usize(1..4096)).map(|_| draw.u8(..)).collect(),
            Kind::EmptyRecords => [0x16, 3, 3, 0, 0].repeat(200),
            Kind::Alert => {
                let part = &self.flight[..index / KINDS.len() % self.flight.len()];
                [part, &[0x15, 3, 3, 0, 2, 2, 40]].concat()
            }
            _ => self.flight[..self.flight.len() / 2].to_vec(),
        };
        let written = stream.write_all(&bytes);
        if kind == Kind::Half {
            made.note(kind, 0);
            return Ok(Some(stream));
        }
        let mut came = Vec::new();
        if written.is_ok() {
            stream.set_read_timeout(Some(SHORT))?;
            let _ = stream.read_to_end(&mut came);
        }
        // To TLS the node answers with an alert, or with its part of a handshake. Records of the application
        // have another kind.
        let is_handshake = matches!(came.first(), Some(0x15 | 0x16));
        made.note(kind, if is_handshake { 0 } else { came.len() });
        Ok(None)
    }

    /// Begins many whole handshakes at once and then goes on with one after the other.
    fn burst(&self, to: SocketAddr, count: usize) -> io::Result<Made> {
        let mut made = Made::default();
        let mut begun = Vec::new();
        for index in 0..count {
            let (kind, client) = &self.shown[index % self.shown.len()];
            let mut rustls = client.begin().map_err(io::Error::other)?;
            let mut stream = connect(to, index)?;
            rustls.write_tls(&mut stream)?;
            begun.push((*kind, rustls, stream));
        }
        for (kind, rustls, stream) in begun {
            made.note(kind, say(rustls, stream, &self.words));
        }
        Ok(made)
    }
}

/// Makes `steady` connections within this time, at a steady rate and of all kinds in turn, and in the middle
/// `burst` whole handshakes at once. Returns when the last one has ended.
pub(super) fn attack(
    material: &Arc<Material>,
    to: SocketAddr,
    time: Duration,
    steady: usize,
    burst: usize,
) -> io::Result<Made> {
    let began = Instant::now();
    let mut threads = Vec::new();
    for thread in 0..THREADS {
        let material = material.clone();
        threads.push(thread::spawn(move || {
            let (mut made, mut open) = (Made::default(), Vec::new());
            for index in (thread..steady).step_by(THREADS) {
                let due = began + time.mul_f64(index as f64 / steady as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let kind = KINDS[index % KINDS.len()];
                open.extend(material.one(kind, to, index, &mut made)?);
            }
            for mut stream in open {
                let _ = stream.read(&mut [0]);
            }
            Ok(made)
        }));
    }
    let material = material.clone();
    threads.push(thread::spawn(move || {
        thread::sleep((began + time / 2).saturating_duration_since(Instant::now()));
        material.burst(to, burst)
    }));
    let mut all = Made::default();
    for thread in threads {
        let made: io::Result<Made> = thread.join().expect("this thread does not panic");
        all.add(&made?);
    }
    Ok(all)
}

/// Connects from one of many source addresses, as clients on many machines would.
fn connect(to: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = Ipv4Addr::new(127, 0, 3, (index % 200) as u8 + 1);
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Returns a frame as it is on the wire.
fn frame(group: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32 + 8).to_be_bytes();
    [&len[..], &group.to_le_bytes(), payload].concat()
}

/// Returns what a node says first: its number, incarnation, cluster, port and longest frame.
fn hello(node: u64) -> Vec<u8> {
    let field = |tag: u8, value: &[u8]| {
        let len = (value.len() as u16).to_be_bytes();
        [&[tag], &len[..], value].concat()
    };
    let fields = [
        field(1, &node.to_be_bytes()),
        field(2, &1_u64.to_be_bytes()),
        field(3, b"torture"),
        field(5, &7000_u16.to_be_bytes()),
        field(6, &(10_u32 << 20).to_be_bytes()),
    ];
    let payload = [b"atps", &[1, 1, 1, 0][..], &fields.concat()].concat();
    frame(u32::MAX, &payload)
}
