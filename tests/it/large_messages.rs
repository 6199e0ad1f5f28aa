//! Messages that are longer than a frame arrive whole or not at all, and hold back nothing else.

use std::time::Duration;

use actix_transport::{
    Config, DropReason, GroupOverflow, Lane, LaneConfig, LargeError, PeerEvent, SendError,
    Sessions, Shutdown, Transport,
};
use tokio::net::TcpListener;

use crate::support::{large::*, *};

const MS: Duration = Duration::from_millis(1);

/// More than the longest frame.
const LEN: usize = 24 << 20;

#[test]
fn a_message_longer_than_a_frame_arrives_as_one_payload_in_both_directions() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (mut at_a, mut at_b) = (serve(&a, [1]), serve_known(&b, 1));
            let sent = message(LEN);
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::BULK);
            peer.try_send(group(1), "before").expect("room");
            peer.send_large(group(1), sent.clone())
                .await
                .expect("taken");
            peer.send(group(1), "behind").await.expect("room");
            assert_eq!(at_b.next().await.1.payload, &b"before"[..]);
            let (sender, got) = at_b.next().await;
            assert!(got.payload == sent);
            assert_eq!(at_b.next().await.1.payload, &b"behind"[..]);
            let back = sender.expect("introduced").peer().expect("usable");
            let back = back.lane(Lane::BULK);
            back.send_large(group(1), sent.clone())
                .await
                .expect("taken");
            assert!(at_a.next().await.payload == sent);
            let stats = b.stats();
            stats.balance().expect("balances");
            assert_eq!(stats.inbound.received.frames, 3, "a message is one");
            assert_eq!((stats.inbound.missing, incomplete(&b)), (0, 0));
            let parts = LEN as u64 / (64 << 10);
            until("all are counted as written", || {
                peer.stats().frames.written.frames == 2 + parts
            })
            .await;
            end([a, b]).await;
        });
    }
}

#[test]
fn a_short_message_is_one_frame_and_needs_no_sessions() {
    for config in placements() {
        run(async {
            let [a, b] = [node(config.clone()), node(config)];
            let mut got = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("usable");
            for len in [0, 1, 64 << 10] {
                let sent = message(len);
                peer.send_large(group(1), sent.clone()).await.expect("room");
                assert_eq!(got.next().await.payload, sent);
            }
            // The other node may have it before this one has counted it.
            until("all are counted as written", || {
                peer.stats().frames.written.frames == 3
            })
            .await;
            end([a, b]).await;
        });
    }
}

#[test]
fn frames_of_the_same_lane_go_between_the_parts() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let mut got = serve(&b, [1, 2]);
            let peer = a.peer(b.local_addr()).expect("usable");
            let sending = {
                let peer = peer.clone();
                actix::spawn(async move { peer.send_large(group(1), message(LEN)).await })
            };
            until("parts are on their way", || {
                peer.stats().frames.written.frames > 4
            })
            .await;
            peer.try_send(group(2), "urgent").expect("room");
            assert_eq!(got.next().await.group, 2);
            assert!(got.next().await.payload == message(LEN));
            sending.await.expect("no panic").expect("taken");
            end([a, b]).await;
        });
    }
}

#[test]
fn messages_may_be_sent_at_the_same_time() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let mut got = serve(&b, 1..=4);
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::BULK);
            let sending = (1..=4)
                .map(|index| peer.send_large(group(index), message(index as usize * (3 << 20))));
            for sent in futures::future::join_all(sending).await {
                sent.expect("taken");
            }
            for _ in 0..4 {
                let got = got.next().await;
                assert!(got.payload == message(got.group as usize * (3 << 20)));
            }
            end([a, b]).await;
        });
    }
}

/// More than a receiver puts together at the same time on one connection. The others wait for their turn.
#[test]
fn of_many_messages_that_are_sent_at_the_same_time_each_arrives() {
    const MANY: u32 = 40;

    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let mut got = serve(&b, 1..=MANY);
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::BULK);
            let sent = message(2 << 20);
            let sending = (1..=MANY).map(|index| peer.send_large(group(index), sent.clone()));
            for sent in futures::future::join_all(sending).await {
                sent.expect("taken");
            }
            let mut groups = Vec::new();
            for _ in 0..MANY {
                let got = got.next().await;
                assert!(got.payload == sent);
                groups.push(got.group);
            }
            groups.sort_unstable();
            assert!(groups.iter().copied().eq(1..=MANY));
            assert_eq!(incomplete(&b), 0);
            end([a, b]).await;
        });
    }
}

