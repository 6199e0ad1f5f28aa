//! The whole way of a frame over loopback, with both ends in one process: throughput and round
//! trip.
//!
//! ```text
//! cargo bench --bench link
//! ```
//!
//! The baseline of each group is the same work on plain tokio sockets. `loadgen bench` measures
//! between processes and with more contestants.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{Config, GroupId, Inbound, Peer, Placement, Shutdown, Transport};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const GROUP: GroupId = GroupId::new(1);

/// Reports the number of frames in each batch.
struct Counter(mpsc::UnboundedSender<u64>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Counter {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        let mut frames = 0;
        while let Some(payload) = inbound.next_slice() {
            black_box((payload.first(), payload.last()));
            frames += 1;
        }
        let _ = self.0.send(frames);
    }
}

/// Sends each frame back.
struct Echo(Peer);

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Echo {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        for payload in inbound {
            self.0
                .try_send(GROUP, payload)
                .expect("one frame at a time");
        }
    }
}

fn bind(placement: Placement) -> Transport {
    let config = Config::default().placement(placement);
    Transport::builder()
        .config(config)
        .bind("127.0.0.1:0")
        .expect("free port")
}

fn placements() -> [(&'static str, Placement); 2] {
    [
        ("own arbiters", Placement::default()),
        ("one arbiter", Placement::Current),
    ]
}

fn throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("throughput");
    for size in [64, 1024, 16 << 10] {
        group.throughput(Throughput::Bytes(size as u64));
        for (name, placement) in placements() {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter_custom(|frames| System::new().block_on(transfer(placement, size, frames)));
            });
        }
        group.bench_function(BenchmarkId::new("bare sockets", size), |b| {
            b.iter_custom(|frames| System::new().block_on(transfer_bare(size, frames)));
        });
    }
    group.finish();
}

async fn transfer(placement: Placement, size: usize, frames: u64) -> Duration {
    let (sender, receiver) = (bind(placement), bind(placement));
    let (tell, mut counted) = mpsc::unbounded_channel();
    receiver
        .register(GROUP, Counter(tell).start().recipient())
        .expect("free group");
    let peer = sender.peer(receiver.local_addr()).expect("an address");
    let begun = Instant::now();
    actix::spawn(async move {
        let payload = vec![7; size];
        for _ in 0..frames {
            if let Err(refused) = peer.try_send(GROUP, &payload) {
                peer.send(GROUP, refused.into_payload())
                    .await
                    .expect("it is up");
            }
        }
    });
    let mut left = frames;
    while left > 0 {
        left -= counted.recv().await.expect("the counter lives");
    }
    let time = begun.elapsed();
    sender.stop(Shutdown::Now).await;
    receiver.stop(Shutdown::Now).await;
    time
}

/// The same transfer over plain sockets, with writes and reads of 64 KiB.
async fn transfer_bare(size: usize, frames: u64) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let addr = listener.local_addr().expect("bound");
    let mut left = frames as usize * (size + 8);
    let begun = Instant::now();
    actix::spawn(async move {
        let mut stream = TcpStream::connect(addr).await.expect("listening");
        let mut out = Vec::with_capacity(64 << 10);
        for _ in 0..frames {
            out.resize(out.len() + size + 8, 7);
            if out.len() + size + 8 > out.capacity() {
                stream.write_all(&out).await.expect("connected");
                out.clear();
            }
        }
        stream.write_all(&out).await.expect("connected");
    });
    let (mut stream, _) = listener.accept().await.expect("dialled");
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        left -= stream.read(&mut buffer).await.expect("connected");
    }
    begun.elapsed()
}

fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip 64 B");
    for (name, placement) in placements() {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| System::new().block_on(ping(placement, rounds)));
        });
    }
    group.bench_function("bare sockets", |b| {
        b.iter_custom(|rounds| System::new().block_on(ping_bare(rounds)));
    });
    group.finish();
}

async fn ping(placement: Placement, rounds: u64) -> Duration {
    let (here, there) = (bind(placement), bind(placement));
    let (tell, mut answered) = mpsc::unbounded_channel();
    here.register(GROUP, Counter(tell).start().recipient())
        .expect("free group");
    let back = there.peer(here.local_addr()).expect("an address");
    there
        .register(GROUP, Echo(back).start().recipient())
        .expect("free group");
    let peer = here.peer(there.local_addr()).expect("an address");
    let mut begun = Instant::now();
    for round in 0..=rounds {
        peer.try_send(GROUP, [7; 64]).expect("one frame at a time");
        answered.recv().await.expect("the counter lives");
        if round == 0 {
            // The first one had to connect.
            begun = Instant::now();
        }
    }
    let time = begun.elapsed();
    here.stop(Shutdown::Now).await;
    there.stop(Shutdown::Now).await;
    time
}

async fn ping_bare(rounds: u64) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let addr = listener.local_addr().expect("bound");
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("dialled");
        stream.set_nodelay(true).expect("tcp");
        let mut frame = [0; 72];
        while stream.read_exact(&mut frame).await.is_ok() {
            stream.write_all(&frame).await.expect("connected");
        }
    });
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    stream.set_nodelay(true).expect("tcp");
    let mut frame = [7; 72];
    let begun = Instant::now();
    for _ in 0..rounds {
        stream.write_all(&frame).await.expect("connected");
        stream.read_exact(&mut frame).await.expect("connected");
    }
    begun.elapsed()
}

criterion_group!(benches, throughput, round_trip);
criterion_main!(benches);
