//! The messages of one node that are not whole are together no longer than the longest message, over all its connections.

use std::time::Duration;

use actix_transport::{Config, DropReason, Lane, PeerEvent, Transport};
use tokio::time::sleep;

use crate::support::{large::*, *};

const MS: Duration = Duration::from_millis(1);

const KIB: usize = 1 << 10;

/// The longest message.
const LONGEST: usize = 1 << 20;

/// Two of these are longer.
const TOTAL: usize = 640 * KIB;

const HALF: usize = 512 * KIB;

/// Bytes of a part.
const PART: usize = 64 * KIB;

fn small(config: Config) -> Config {
    config.max_message(LONGEST)
}

/// A connection of this node on this lane, with a queue of its own.
async fn connection(b: &Transport, node: u64, lane: u8) -> Raw {
    let mut fields = about(node, 4, "kv", 7000);
    fields.push(field(11, &[lane]));
    let mut raw = Raw::saying(b, &control(HELLO, &fields)).await;
    raw.read_control(WELCOME).await;
    write(&mut raw.0, &start_at(lane.into(), 0)).await;
    raw
}

/// The parts of a message from one offset to another.
fn parts(total: usize, from: usize, to: usize) -> Vec<u8> {
    let bytes = message(total);
    let parts = (from..to).step_by(PART);
    let parts = parts.map(|at| part(1, 1, total as u64, at as u64, &bytes[at..to.min(at + PART)]));
    parts.collect::<Vec<_>>().concat()
}

/// Waits until this many parts have been read.
async fn until_read(b: &Transport, bytes: usize) {
    let parts = (bytes / PART) as u64;
    until("they have been read", || {
        b.stats().inbound.numbered >= parts
    })
    .await;
}

#[test]
fn a_message_for_which_its_node_has_no_room_waits_until_those_before_are_whole() {
    for config in placements() {
        run(async {
            let b = node_of(small(config), 2);
            let mut got = serve(&b, [1]);
            let mut first = connection(&b, 1, 0).await;
            write(&mut first.0, &parts(TOTAL, 0, HALF)).await;
            until_read(&b, HALF).await;
            let mut others = Vec::new();
            for lane in 1..8 {
                let mut raw = connection(&b, 1, lane).await;
                write(&mut raw.0, &parts(TOTAL, 0, PART)).await;
                others.push(raw);
            }
            // Another node has as much for itself.
            let mut other = connection(&b, 3, 0).await;
            write(&mut other.0, &parts(TOTAL, 0, TOTAL)).await;
            assert!(got.next().await.payload == message(TOTAL));
            sleep(50 * MS).await;
            let read = b.stats().inbound.numbered as usize * PART;
            assert_eq!(read, HALF + TOTAL, "none of those that wait");
            write(&mut first.0, &parts(TOTAL, HALF, TOTAL)).await;
            assert!(got.next().await.payload == message(TOTAL));
            for raw in &mut others {
                write(&mut raw.0, &parts(TOTAL, PART, TOTAL)).await;
                assert!(got.next().await.payload == message(TOTAL));
            }
            assert_eq!(incomplete(&b), 0);
            end([b]).await;
        });
    }
}

#[test]
fn of_half_messages_that_a_node_leaves_on_many_connections_each_is_dropped_in_time() {
    for config in placements() {
        run(async {
            let b = node_of(small(config).frame_timeout(100 * MS), 2);
            let (mut got, mut events) = (serve(&b, [1]), watch(&b));
            let mut halves = Vec::new();
            for lane in 0..8 {
                let mut raw = connection(&b, 1, lane).await;
                write(&mut raw.0, &parts(TOTAL, 0, PART)).await;
                halves.push(raw);
            }
            let dropped = |event: &PeerEvent| {
                let reason = DropReason::Incomplete;
                matches!(event, PeerEvent::Dropped { reason: of, .. } if *of == reason)
            };
            events.until(dropped).await;
            until("all are dropped", || incomplete(&b) == 8).await;
            // The connections go on, and so do messages.
            for raw in &mut halves {
                write(&mut raw.0, &wire(1, b"frame")).await;
                assert_eq!(got.next().await.payload, &b"frame"[..]);
            }
            let last = part(2, 1, 5, 0, b"whole");
            write(&mut halves[3].0, &last).await;
            assert_eq!(got.next().await.payload, &b"whole"[..]);
            end([b]).await;
        });
    }
}