#[test]
fn the_longest_message_is_taken_and_a_longer_one_is_refused_at_once() {
    for config in placements() {
        run(async {
            let a = node_of(config.clone(), 1);
            let b = node_of(config.max_message(1 << 20), 2);
            let mut got = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("usable");
            let longest = message(1 << 20);
            peer.send_large(group(1), longest.clone())
                .await
                .expect("taken");
            assert!(got.next().await.payload == longest);
            until("it is counted", || peer.stats().frames.in_flight.is_zero()).await;
            let written = peer.stats().frames.written;
            let refused = peer.send_large(group(1), message((1 << 20) + 1)).await;
            let refused = refused.expect_err("too long");
            assert!(matches!(
                refused,
                LargeError::TooLarge { max: 0x10_0000, .. }
            ));
            let text = "message of 1048577 bytes is too large: the peer takes 1048576";
            assert_eq!(refused.to_string(), text);
            assert_eq!(peer.stats().frames.written, written, "nothing of it");
            end([a, b]).await;
        });
    }
}

#[test]
fn parts_are_no_longer_than_what_the_lane_of_the_sender_takes() {
    for config in placements() {
        run(async {
            let short = LaneConfig::new().queue_bytes(20 << 10);
            let a = node_of(config.clone().lane(Lane::BULK, short), 1);
            let b = node_of(config, 2);
            let mut got = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::BULK);
            let sent = message(1 << 20);
            peer.send_large(group(1), sent.clone())
                .await
                .expect("taken");
            assert!(got.next().await.payload == sent);
            end([a, b]).await;
        });
    }
}

/// The memory for received frames bounds it, too.
#[test]
fn a_node_takes_no_longer_messages_than_its_memory_allows() {
    run(async {
        let a = node_of(Config::default(), 1);
        let small = Config::default().max_frame(1 << 20).inbound_bytes(4 << 20);
        let b = node_of(small, 2);
        let mut got = serve(&b, [1]);
        let peer = a.peer(b.local_addr()).expect("usable");
        let sent = peer.send_large(group(1), message((2 << 20) + 1)).await;
        assert!(matches!(
            sent,
            Err(LargeError::TooLarge { max: 0x20_0000, .. })
        ));
        peer.send_large(group(1), message(2 << 20))
            .await
            .expect("taken");
        assert!(got.next().await.payload == message(2 << 20));
        end([a, b]).await;
    });
}

#[test]
fn an_end_without_support_is_an_error_at_once() {
    for config in placements() {
        run(async {
            let long = message(1 << 20);
            let without = node(config.clone());
            let b = node_of(config.clone().max_message(0), 2);
            let peer = without.peer(b.local_addr()).expect("usable");
            // A node without sessions does not learn what the other takes.
            let c = node(config.clone());
            let to_c = without.peer(c.local_addr()).expect("usable");
            let refused = to_c.send_large(group(1), long.clone()).await;
            assert!(matches!(refused, Err(LargeError::Unsupported)));
            let a = node_of(config.clone(), 1);
            let to_b = a.peer(b.local_addr()).expect("usable");
            let refused = to_b.send_large(group(1), long.clone()).await;
            assert!(matches!(refused, Err(LargeError::Unsupported)));
            // A PhxPaxos node answers nothing.
            let d = node_of(config.clone().sessions(Sessions::Optional), 4);
            let to_c = d.peer(c.local_addr()).expect("usable");
            let refused = to_c.send_large(group(1), long.clone()).await;
            assert!(matches!(refused, Err(LargeError::Unsupported)));
            drop(peer);
            end([without, a, b, c, d]).await;
        });
    }
}

#[test]
fn a_message_for_which_no_connection_comes_is_given_up_when_a_frame_would_be_stale() {
    for config in placements() {
        run(async {
            let config = config.redial_max(20 * MS).redial_first(10 * MS);
            let a = node_of(config.stale_after(100 * MS), 1);
            let peer = a.peer(Vacant::new().addr()).expect("usable");
            let refused = peer.send_large(group(1), message(LEN)).await;
            assert!(matches!(refused, Err(LargeError::NoConnection)));
            end([a]).await;
        });
    }
}

