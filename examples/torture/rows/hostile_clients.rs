//! Hostile clients: thousands of connections that send raw bytes, on their own thread.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// What a hostile connection does.
#[derive(Debug, Copy, Clone)]
pub(crate) enum Kind {
    /// Sends nothing.
    Idle,
    /// Announces the longest allowed frame and sends nothing more.
    Header,
    /// Sends a frame at one byte a second.
    Trickle,
    /// Sends random bytes.
    Garbage,
    /// Sends an HTTP request.
    Http,
    /// Sends a TLS hello.
    Tls,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Idle,
    Kind::Header,
    Kind::Trickle,
    Kind::Garbage,
    Kind::Http,
    Kind::Tls,
];

/// Half of the clients are disconnected at once and come back after a pause; this many do so in a
/// second, all together.
const RECONNECTS_PER_SECOND: usize = 1_000;

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Idle => "idle",
            Kind::Header => "header only",
            Kind::Trickle => "1 B/s",
            Kind::Garbage => "garbage",
            Kind::Http => "http",
            Kind::Tls => "tls",
        }
    }

    /// Returns the bytes that it sends at once.
    fn bytes(self, rng: &mut Rng) -> Vec<u8> {
        // The default limit on a frame.
        const LONGEST: u32 = 10 << 20;
        match self {
            Kind::Idle | Kind::Trickle => Vec::new(),
            Kind::Header => [LONGEST.to_be_bytes(), 1u32.to_le_bytes()].concat(),
            Kind::Garbage => (0..rng.usize(1..4096)).map(|_| rng.u8(..)).collect(),
            Kind::Http => b"GET / HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n".to_vec(),
            Kind::Tls => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 506]].concat(),
        }
    }
}

/// A handle to the clients. They end when it is dropped.
pub(crate) struct HostileClients {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    open: AtomicUsize,
    made: [AtomicU64; KINDS.len()],
}

/// Keeps `count` connections to `to` open, as far as the server allows.
pub(crate) fn start(to: SocketAddr, count: usize, seed: u64) -> HostileClients {
    let shared = Arc::new(Shared::default());
    let in_thread = shared.clone();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            for index in 0..count {
                let shared = in_thread.clone();
                tokio::spawn(client(shared, to, index, count, seed));
                // Connect no faster than the backlog can take.
                if index % 50 == 49 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            while !in_thread.over.load(Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
        });
    });
    HostileClients {
        shared,
        thread: Some(thread),
    }
}

impl HostileClients {
    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Relaxed)
    }

    /// Stops the clients, and returns how many connections of each kind there were.
    pub(crate) fn end(mut self) -> [u64; KINDS.len()] {
        self.shared.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("this thread does not panic");
        }
        self.shared.made.each_ref().map(|made| made.load(Relaxed))
    }
}

impl Drop for HostileClients {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
    }
}

/// One client: connects, misbehaves, and connects again after it was disconnected.
async fn client(shared: Arc<Shared>, to: SocketAddr, index: usize, count: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed ^ (index as u64) << 32);
    let kind = KINDS[index % KINDS.len()];
    loop {
        if let Ok(stream) = connect(to, index).await {
            shared.open.fetch_add(1, Relaxed);
            shared.made[index % KINDS.len()].fetch_add(1, Relaxed);
            misbehave(kind, stream, &mut rng).await;
            shared.open.fetch_sub(1, Relaxed);
        }
        let pause = match kind {
            Kind::Idle | Kind::Header | Kind::Trickle => 0.05,
            Kind::Garbage | Kind::Http | Kind::Tls => {
                (count / 2) as f64 / RECONNECTS_PER_SECOND as f64
            }
        };
        sleep(Duration::from_secs_f64(pause * (0.5 + rng.f64()))).await;
    }
}

/// Connects from one of many source addresses, since each has its own range of ports.
async fn connect(to: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 2, (index % 200) as u8 + 1), 0).into())?;
    let stream = socket.connect(to).await?;
    // Closes with an RST, so that no TIME_WAIT entry remains.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// Sends the bytes of its kind, and waits until it is disconnected.
async fn misbehave(kind: Kind, mut stream: TcpStream, rng: &mut Rng) {
    let sent = stream.write_all(&kind.bytes(rng)).await;
    let mut read = [0];
    match kind {
        _ if sent.is_err() => {}
        Kind::Trickle => {
            // The frame is valid, but too slow.
            let frame = [&1_000u32.to_be_bytes()[..], &1u32.to_le_bytes(), &[1; 992]].concat();
            for byte in frame {
                let second = Duration::from_secs(1);
                let disconnected = timeout(second, stream.read(&mut read)).await.is_ok();
                if disconnected || stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        _ => {
            let _ = stream.read(&mut read).await;
        }
    }
}
