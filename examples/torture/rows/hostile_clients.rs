//! Those who mean no good: connections by the thousand, in raw bytes, on a thread of their own.

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
    /// Says nothing.
    Idle,
    /// Announces the longest frame there may be, and says no more.
    Header,
    /// Sends a frame, a byte a second.
    Trickle,
    /// Sends what comes to its mind.
    Garbage,
    /// Takes us for a web server.
    Http,
    /// Takes us for one with secrets.
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

/// Those that are thrown out at once, which is half of them, come back after a while; so many of them a second, all together.
const AGAIN: usize = 1_000;

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

    /// What it says, at once.
    fn bytes(self, rng: &mut Rng) -> Vec<u8> {
        // As long as frames may be by default.
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

/// The besiegers. They go when this goes.
pub(crate) struct Besiegers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    open: AtomicUsize,
    made: [AtomicU64; KINDS.len()],
}

/// Keeps `count` connections to `to` open, as far as they are let.
pub(crate) fn besiege(to: SocketAddr, count: usize, seed: u64) -> Besiegers {
    let shared = Arc::new(Shared::default());
    let besieging = shared.clone();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            for index in 0..count {
                let shared = besieging.clone();
                tokio::spawn(besieger(shared, to, index, count, seed));
                // They come as fast as the backlog takes them, not faster.
                if index % 50 == 49 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            while !besieging.over.load(Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
        });
    });
    Besiegers {
        shared,
        thread: Some(thread),
    }
}

impl Besiegers {
    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Relaxed)
    }

    /// Ends it; says how many connections of each kind there were.
    pub(crate) fn end(mut self) -> [u64; KINDS.len()] {
        self.shared.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("besieges and panics not");
        }
        self.shared.made.each_ref().map(|made| made.load(Relaxed))
    }
}

impl Drop for Besiegers {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
    }
}

/// One of them: connects, misbehaves, and comes back when it was thrown out.
async fn besieger(shared: Arc<Shared>, to: SocketAddr, index: usize, count: usize, seed: u64) {
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
            Kind::Garbage | Kind::Http | Kind::Tls => (count / 2) as f64 / AGAIN as f64,
        };
        sleep(Duration::from_secs_f64(pause * (0.5 + rng.f64()))).await;
    }
}

/// Connects from one of many addresses, each of which has ports of its own.
async fn connect(to: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 2, (index % 200) as u8 + 1), 0).into())?;
    let stream = socket.connect(to).await?;
    // Leaves nothing behind.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// Says what its kind says, and stays until it is thrown out.
async fn misbehave(kind: Kind, mut stream: TcpStream, rng: &mut Rng) {
    let said = stream.write_all(&kind.bytes(rng)).await;
    let mut read = [0];
    match kind {
        _ if said.is_err() => {}
        Kind::Trickle => {
            // A frame that would be welcome, were it not so slow.
            let frame = [&1_000u32.to_be_bytes()[..], &1u32.to_le_bytes(), &[1; 992]].concat();
            for byte in frame {
                let second = Duration::from_secs(1);
                let thrown_out = timeout(second, stream.read(&mut read)).await.is_ok();
                if thrown_out || stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        _ => {
            let _ = stream.read(&mut read).await;
        }
    }
}