#[test]
fn whoever_waits_for_a_connection_learns_of_the_end() {
    for config in placements() {
        run(async {
            let a = node_of(
                config
                    .redial_first(Duration::from_secs(60))
                    .redial_max(Duration::from_secs(60)),
                1,
            );
            let (forgotten, stopped) = (Mute::new().await, Mute::new().await);
            let [forgotten, stopped] =
                [forgotten.addr, stopped.addr].map(|to| a.peer(to).expect("usable"));
            let waits = [&forgotten, &stopped].map(|peer| {
                let peer = peer.clone();
                actix::spawn(async move { peer.send_large(group(1), message(LEN)).await })
            });
            until("it dials", || a.stats().links.dials > 0).await;
            forgotten.forget();
            a.stop(Shutdown::Now).await;
            let [forgotten, stopped] = waits;
            let forgotten = forgotten.await.expect("no panic");
            assert!(matches!(
                forgotten,
                Err(LargeError::Refused(SendError::Forgotten { .. }))
            ));
            let stopped = stopped.await.expect("no panic");
            assert!(matches!(
                stopped,
                Err(LargeError::Refused(SendError::Stopped { .. }))
            ));
        });
    }
}

/// A node whose links the test ends.
async fn accept_as_node(listener: &TcpListener) -> Tap {
    let mut tap = Tap::accept(listener).await;
    let (group, _) = tap.frame().await.expect("a Hello");
    assert_eq!(group, RESERVED);
    let mut fields = about(2, 7, "kv", 7000);
    fields.extend([both_ways(), field(14, &(1u64 << 30).to_be_bytes())]);
    tap.write(&control(WELCOME, &fields)).await;
    tap
}

/// Returns the number and the offset of the next part.
async fn next_part(tap: &mut Tap) -> Option<(u64, u64)> {
    loop {
        let (group, payload) = tap.frame().await?;
        if group == RESERVED && payload.starts_with(b"atpm\x01") {
            let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("8"));
            return Some((number(8), number(28)));
        }
    }
}

#[test]
fn when_a_link_ends_in_the_middle_of_a_message_it_is_sent_again_from_its_beginning() {
    for config in placements() {
        run(async {
            let config = config.redial_first(MS).redial_max(MS);
            let a = node_of(config, 1);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("usable");
            let sending = {
                let peer = peer.clone();
                actix::spawn(async move { peer.send_large(group(1), message(LEN)).await })
            };
            let mut numbers = Vec::new();
            for _ in 0..2 {
                let mut tap = accept_as_node(&listener).await;
                let (number, first) = next_part(&mut tap).await.expect("the link lives");
                assert_eq!(first, 0, "nothing of the former try");
                assert!(!numbers.contains(&number));
                for at in 1..100 {
                    assert_eq!(next_part(&mut tap).await, Some((number, at << 16)));
                }
                numbers.push(number);
                tap.reset();
            }
            let mut tap = accept_as_node(&listener).await;
            let last = (LEN as u64) - (64 << 10);
            for expected in (0..=last).step_by(64 << 10) {
                let (number, offset) = next_part(&mut tap).await.expect("the link lives");
                assert!(!numbers.contains(&number));
                assert_eq!(offset, expected);
            }
            sending
                .await
                .expect("no panic")
                .expect("written at the third try");
            end([a]).await;
        });
    }
}

#[test]
fn a_message_is_given_up_when_three_links_have_ended_in_the_middle_of_it() {
    for config in placements() {
        run(async {
            let a = node_of(config.redial_first(MS).redial_max(MS), 1);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("usable");
            let sending =
                actix::spawn(async move { peer.send_large(group(1), message(LEN)).await });
            let serving = async {
                loop {
                    let mut tap = accept_as_node(&listener).await;
                    while !matches!(next_part(&mut tap).await, Some((_, 0))) {}
                    tap.buffer_bytes(4 << 20).await;
                    tap.reset();
                }
            };
            let sent = tokio::select! {
                sent = sending => sent.expect("no panic"),
                () = serving => unreachable!("it is endless"),
            };
            assert!(matches!(sent, Err(LargeError::Cut)), "{sent:?}");
            a.stats().balance().expect("balances");
            end([a]).await;
        });
    }
}