/// Otherwise two connections could wait for each other.
#[test]
fn a_connection_that_waits_for_room_has_dropped_its_other_messages() {
    for config in placements() {
        run(async {
            let b = node_of(small(config), 2);
            let mut got = serve(&b, [1]);
            let short = 300 * KIB;
            let mut first = connection(&b, 1, 0).await;
            let mut second = connection(&b, 1, 1).await;
            for raw in [&mut first, &mut second] {
                write(&mut raw.0, &part(7, 1, short as u64, 0, b"abandoned")).await;
            }
            until("both came", || b.stats().inbound.numbered == 2).await;
            for raw in [&mut first, &mut second] {
                write(&mut raw.0, &parts(TOTAL, 0, TOTAL)).await;
            }
            for _ in 0..2 {
                assert!(got.next().await.payload == message(TOTAL));
            }
            drop((first, second));
            until("the others are dropped", || incomplete(&b) == 2).await;
            end([b]).await;
        });
    }
}

#[test]
fn what_a_whole_message_took_is_free_although_another_one_of_its_connection_is_not_whole() {
    for config in placements() {
        run(async {
            let b = node_of(small(config), 2);
            let mut got = serve(&b, [1]);
            let mut first = connection(&b, 1, 0).await;
            write(&mut first.0, &part(7, 1, 300 << 10, 0, b"half")).await;
            write(&mut first.0, &parts(TOTAL, 0, TOTAL)).await;
            assert!(got.next().await.payload == message(TOTAL));
            let mut second = connection(&b, 1, 1).await;
            write(&mut second.0, &parts(TOTAL, 0, TOTAL)).await;
            assert!(got.next().await.payload == message(TOTAL));
            assert_eq!(incomplete(&b), 0);
            end([b]).await;
        });
    }
}

#[test]
fn a_message_that_was_dropped_for_a_newer_one_takes_no_room_from_other_connections() {
    for config in placements() {
        run(async {
            let b = node_of(small(config), 2);
            let mut got = serve(&b, [1]);
            let mut first = connection(&b, 1, 0).await;
            for (number, total) in [(7, LONGEST), (8, 300 * KIB)] {
                write(&mut first.0, &part(number, 1, total as u64, 0, b"half")).await;
            }
            until("the first one was dropped", || incomplete(&b) == 1).await;
            let mut second = connection(&b, 1, 1).await;
            write(&mut second.0, &parts(TOTAL, 0, TOTAL)).await;
            assert!(got.next().await.payload == message(TOTAL));
            assert_eq!(incomplete(&b), 1);
            end([b]).await;
        });
    }
}

#[test]
fn messages_that_a_node_sends_on_many_lanes_at_once_all_arrive() {
    const EACH: u64 = 10;

    for config in placements() {
        run(async {
            let [a, b] = [(1, config.clone()), (2, small(config))].map(|(n, of)| node_of(of, n));
            let mut got = serve(&b, 0..8);
            let sent = message(700 * KIB);
            // On the control lane, parts go stale early.
            let lanes = Lane::all().filter(|lane| *lane != Lane::CONTROL);
            let sending = lanes.map(|lane| {
                let peer = a.peer(b.local_addr()).expect("usable").lane(lane);
                let (to, sent) = (group(lane.get().into()), sent.clone());
                async move {
                    for _ in 0..EACH {
                        peer.send_large(to, sent.clone()).await.expect("written");
                    }
                }
            });
            futures::future::join_all(sending).await;
            for _ in 0..7 * EACH {
                assert!(got.next().await.payload == sent);
            }
            assert_eq!((incomplete(&b), b.stats().inbound.missing), (0, 0));
            end([a, b]).await;
        });
    }
}
