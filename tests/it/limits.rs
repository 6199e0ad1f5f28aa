//! Which sends and peers are refused, what the errors say, and where refusals are counted.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, PeerError, SendError, Shutdown};
use futures::FutureExt;

use crate::support::*;

/// An address that this test does not need to reach.
fn some_peer(port: u16) -> SocketAddr {
    // A loopback ip of its own, so that no listener on 127.0.0.1 is reached.
    ([127, 9, 9, 9], port).into()
}

#[test]
fn the_longest_frame_is_accepted_and_one_byte_more_is_refused() {
    for config in placements() {
        run(async {
            let config = config.max_frame(1000);
            let (a, b) = (node(config.clone()), node(config));
            let (mut seen, to) = (serve(&b, [1]), b.local_addr());
            let peer = a.peer(to).expect("room");
            let (longest, too_long) = (vec![1; 992], vec![2; 993]);
            let refusals = [
                a.try_send(to, group(1), too_long.clone()),
                a.send(to, group(1), too_long.clone()).await,
                peer.try_send(group(1), too_long.clone()),
                peer.send(group(1), too_long.clone()).await,
            ];
            for refused in refusals {
                let Err(SendError::TooLarge { len, max, payload }) = refused else {
                    panic!("taken, or refused for something else");
                };
                assert_eq!((len, max, payload), (993, 992, too_long.clone()));
            }
            a.try_send(to, group(1), longest.clone()).expect("room");
            assert_eq!(seen.next().await.payload, longest);

            let sent = a.stats().tcp;
            assert_eq!(sent.rejected.too_large.frames, 4);
            assert_eq!(sent.rejected.too_large.bytes, 4 * 1001);
            assert_eq!((sent.offered.frames, sent.accepted.frames), (5, 1));
            end([a, b]).await;
        });
    }
}

#[test]
fn an_error_message_names_the_limit() {
    run(async {
        let a = node(
            Config::default()
                .max_frame(64)
                .queue_bytes(64)
                .queue_frames(1)
                .max_peers(1),
        );
        let away = Vacant::new();
        let _held = a.peer(away.addr()).expect("room");
        let said = |sent: Result<(), SendError<Vec<u8>>>| sent.expect_err("refused").to_string();
        let long = said(a.try_send(away.addr(), group(1), vec![0; 57]));
        assert_eq!(long, "payload of 57 bytes is too large: the limit is 56");
        a.try_send(away.addr(), group(1), "").expect("room");
        let full = said(a.try_send(away.addr(), group(1), vec![]));
        assert_eq!(full, "send queue is full: no room for more frames");
        let many = said(a.try_send(some_peer(1), group(1), vec![]));
        assert!(many.contains('1') && many.contains("peer"), "{many}");
        let err = a.peer(some_peer(1)).expect_err("one too many");
        assert_eq!(err.to_string(), "too many peers: the limit is 1");
        end([a]).await;
    });
}

#[test]
fn one_peer_too_many_is_refused_while_known_peers_are_served() {
    for config in placements() {
        run(async {
            let a = node(config.clone().max_peers(3));
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let known: Vec<_> = (1..=2).map(|port| a.peer(some_peer(port))).collect();
            a.try_send(b.local_addr(), group(1), "third").expect("room");
            assert_eq!(seen.next().await.payload, "third");

            assert_eq!(
                a.peer(some_peer(3)).expect_err("a fourth"),
                PeerError::TooMany { max: 3 }
            );
            let refusals = [
                a.try_send(some_peer(3), group(1), "fourth"),
                a.send(some_peer(3), group(1), "fourth").await,
            ];
            for refused in refusals {
                let Err(SendError::TooManyPeers { max: 3, payload }) = refused else {
                    panic!("taken, or refused for something else");
                };
                assert_eq!(payload, "fourth");
            }
            assert!(a.peer_stats(some_peer(3)).is_none());
            assert_eq!(a.stats().links.peers, 3);
            assert_eq!(a.stats().tcp.rejected.invalid.frames, 2);

            a.try_send(b.local_addr(), group(1), "again").expect("room");
            assert_eq!(seen.next().await.payload, "again");
            assert!(known.iter().all(Result::is_ok));
            end([a, b]).await;
        });
    }
}

#[test]
fn a_peer_that_is_forgotten_makes_room_for_another() {
    for config in placements() {
        run(async {
            let a = node(config.max_peers(1).idle_timeout(Duration::from_millis(10)));
            let first = a.peer(some_peer(1)).expect("room");
            assert_eq!(
                a.peer(some_peer(2)).expect_err("a second"),
                PeerError::TooMany { max: 1 }
            );
            drop(first);
            until("room", || a.peer(some_peer(2)).is_ok()).await;
            end([a]).await;
        });
    }
}