#[test]
fn a_cancelled_message_is_dropped_by_the_receiver_at_once() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (mut got, mut events) = (serve(&b, [1]), watch(&b));
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::BULK);
            let some = || peer.stats().frames.written.frames > 10;
            tokio::select! {
                biased;
                _ = peer.send_large(group(1), message(150 << 20)) => panic!("it is long"),
                () = until("some parts are written", some) => {}
            }
            let dropped = |event: &PeerEvent| {
                matches!(
                    event,
                    PeerEvent::Dropped {
                        reason: DropReason::Incomplete,
                        ..
                    }
                )
            };
            events.until(dropped).await;
            assert_eq!(incomplete(&b), 1);
            peer.send_large(group(1), message(1 << 20))
                .await
                .expect("taken");
            assert!(got.next().await.payload == message(1 << 20));
            let stats = b.stats();
            stats.balance().expect("balances");
            assert_eq!(
                (stats.inbound.received.frames, stats.inbound.missing),
                (2, 0)
            );
            end([a, b]).await;
        });
    }
}

#[test]
fn a_part_that_goes_stale_ends_the_message() {
    for config in placements() {
        run(async {
            let a = node_of(config.stale_after(100 * MS), 1);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("usable");
            let sending =
                actix::spawn(async move { peer.send_large(group(1), message(LEN)).await });
            // It reads nothing more.
            let tap = accept_as_node(&listener).await;
            let sent = sending.await.expect("no panic");
            assert!(matches!(sent, Err(LargeError::Dropped)), "{sent:?}");
            drop(tap);
            end([a]).await;
        });
    }
}

/// Whoever waits for a connection does not make the peer be dialled more often.
#[test]
fn a_peer_that_refuses_connections_is_dialled_as_seldom_as_for_a_frame() {
    for config in placements() {
        run(async {
            let slow = Duration::from_secs(60);
            let config = config.redial_first(slow).redial_max(slow);
            let a = node_of(config.stale_after(Duration::from_secs(3600)), 1);
            let peer = a.peer(Vacant::new().addr()).expect("usable");
            let sending = actix::spawn({
                let peer = peer.clone();
                async move { peer.send_large(group(1), message(LEN)).await }
            });
            until("it was dialled", || a.stats().links.dials >= 1).await;
            tokio::time::sleep(100 * MS).await;
            // The wait is drawn between zero and its bound.
            assert!(a.stats().links.dials <= 3, "{}", a.stats().links.dials);
            peer.forget();
            sending.await.expect("no panic").expect_err("forgotten");
            end([a]).await;
        });
    }
}

#[test]
fn a_node_that_listens_nowhere_gets_no_message_on_a_lane_that_it_did_not_open() {
    for config in placements() {
        run(async {
            let config = config.stale_after(100 * MS);
            let a = Transport::builder()
                .config(config.clone())
                .identity(identity(1));
            let a = a.connect_only().expect("starts");
            let b = node_of(config, 2);
            let (mut at_b, mut at_a) = (serve_known(&b, 1), serve(&a, [1]));
            let peer = a.peer(b.local_addr()).expect("usable");
            peer.try_send(group(1), "hello").expect("room");
            let (sender, _) = at_b.next().await;
            let back = sender.expect("introduced").peer().expect("usable");
            back.send_large(group(1), message(1 << 20))
                .await
                .expect("taken");
            assert!(at_a.next().await.payload == message(1 << 20));
            let other = back.lane(Lane::new(3).expect("below eight"));
            let refused = other.send_large(group(1), message(1 << 20)).await;
            assert!(
                matches!(refused, Err(LargeError::NoConnection)),
                "{refused:?}"
            );
            end([a, b]).await;
        });
    }
}

#[test]
fn on_a_lane_whose_oldest_frames_make_room_a_message_does_not_push_out_itself() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let mut got = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("usable").lane(Lane::CONTROL);
            peer.send_large(group(1), message(LEN))
                .await
                .expect("taken");
            assert!(got.next().await.payload == message(LEN));
            end([a, b]).await;
        });
    }
}

