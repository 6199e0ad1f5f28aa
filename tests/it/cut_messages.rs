//! Whatever cuts the connections on which a large message comes: it arrives whole or not at all, and its sender learns
//! how its sending ended.
//!
//! The row `torn` of `torture` does the same with messages of 200 MB.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_transport::{Config, Lane, LargeError, Peer};
use bytes::Bytes;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::support::{large::*, *};

const MS: Duration = Duration::from_millis(1);

/// A little more than the longest frame.
const LEN: usize = 11 << 20;

const CUTS: usize = 100;

#[derive(Default)]
struct Cuts {
    /// After how many bytes the next connections are cut. When none are left, connections live on.
    left: Mutex<Vec<usize>>,
    made: AtomicUsize,
}

/// Forwards connections to `to`, and cuts them.
async fn serve_cutting(listener: TcpListener, to: SocketAddr, cuts: Arc<Cuts>) {
    loop {
        let (from, _) = listener.accept().await.expect("listening");
        let to = TcpStream::connect(to).await.expect("listening");
        let (cut, cuts) = (cuts.left.lock().expect("no panic").pop(), cuts.clone());
        actix::spawn(async move {
            forward(from, to, cut).await;
            if cut.is_some() {
                cuts.made.fetch_add(1, Relaxed);
            }
        });
    }
}

/// Forwards bytes until the connection is cut. Every second cut is a reset, and what is on its way is lost.
async fn forward(mut sender: TcpStream, mut receiver: TcpStream, cut: Option<usize>) {
    let mut left = cut.unwrap_or(usize::MAX);
    {
        let (mut from_sender, mut to_sender) = sender.split();
        let (mut from_receiver, mut to_receiver) = receiver.split();
        let there = async {
            let mut buffer = vec![0; 256 << 10];
            while left > 0 {
                let room = buffer.len().min(left);
                let n = from_sender.read(&mut buffer[..room]).await.unwrap_or(0);
                if n == 0 || to_receiver.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
                left -= n;
            }
        };
        tokio::select! {
            () = there => {}
            _ = copy(&mut from_receiver, &mut to_sender) => {}
        }
    }
    if cut.is_some_and(|cut| cut % 2 == 0) {
        for stream in [sender, receiver] {
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .expect("open");
        }
    }
}

/// A message with this number in front.
fn with_number(base: &Bytes, number: u64) -> Bytes {
    [&number.to_be_bytes()[..], &base[8..]].concat().into()
}

/// How the sending of each message ended.
#[derive(Default)]
struct Ends {
    written: Vec<u64>,
    failed: Vec<u64>,
}

/// Sends one message after the other until all cuts have been made and one more is written.
async fn send(peer: &Peer, base: &Bytes, cuts: &Cuts) -> Ends {
    let mut ends = Ends::default();
    for number in 0.. {
        let is_last = cuts.made.load(Relaxed) == CUTS;
        match peer.send_large(group(1), with_number(base, number)).await {
            Ok(()) if is_last => {
                ends.written.push(number);
                return ends;
            }
            Ok(()) => ends.written.push(number),
            Err(LargeError::Cut) => ends.failed.push(number),
            Err(err) => panic!("message {number}: {err}"),
        }
    }
    ends
}

#[test]
fn of_messages_that_are_cut_at_a_hundred_random_places_none_comes_half_or_twice() {
    let seed = std::env::var("SEED").map_or(14, |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    run(async {
        let mut draw = fastrand::Rng::with_seed(seed);
        let cuts = (0..CUTS).map(|_| draw.usize(..2 * LEN)).collect();
        let cuts = Arc::new(Cuts {
            left: Mutex::new(cuts),
            ..Cuts::default()
        });
        let config = Config::default().redial_first(MS).redial_max(MS);
        let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
        let mut got = serve(&b, [1]);
        let (listener, proxy) = listener();
        actix::spawn(serve_cutting(listener, b.local_addr(), cuts.clone()));
        let peer = a.peer(proxy).expect("usable").lane(Lane::BULK);
        let base = message(LEN);

        let ends = send(&peer, &base, &cuts).await;
        let last = ends.written.last().copied().expect("one was written");
        let mut received = HashSet::new();
        while !received.contains(&last) {
            let payload = got.next().await.payload;
            let number = u64::from_be_bytes(payload[..8].try_into().expect("eight"));
            assert!(
                payload == with_number(&base, number),
                "{number} is not whole"
            );
            assert!(received.insert(number), "{number} came twice");
        }
        let came_and_failed = ends
            .failed
            .iter()
            .filter(|number| received.contains(number));
        assert_eq!(came_and_failed.count(), 0, "of {:?}", ends.failed);
        // What was written and did not come was told as missing: each part is received or missing.
        let inbound = b.stats().inbound;
        let accepted = peer.stats().frames.accepted.frames;
        assert_eq!(inbound.numbered + inbound.missing, accepted);
        assert_eq!(
            inbound.received.frames,
            received.len() as u64 + incomplete(&b)
        );
        assert!(received.len() > 10 && !ends.failed.is_empty());
        println!(
            "{} messages: {} written, {} received, {} failed, {} dropped half",
            ends.written.len() + ends.failed.len(),
            ends.written.len(),
            received.len(),
            ends.failed.len(),
            incomplete(&b),
        );
        end([a, b]).await;
    });
}
