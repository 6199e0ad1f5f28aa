//! The way of a frame from `send` on one node to the group's actor on another.

use std::net::SocketAddr;

use actix_transport::{Config, GroupId, Payload, Peer, Shutdown, Transport, Via};
use bytes::{Bytes, BytesMut};

use crate::support::*;

#[test]
fn a_frame_reaches_the_actor_of_its_group() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [3]);
            a.try_send(b.local_addr(), group(3), "hello").expect("room");
            let got = seen.next().await;
            assert_eq!(
                (got.group, &got.payload[..], got.via),
                (3, &b"hello"[..], Via::Tcp)
            );
            until("delivered", || b.stats().inbound.delivered.frames == 1).await;
            balanced([&a, &b]);
            a.stop(Shutdown::Now).await;
            b.stop(Shutdown::Now).await;
        });
    }
}

/// The length of the frame with this number: mostly small, now and then too long to be copied, and
/// some just below and above the border between the two.
fn length(number: u32) -> usize {
    match number % 1000 {
        999 => 100_000,
        500..520 => 8190 + number as usize % 5,
        250 => 65_536,
        _ => 4 + number as usize % 300,
    }
}

#[test]
fn frames_of_one_sender_arrive_whole_once_and_in_order() {
    const FRAMES: u32 = 100_000;

    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("room");
            let sender = std::thread::spawn(move || {
                for number in 0..FRAMES {
                    push(&peer, 1, &numbered(number, length(number)));
                }
            });
            for expected in 0..FRAMES {
                let payload = seen.next().await.payload;
                assert_eq!(
                    (number(&payload), payload.len()),
                    (expected, length(expected))
                );
            }
            sender.join().expect("all sent");
            all_arrived(&a, &b, FRAMES.into()).await;
            assert!(seen.try_next().is_none(), "a frame came twice");
        });
    }
}

#[test]
fn the_frames_of_each_of_many_threads_arrive_in_order() {
    const THREADS: u32 = 8;
    const FRAMES: u32 = 10_000;

    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            // All threads share one link, although their groups differ.
            let mut seen = serve(&b, 0..THREADS);
            let senders: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let peer = a.peer(b.local_addr()).expect("room");
                    std::thread::spawn(move || {
                        for number in 0..FRAMES {
                            push(&peer, thread, &numbered(number, length(number)));
                        }
                    })
                })
                .collect();
            let mut next = [0; THREADS as usize];
            for _ in 0..THREADS * FRAMES {
                let got = seen.next().await;
                let next = &mut next[got.group as usize];
                assert_eq!(number(&got.payload), *next, "thread {}", got.group);
                *next += 1;
            }
            for sender in senders {
                sender.join().expect("all sent");
            }
            all_arrived(&a, &b, (THREADS * FRAMES).into()).await;
            assert_eq!(b.stats().links.accepted, 1);
        });
    }
}

/// Sends from a thread without a runtime: tries until there is room.
fn push(peer: &Peer, to: u32, payload: &[u8]) {
    while let Err(err) = peer.try_send(group(to), payload) {
        assert!(err.is_full(), "{err}");
        std::thread::yield_now();
    }
}

async fn all_arrived(from: &Transport, at: &Transport, frames: u64) {
    until("delivered", || {
        at.stats().inbound.delivered.frames == frames
    })
    .await;
    // The receiver may have a frame before the writer has counted the write that sent it.
    until("written", || {
        let sent = from.stats().tcp;
        sent.written == sent.accepted
    })
    .await;
    balanced([from, at]);
    let (sent, received) = (from.stats().tcp, at.stats().inbound);
    assert_eq!(received.delivered, sent.written);
    from.stop(Shutdown::Now).await;
    at.stop(Shutdown::Now).await;
}