#[test]
fn parts_are_no_longer_than_what_either_end_takes() {
    for config in placements() {
        run(async {
            for (at_a, at_b) in [(8 << 10, 1 << 20), (1 << 20, 8 << 10)] {
                let [a, b] = [(1, at_a), (2, at_b)]
                    .map(|(node, max)| node_of(config.clone().max_frame(max), node));
                let mut got = serve(&b, [1]);
                let peer = a.peer(b.local_addr()).expect("usable");
                peer.send_large(group(1), message(1 << 20))
                    .await
                    .expect("taken");
                assert!(got.next().await.payload == message(1 << 20));
                end([a, b]).await;
            }
        });
    }
}

#[test]
fn what_came_of_a_message_is_counted_whatever_ends_its_connection() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let mut raw = begun(&b).await;
            write(&mut raw.0, &part(1, 1, 9, 0, b"abcd")).await;
            until("it came", || b.stats().inbound.numbered == 1).await;
            b.stop(Shutdown::Now).await;
            until("it is counted", || incomplete(&b) == 1).await;
            b.stats().balance().expect("balances");
        });
    }
}

// ---- what a stranger may send ------------------------------------------------------------------

#[test]
fn parts_that_do_not_make_a_message_are_dropped_with_a_reason_and_counted_and_the_rest_comes() {
    let cases: [(&str, Vec<Vec<u8>>, u64); 8] = [
        (
            "a hole",
            vec![part(1, 1, 9, 0, b"abc"), part(1, 1, 9, 4, b"efghi")],
            1,
        ),
        (
            "back",
            vec![part(1, 1, 9, 0, b"abc"), part(1, 1, 9, 2, b"cdefghi")],
            1,
        ),
        (
            "another total",
            vec![part(1, 1, 9, 0, b"abc"), part(1, 1, 4, 3, b"d")],
            1,
        ),
        (
            "beyond its end",
            vec![part(1, 1, 4, 0, b"abc"), part(1, 1, 4, 3, b"de")],
            1,
        ),
        ("without a beginning", vec![part(1, 1, 9, 4, b"efghi")], 0),
        ("far too long", vec![part(1, 1, 1 << 63, 0, b"abc")], 1),
        (
            "to the reserved group",
            vec![part(1, RESERVED, 3, 0, b"abc")],
            1,
        ),
        ("of another kind", vec![wire(RESERVED, b"atpm\x09")], 0),
    ];
    for config in placements() {
        for (what, frames, dropped) in &cases {
            run(async {
                let b = node_of(config.clone(), 2);
                let mut got = serve(&b, [1]);
                let mut raw = begun(&b).await;
                write(&mut raw.0, &frames.concat()).await;
                write(&mut raw.0, &part(7, 1, 5, 0, b"whole")).await;
                assert_eq!(got.next().await.payload, &b"whole"[..], "{what}");
                write(&mut raw.0, &wire(1, b"frame")).await;
                assert_eq!(got.next().await.payload, &b"frame"[..], "{what}");
                assert_eq!(incomplete(&b), *dropped, "{what}");
                let stats = b.stats();
                stats.balance().expect("balances");
                // Each part has a number, as each frame.
                assert_eq!(stats.inbound.numbered, frames.len() as u64 + 2, "{what}");
                end([b]).await;
            });
        }
    }
}

#[test]
fn a_message_that_never_completes_is_dropped_after_a_while_and_its_connection_goes_on() {
    for config in placements() {
        run(async {
            let b = node_of(config.frame_timeout(100 * MS), 2);
            let mut got = serve(&b, [1]);
            let mut raw = begun(&b).await;
            write(&mut raw.0, &part(1, 1, 1 << 20, 0, &[1; 100_000])).await;
            until("it was dropped", || incomplete(&b) == 1).await;
            let dropped = b.stats().inbound.dropped.incomplete;
            assert_eq!(dropped.bytes, 100_008, "as much as came");
            write(&mut raw.0, &wire(1, b"frame")).await;
            assert_eq!(got.next().await.payload, &b"frame"[..]);
            end([b]).await;
        });
    }
}