#[test]
fn no_more_than_max_dials_peers_are_dialled_at_the_same_time() {
    // Shorter than the 50 ms after which a dial without an answer would make room for others.
    const DIAL: Duration = Duration::from_millis(40);
    const AT_ONCE: u64 = 2;

    for config in placements() {
        run(async {
            let config = config
                .max_dials(AT_ONCE as usize)
                .connect_timeout(DIAL)
                .redial_first(Duration::from_millis(1))
                .redial_max(Duration::from_millis(1));
            let a = node(config);
            let mut mute = Vec::new();
            for _ in 0..6 {
                mute.push(Mute::new().await);
            }
            let began = Instant::now();
            for peer in &mute {
                a.try_send(peer.addr, group(1), "anybody there?")
                    .expect("room");
            }
            // Every dial takes the full timeout. So at any time at most two dials have begun, and
            // two more for each timeout that has passed.
            let mut dials = 0;
            until("all were dialled", || {
                dials = a.stats().links.dials;
                let ends = began.elapsed().as_millis() / DIAL.as_millis();
                let most = AT_ONCE * (ends as u64 + 1);
                assert!(dials <= most, "{dials} dials in {:?}", began.elapsed());
                dials >= 8
            })
            .await;
            assert_eq!(a.stats().links.connects, 0);
            end([a]).await;
        });
    }
}

#[test]
fn a_dial_without_an_answer_delays_others_only_until_it_times_out() {
    for config in placements() {
        run(async {
            let config = config
                .max_dials(1)
                .connect_timeout(Duration::from_millis(50));
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let mute = Mute::new().await;
            a.try_send(mute.addr, group(1), "anybody there?")
                .expect("room");
            until("dialled", || a.stats().links.dials > 0).await;
            a.try_send(b.local_addr(), group(1), "hello").expect("room");
            assert_eq!(seen.next().await.payload, "hello");
            end([a, b]).await;
        });
    }
}

#[test]
fn frames_to_unusable_addresses_or_the_reserved_group_are_refused_and_counted() {
    run(async {
        let a = node(Config::default());
        let nowhere = [
            "127.0.0.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
        ];
        for (index, addr) in nowhere.into_iter().enumerate() {
            let to: SocketAddr = addr.parse().expect("address");
            assert_eq!(a.peer(to).expect_err(addr), PeerError::Address(to));
            let refused = a.try_send(to, group(1), "x").expect_err(addr);
            let SendError::Address { addr, payload: "x" } = refused else {
                panic!("{refused}");
            };
            assert_eq!(addr, to);
            let refused = a.send(to, group(1), "x").await;
            assert!(matches!(refused, Err(SendError::Address { .. })));
            assert_eq!(
                a.stats().tcp.rejected.invalid.frames,
                2 * (index as u64 + 1)
            );
        }
        let peer = a.peer(some_peer(1)).expect("room");
        let refused = peer.try_send(GroupId::RESERVED, "x").expect_err("reserved");
        assert!(matches!(refused, SendError::ReservedGroup { payload: "x" }));
        let refused = peer.send(GroupId::RESERVED, "x").now_or_never();
        let refused = refused.expect("not waited for").expect_err("reserved");
        assert!(matches!(refused, SendError::ReservedGroup { payload: "x" }));
        assert_eq!(peer.stats().frames.rejected.invalid.frames, 2);

        let sent = a.stats().tcp;
        assert_eq!(sent.rejected.invalid.frames, 12);
        assert_eq!(sent.rejected.invalid.bytes, 12 * 9);
        assert_eq!(
            (sent.offered, sent.accepted.frames),
            (sent.rejected.invalid, 0)
        );
        assert_eq!(a.stats().links.dials, 0);
        end([a]).await;
    });
}

#[test]
fn every_refusal_is_counted_under_its_reason() {
    run(async {
        let config = Config::default()
            .max_frame(100)
            .queue_bytes(150)
            .queue_frames(2);
        let a = node(config.max_peers(2));
        let (by_frames, by_bytes) = (Vacant::new(), Vacant::new());
        let (by_frames, by_bytes) = (by_frames.addr(), by_bytes.addr());
        let _held = [by_frames, by_bytes].map(|addr| a.peer(addr).expect("room"));
        let send = |to, len: usize| a.try_send(to, group(1), vec![0; len]);
        assert!(send(by_frames, 0).is_ok() && send(by_frames, 0).is_ok());
        assert!(send(by_frames, 1).is_err(), "a third frame");
        assert!(send(by_bytes, 92).is_ok());
        assert!(send(by_bytes, 50).is_err(), "158 bytes");
        assert!(send(by_bytes, 93).is_err(), "101 bytes");
        assert!(send(some_peer(1), 2).is_err(), "a third peer");
        assert!(a.try_send(by_bytes, GroupId::RESERVED, "").is_err());
        a.stop(Shutdown::Now).await;
        assert!(
            send(by_bytes, 3).is_err() && send(some_peer(2), 4).is_err(),
            "stopped"
        );

        let sent = a.stats().tcp;
        let refused = sent.rejected;
        let counted = [
            refused.full_frames,
            refused.full_bytes,
            refused.too_large,
            refused.invalid,
            refused.stopped,
        ]
        .map(|count| (count.frames, count.bytes));
        assert_eq!(counted, [(1, 9), (1, 58), (1, 101), (2, 18), (2, 23)]);
        assert_eq!((sent.accepted.frames, sent.accepted.bytes), (3, 116));
        assert_eq!(sent.offered, sent.accepted + refused.total());
        balanced([&a]);
    });
}