#[test]
fn payloads_of_a_megabyte_and_more_arrive_whole_among_small_ones() {
    for config in placements() {
        run(async {
            let config = config.max_frame(32 << 20);
            let (a, b) = (node(config.clone()), node(config.clone()));
            let mut seen = serve(&b, [1]);
            let longest = config.max_frame - 8;
            let lengths = [5, 1 << 20, 0, (1 << 20) + 1, 9 << 20, 7, longest, 3];
            let to = b.local_addr();
            for (index, len) in lengths.into_iter().enumerate() {
                let payload = vec![index as u8; len];
                a.send(to, group(1), payload).await.expect("runs");
            }
            for (index, len) in lengths.into_iter().enumerate() {
                let payload = seen.next().await.payload;
                assert_eq!(payload.len(), len);
                assert!(payload.iter().all(|byte| *byte == index as u8), "garbled");
            }
            all_arrived(&a, &b, lengths.len() as u64).await;
        });
    }
}

#[test]
fn every_type_of_payload_arrives_and_comes_back_when_it_is_refused() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        // A payload that is copied into the queue, and one that is kept as it is.
        for len in [5, 10_000] {
            for expected in send_every_type(&a, b.local_addr(), len) {
                assert_eq!(seen.next().await.payload, expected);
            }
        }
        end([a, b]).await;
    });
}

/// Sends one text of `len` bytes for each type of payload, and returns the texts.
fn send_every_type(from: &Transport, to: SocketAddr, len: usize) -> Vec<String> {
    fn send<P: Payload + AsRef<[u8]> + Clone>(from: &Transport, to: SocketAddr, payload: P) {
        let refused = from.try_send(to, GroupId::RESERVED, payload.clone());
        let back = refused.expect_err("reserved").into_payload();
        assert_eq!(back.as_ref(), payload.as_ref());
        from.try_send(to, group(1), payload).expect("room");
    }
    let texts: Vec<_> = ('a'..='k').map(|c| c.to_string().repeat(len)).collect();
    let mut next = texts.iter();
    let mut text = || next.next().expect("one for each type").as_str();
    send(from, to, Bytes::from(text().to_owned()));
    send(from, to, &Bytes::from(text().to_owned()));
    send(from, to, BytesMut::from(text()));
    send(from, to, text().as_bytes().to_vec());
    send(from, to, &text().as_bytes().to_vec());
    send(from, to, Box::<[u8]>::from(text().as_bytes()));
    send(from, to, text().to_owned());
    send(from, to, text());
    send(from, to, text().as_bytes());
    let text = (text(), text());
    match len {
        5 => {
            send(from, to, array::<5>(text.0));
            send(from, to, &array::<5>(text.1));
        }
        _ => {
            send(from, to, array::<10_000>(text.0));
            send(from, to, &array::<10_000>(text.1));
        }
    }
    texts
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    text.as_bytes().try_into().expect("as long")
}

#[test]
fn a_send_can_be_awaited_on_another_runtime() {
    const FRAMES: u32 = 1_000;

    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone().queue_frames(8)), node(config));
            let mut seen = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("room");
            // The sender has no actix system, and its thread is not the transport's. The queue is
            // so short that sends must wait, and are woken from the transport's threads.
            let sender = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.expect("a runtime").block_on(async {
                    for number in 0..FRAMES {
                        let sent = peer.send(group(1), numbered(number, 100)).await;
                        assert!(sent.is_ok(), "refused");
                    }
                });
            });
            for expected in 0..FRAMES {
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            sender.join().expect("all sent");
            all_arrived(&a, &b, FRAMES.into()).await;
        });
    }
}

#[test]
fn a_node_reaches_itself_and_two_nodes_reach_each_other() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let (mut at_a, mut at_b) = (serve(&a, [1]), serve(&b, [1]));
            a.try_send(a.local_addr(), group(1), "to myself")
                .expect("room");
            assert_eq!(at_a.next().await.payload, "to myself");
            a.try_send(b.local_addr(), group(1), "there").expect("room");
            assert_eq!(at_b.next().await.payload, "there");
            b.try_send(a.local_addr(), group(1), "and back")
                .expect("room");
            assert_eq!(at_a.next().await.payload, "and back");
            a.stop(Shutdown::Now).await;
            b.stop(Shutdown::Now).await;
            balanced([&a, &b]);
        });
    }
}