/// As long as handlers are busy, the connection is not read, and the sender is not at fault.
#[test]
fn the_time_that_handlers_take_is_not_counted_against_half_a_message() {
    for config in placements() {
        run(async {
            let b = node_of(config.frame_timeout(1000 * MS), 2);
            let (gate, _held) = hold(&b, 2, GroupOverflow::Wait);
            let mut got = serve(&b, [1]);
            let mut raw = begun(&b).await;
            write(&mut raw.0, &part(1, 1, 9, 0, b"abcd")).await;
            write(&mut raw.0, &wire(2, b"frame")).await;
            until("it is held", || gate.came() == 1).await;
            tokio::time::sleep(1100 * MS).await;
            gate.open();
            until("it was handled", || b.stats().inbound.delivered.frames == 1).await;
            // Less than what a part may take.
            tokio::time::sleep(50 * MS).await;
            write(&mut raw.0, &part(1, 1, 9, 4, b"efghi")).await;
            assert_eq!(got.next().await.payload, &b"abcdefghi"[..]);
            assert_eq!(incomplete(&b), 0);
            end([b]).await;
        });
    }
}

#[test]
fn the_parts_of_a_message_come_on_one_link() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let mut got = serve(&b, [1]);
            let mut first = begun(&b).await;
            write(&mut first.0, &part(1, 1, 9, 0, b"abcd")).await;
            write(&mut first.0, &wire(1, b"0")).await;
            got.next().await;
            let mut second = Raw::welcomed(&b, 1, 4).await;
            let frames = [start_at(0, 2), part(1, 1, 9, 4, b"efghi"), wire(1, b"1")];
            write(&mut second.0, &frames.concat()).await;
            drop(first);
            assert_eq!(got.next().await.payload, &b"1"[..], "and no message");
            until("the half is dropped", || incomplete(&b) == 1).await;
            b.stats().balance().expect("balances");
            end([b]).await;
        });
    }
}

#[test]
fn of_a_thousand_messages_at_once_sixteen_are_kept() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let mut got = serve(&b, [1]);
            let mut raw = begun(&b).await;
            for number in 0..1000 {
                write(&mut raw.0, &part(number, 1, 9, 0, b"abcd")).await;
            }
            for number in 0..1000 {
                write(&mut raw.0, &part(number, 1, 9, 4, b"efghi")).await;
            }
            for _ in 0..16 {
                assert_eq!(got.next().await.payload, &b"abcdefghi"[..]);
            }
            until("the others are dropped", || incomplete(&b) == 984).await;
            write(&mut raw.0, &wire(1, b"frame")).await;
            assert_eq!(got.next().await.payload, &b"frame"[..]);
            b.stats().balance().expect("balances");
            end([b]).await;
        });
    }
}

#[test]
fn a_part_before_the_start_of_the_frames_ends_the_connection() {
    for config in placements() {
        run(async {
            let b = node_of(config, 2);
            let mut raw = Raw::welcomed(&b, 1, 4).await;
            write(&mut raw.0, &part(1, 1, 3, 0, b"abc")).await;
            expect_close(raw.0).await;
            assert_eq!(b.stats().links.bad_handshakes, 1);
            end([b]).await;
        });
    }
}

/// The memory of half a message is given up for frames that are complete sooner.
#[test]
fn half_messages_take_no_memory_from_others_for_long() {
    for config in placements() {
        run(async {
            let small = config.max_frame(1 << 20).inbound_bytes(4 << 20);
            let b = node_of(small, 2);
            let (gate, _held) = hold(&b, 2, GroupOverflow::Wait);
            gate.open();
            let mut got = serve(&b, [1]);
            let mut raw = begun(&b).await;
            // Each part is a frame, and shorter than the longest.
            for at in 0..5 {
                let bytes = vec![1; 512 << 10];
                write(&mut raw.0, &part(1, 1, 3 << 20, at * (512 << 10), &bytes)).await;
            }
            let mut others = Vec::new();
            for node in 3..6 {
                let mut raw = Raw::welcomed(&b, node, 4).await;
                write(&mut raw.0, &start_at(0, 0)).await;
                write(&mut raw.0, &part(1, 1, 1 << 20, 0, &vec![1; 700 << 10])).await;
                others.push(raw);
            }
            until("the largest is given up", || incomplete(&b) >= 1).await;
            write(&mut raw.0, &wire(1, b"frame")).await;
            assert_eq!(got.next().await.payload, &b"frame"[..]);
            drop(others);
            until("nothing is left", || incomplete(&b) >= 4).await;
            b.stats().balance().expect("balances");
            end([b]).await;
        });
    }
}
