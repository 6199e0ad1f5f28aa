//! Helpers for tests of the receiving side: a sender in raw bytes, and actors with special
//! behaviour.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{GroupOverflow, Inbound, Sender, Shutdown, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
};

use super::{Got, LONG, Probe, Seen, balanced, group, serve, until, wire};

/// Asserts that the counters balance, and stops the transports.
pub(crate) async fn end<const N: usize>(transports: [Transport; N]) {
    balanced(&transports);
    for transport in transports {
        transport.stop(Shutdown::Now).await;
    }
}

// ---- the sender's end, in raw bytes ------------------------------------------------------------

/// Opens a raw connection to the transport.
pub(crate) async fn dial(transport: &Transport) -> TcpStream {
    let stream = TcpStream::connect(transport.local_addr()).await;
    let stream = stream.expect("listening");
    stream.set_nodelay(true).expect("open");
    stream
}

pub(crate) async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("open");
}

/// Writes these frames in one write.
pub(crate) async fn write_frames(stream: &mut TcpStream, frames: &[(u32, &[u8])]) {
    let bytes = frames
        .iter()
        .flat_map(|&(group, payload)| wire(group, payload));
    write(stream, &bytes.collect::<Vec<_>>()).await;
}

/// Waits until the other side closes the connection. Fails if it writes anything first.
pub(crate) async fn expect_close(mut stream: TcpStream) {
    let read = tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await;
    match read.expect("the connection is not closed") {
        Ok(said) => assert_eq!(said, 0, "an answer"),
        // It closed before it had read all, so the system answered with a reset.
        Err(err) => assert_eq!(err.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// A second connection, with a group of its own.
///
/// With one reader, once a frame of the witness has arrived, everything that other connections had
/// written before it has been looked at: the reader visits readable sockets in turn.
pub(crate) struct Witness {
    stream: TcpStream,
    seen: Seen<Got>,
}

impl Witness {
    const GROUP: u32 = 0xAAAA_AAAA;

    pub(crate) async fn new(transport: &Transport) -> Self {
        let mut witness = Witness {
            stream: dial(transport).await,
            seen: serve(transport, [Self::GROUP]),
        };
        witness.comes_through().await;
        witness
    }

    /// Sends a frame and waits until it arrives.
    pub(crate) async fn comes_through(&mut self) {
        let written = self.stream.write_all(&wire(Self::GROUP, b"")).await;
        written.expect("nothing closes the witness");
        self.seen.next().await;
    }
}

// ---- actors with special behaviour -------------------------------------------------------------

impl Handler<Inbound> for Probe<(SocketAddr, Got)> {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (from, group, via) = (
            inbound.from().socket_addr(),
            inbound.group().get(),
            inbound.via(),
        );
        for payload in inbound {
            let got = Got {
                group,
                payload,
                via,
            };
            let _ = self.0.send((from, got));
        }
    }
}

/// Like [`serve`], but each frame comes with its sender's address.
pub(crate) fn serve_from(
    transport: &Transport,
    groups: impl IntoIterator<Item = u32>,
) -> Seen<(SocketAddr, Got)> {
    let (tell, seen) = mpsc::unbounded_channel();
    let probe = Probe(tell).start();
    for index in groups {
        transport
            .register(group(index), probe.clone().recipient())
            .expect("free group");
    }
    Seen(seen)
}

impl Handler<Inbound> for Probe<(Option<Sender>, Got)> {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (group, via) = (inbound.group().get(), inbound.via());
        let sender = inbound.sender().cloned();
        for payload in inbound {
            let got = Got {
                group,
                payload,
                via,
            };
            let _ = self.0.send((sender.clone(), got));
        }
    }
}

/// Like [`serve`], but each frame comes with the node that sent it, if that introduced itself.
pub(crate) fn serve_known(transport: &Transport, index: u32) -> Seen<(Option<Sender>, Got)> {
    let (probe, seen) = known_probe();
    transport.register(group(index), probe).expect("free group");
    seen
}

/// Like [`probe`], but each frame comes with the node that sent it.
pub(crate) fn known_probe() -> (Recipient<Inbound>, Seen<(Option<Sender>, Got)>) {
    let (tell, seen) = mpsc::unbounded_channel();
    (Probe(tell).start().recipient(), Seen(seen))
}

/// A probe that is not registered for any group yet.
pub(crate) fn probe() -> (Recipient<Inbound>, Seen<Got>) {
    let (tell, seen) = mpsc::unbounded_channel();
    (Probe(tell).start().recipient(), Seen(seen))
}

/// Waits until `fact` holds and blocks this thread meanwhile, so that nothing else runs on it.
pub(crate) fn block_until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !fact() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An actor whose handlers wait until its gate opens, and only then take their frames.
struct Slow {
    gate: watch::Receiver<bool>,
    /// Counts the batches that came to the handler.
    came: Arc<AtomicUsize>,
    tell: mpsc::UnboundedSender<Got>,
    line: Arc<tokio::sync::Mutex<()>>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Slow {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) -> Self::Result {
        self.came.fetch_add(1, Relaxed);
        let (mut gate, tell) = (self.gate.clone(), self.tell.clone());
        let line = self.line.clone();
        Box::pin(async move {
            // Batches that wait at the gate pass it in the order in which they came.
            let _first = line.lock().await;
            // An error means that the test has dropped the gate. Then the frames need not be held any longer.
            let _ = gate.wait_for(|open| *open).await;
            let (group, via) = (inbound.group().get(), inbound.via());
            for payload in inbound {
                let _ = tell.send(Got {
                    group,
                    payload,
                    via,
                });
            }
        })
    }
}

/// Opens the gate of an actor that [`hold`] made.
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    came: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns how many batches have come to the handler.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Relaxed)
    }
}

/// Serves a group with an actor that takes no frames until the gate is opened.
pub(crate) fn hold(
    transport: &Transport,
    index: u32,
    overflow: GroupOverflow,
) -> (Gate, Seen<Got>) {
    let (hand, gate) = watch::channel(false);
    let (tell, seen) = mpsc::unbounded_channel();
    let came = Arc::<AtomicUsize>::default();
    let slow = Slow {
        gate,
        line: Arc::default(),
        came: came.clone(),
        tell,
    };
    let slow = slow.start();
    transport
        .register_with(group(index), slow.recipient(), overflow)
        .expect("free group");
    (Gate { open: hand, came }, Seen(seen))
}

/// A local ip other than the one that most tests use, on systems with more than one. A port that is
/// free there is not taken by one of those tests by chance.
pub(crate) const OWN_IP: Ipv4Addr = match cfg!(target_os = "linux") {
    true => Ipv4Addr::new(127, 0, 0, 7),
    false => Ipv4Addr::LOCALHOST,
};

/// Bytes that fill the first five reads of a connection. Its first read takes 2 KiB at most, and
/// each read that was full doubles the next; after these five it reads 64 KiB at once.
pub(crate) const FILLS_FIVE_READS: usize = (2 + 4 + 8 + 16 + 32) << 10;

/// Stops a transport with a drain, and opens the gate when that has begun.
pub(crate) async fn drain_behind(transport: &Transport, gate: &Gate) {
    let addr = transport.local_addr();
    let open = async {
        let refused = || std::net::TcpStream::connect(addr).is_err();
        until("nothing is accepted", refused).await;
        gate.open();
    };
    tokio::join!(transport.stop(Shutdown::Drain(LONG)), open);
}
