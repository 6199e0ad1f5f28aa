//! Frames sent as datagrams: their format, their bounds, and what happens to unexpected datagrams.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use actix_transport::{
    Config, DropReason, GroupId, GroupOverflow, PeerEvent, Placement, QueueLimit, SendError,
    Transport, Via,
};
use tokio::net::UdpSocket as AsyncUdpSocket;

use crate::support::*;

/// A plain UDP socket, to send any datagram from.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("free port");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

pub(crate) fn addr_of(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

pub(crate) fn current() -> Config {
    Config::default().placement(Placement::Current)
}

/// A frame as a datagram carries it.
pub(crate) fn datagram(group: u32, payload: &[u8]) -> Vec<u8> {
    wire(group, payload).split_off(4)
}

#[test]
fn a_datagram_reaches_its_groups_actor_which_can_answer_to_its_source_address() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let (mut at_a, mut at_b) = (serve_from(&a, [4]), serve_from(&b, [3]));
            a.send_datagram(b.local_addr(), group(3), "there")
                .expect("room");
            let (from, got) = at_b.next().await;
            let expected = (3, "there".into(), Via::Udp);
            assert_eq!((got.group, got.payload, got.via), expected);
            assert_eq!(from, a.local_addr(), "one socket, both ways");
            b.send_datagram(from, group(4), "and back").expect("room");
            let (from, got) = at_a.next().await;
            assert_eq!((from, got.group), (b.local_addr(), 4));
            assert_eq!(got.payload, "and back");
            for node in [&a, &b] {
                until("counted", || {
                    let stats = node.stats();
                    stats.udp.written.frames == 1 && stats.inbound.delivered.frames == 1
                })
                .await;
                assert_eq!(node.stats().links.dials, 0, "no connection was needed");
            }
            end([a, b]).await;
        });
    }
}

#[test]
fn a_datagram_is_its_group_little_endian_and_its_payload() {
    for config in placements() {
        run(async {
            let a = node(config);
            let raw = AsyncUdpSocket::from_std(socket()).expect("a runtime");
            let to = raw.local_addr().expect("bound");
            let mut buffer = [0; 100];

            let index = group(0x0102_0304);
            for (payload, expected) in [
                (&b"hi"[..], &[4, 3, 2, 1, b'h', b'i'][..]),
                (b"", &[4, 3, 2, 1]),
            ] {
                a.send_datagram(to, index, payload).expect("room");
                let (len, from) = raw.recv_from(&mut buffer).await.expect("a datagram");
                assert_eq!((&buffer[..len], from), (expected, a.local_addr()));
            }

            let mut seen = serve_from(&a, [0x0102_0304]);
            for payload in [&b"hi"[..], b""] {
                let bytes = [&[4, 3, 2, 1], payload].concat();
                raw.send_to(&bytes, a.local_addr()).await.expect("sent");
                let (from, got) = seen.next().await;
                assert_eq!((from, &got.payload[..]), (to, payload));
            }
            end([a]).await;
        });
    }
}

#[test]
fn the_longest_payload_is_sent_and_a_longer_one_is_refused() {
    // The default, and the most that a datagram can carry.
    for max in [4_096, 65_503] {
        run(async {
            let config = Config::default().max_datagram(max);
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let longest = vec![7; max];
            a.send_datagram(b.local_addr(), group(1), longest.clone())
                .expect("room");
            assert!(seen.next().await.payload == longest, "not what was sent");

            let longer = vec![7; max + 1];
            let refused = a.send_datagram(b.local_addr(), group(1), longer.clone());
            let refused = refused.expect_err("too long");
            let SendError::TooLarge { len, max: told, .. } = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((len, told), (max + 1, max));
            assert!(refused.into_payload() == longer, "not what was refused");
            assert_eq!(a.stats().udp.rejected.too_large.frames, 1);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_datagram_too_short_for_a_group_is_counted_as_malformed_and_does_no_other_harm() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [0x6161_6161]);
            let raw = socket();
            for len in 0..4 {
                raw.send_to(&b"aaaa"[..len], b.local_addr()).expect("sent");
            }
            raw.send_to(b"aaaa", b.local_addr()).expect("sent");
            assert_eq!(seen.next().await.payload, "");
            assert_eq!(b.stats().inbound.malformed, 4);
            assert_eq!(b.stats().inbound.received.frames, 1);
            end([b]).await;
        });
    }
}

#[test]
fn a_datagram_above_the_frame_limit_is_counted_as_malformed_and_the_others_are_delivered() {
    run(async {
        // The transport runs on this thread, so it reads all these datagrams in one go.
        let b = node(current().max_frame(64));
        let mut seen = serve(&b, [1]);
        let raw = socket();
        for payload in [&b"before"[..], &[0; 57], b"behind", &[0; 56]] {
            raw.send_to(&datagram(1, payload), b.local_addr())
                .expect("sent");
        }
        for payload in [&b"before"[..], b"behind", &[0; 56]] {
            assert_eq!(seen.next().await.payload, payload);
        }
        assert_eq!(b.stats().inbound.malformed, 1);
        end([b]).await;
    });
}

#[test]
fn datagrams_are_never_answered() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let raw = socket();
            let bytes = [
                b"".to_vec(),
                b"?".to_vec(),
                datagram(9, b"nobody's"),
                datagram(u32::MAX, b"reserved"),
                datagram(1, b"served"),
            ];
            for bytes in bytes {
                raw.send_to(&bytes, b.local_addr()).expect("sent");
            }
            assert_eq!(seen.next().await.payload, "served");
            until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
            let inbound = b.stats().inbound;
            assert_eq!((inbound.malformed, inbound.dropped.no_group.frames), (2, 2));
            // On loopback a datagram arrives as soon as it is sent, so an answer would be here by
            // now.
            let answer = raw.recv_from(&mut [0; 100]);
            let none = answer.expect_err("an answer").kind();
            assert_eq!(none, std::io::ErrorKind::WouldBlock);
            end([b]).await;
        });
    }
}

#[test]
fn a_datagram_of_the_reserved_group_does_not_reach_the_catch_all_actor() {
    run(async {
        let b = node(Config::default());
        let (actor, mut others) = probe();
        b.catch_all(Some(actor));
        let raw = socket();
        for (group, payload) in [(u32::MAX, "reserved"), (9, "any other group")] {
            raw.send_to(&datagram(group, payload.as_bytes()), b.local_addr())
                .expect("sent");
        }
        assert_eq!(others.next().await.payload, "any other group");
        assert_eq!(b.stats().inbound.dropped.no_group.frames, 1);
        let to = addr_of(&raw);
        let refused = b.send_datagram(to, GroupId::RESERVED, "x");
        let refused = refused.expect_err("reserved");
        assert!(matches!(refused, SendError::ReservedGroup { payload: "x" }));
        end([b]).await;
    });
}

#[test]
fn the_datagram_queue_is_bounded_in_frames() {
    run(async {
        // The transport runs on this thread, so it sends nothing before this future waits.
        let a = node(current().udp_queue_frames(3));
        let raw = AsyncUdpSocket::from_std(socket()).expect("a runtime");
        let to = raw.local_addr().expect("bound");
        for number in 0..3u8 {
            a.send_datagram(to, group(1), [number]).expect("room");
        }
        let refused = a.send_datagram(to, group(1), "no room").expect_err("full");
        let SendError::Full { limit, payload } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((limit, payload), (QueueLimit::Frames, "no room"));
        let mut buffer = [0; 100];
        for number in 0..3 {
            let len = raw.recv(&mut buffer).await.expect("a datagram");
            assert_eq!(&buffer[..len], datagram(1, &[number]));
        }
        a.send_datagram(to, group(1), "room again").expect("room");
        let len = raw.recv(&mut buffer).await.expect("a datagram");
        assert_eq!(&buffer[..len], datagram(1, b"room again"));
        let udp = a.stats().udp;
        assert_eq!(
            (udp.written.frames, udp.rejected.full_frames.frames),
            (4, 1)
        );
        end([a]).await;
    });
}

#[test]
fn the_datagram_queue_is_bounded_in_bytes() {
    run(async {
        let config = current().max_datagram(100).udp_queue_bytes(250);
        let a = node(config);
        let raw = socket();
        for _ in 0..2 {
            a.send_datagram(addr_of(&raw), group(1), [0; 100])
                .expect("room");
        }
        let refused = a.send_datagram(addr_of(&raw), group(1), [0; 27]);
        let refused = refused.expect_err("34 bytes of room");
        let SendError::Full { limit, payload } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((limit, payload), (QueueLimit::Bytes, [0; 27]));
        a.send_datagram(addr_of(&raw), group(1), [0; 26])
            .expect("just room");
        assert_eq!(a.stats().udp.rejected.full_bytes.bytes, 35);
        end([a]).await;
    });
}

#[test]
fn a_datagram_that_waited_too_long_is_dropped_and_reported() {
    const STALE: Duration = Duration::from_secs(1);

    run(async {
        let a = node(current().stale_after(STALE));
        let mut events = watch(&a);
        let raw = AsyncUdpSocket::from_std(socket()).expect("a runtime");
        let to = raw.local_addr().expect("bound");
        a.send_datagram(to, group(1), "stale").expect("room");
        // The transport runs on this thread, so it sends nothing meanwhile.
        std::thread::sleep(STALE + STALE / 10);
        a.send_datagram(to, group(1), "fresh").expect("room");
        let mut buffer = [0; 100];
        // The port may have belonged to another test before, and late datagrams for that test may
        // still come.
        let len = loop {
            let (len, from) = raw.recv_from(&mut buffer).await.expect("a datagram");
            if from == a.local_addr() {
                break len;
            }
        };
        assert_eq!(&buffer[..len], datagram(1, b"fresh"));
        assert_eq!(a.stats().udp.dropped.stale.frames, 1);
        let event = events.next().await;
        let PeerEvent::Dropped {
            peer: None,
            reason: DropReason::Stale,
            count,
            ..
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!((count.frames, count.bytes), (1, 13));
        end([a]).await;
    });
}

#[test]
fn send_auto_uses_a_connection_for_what_a_datagram_cannot_carry() {
    for config in placements() {
        run(async {
            let config = config.max_datagram(100);
            let (a, b) = (node(config.clone()), node(config.clone()));
            let without = node(config.udp(false));
            let mut seen = serve(&b, [1]);
            for (sender, len, via) in [
                (&a, 0, Via::Udp),
                (&a, 100, Via::Udp),
                (&a, 101, Via::Tcp),
                (&without, 1, Via::Tcp),
                (&without, 101, Via::Tcp),
            ] {
                sender
                    .send_auto(b.local_addr(), group(1), vec![0; len])
                    .expect("room");
                let got = seen.next().await;
                assert_eq!((got.payload.len(), got.via), (len, via));
            }
            end([a, b, without]).await;
        });
    }
}

#[test]
fn send_auto_uses_a_connection_where_the_other_ip_version_leaves_no_way_for_a_datagram() {
    run(async {
        let Ok(b) = Transport::builder().bind("[::1]:0") else {
            return; // This machine has no IPv6.
        };
        let mut seen = serve(&b, [1]);
        let config = Config::default().max_datagram(100);
        let without = node(config.clone().udp(false));
        let a = node(config);
        for sender in [&a, &without] {
            for len in [0, 100, 101] {
                sender
                    .send_auto(b.local_addr(), group(1), vec![0; len])
                    .expect("room");
                let got = seen.next().await;
                assert_eq!((got.payload.len(), got.via), (len, Via::Tcp));
            }
        }
        assert_eq!(a.stats().udp.offered.frames, 0);
        end([a, b, without]).await;
    });
}

#[test]
fn with_datagrams_switched_off_none_are_sent_and_the_udp_port_stays_free() {
    run(async {
        let config = Config::default().udp(false);
        let a = Transport::builder().config(config).bind((OWN_IP, 0));
        let a = a.expect("free port");
        let raw = UdpSocket::bind(a.local_addr()).expect("free for datagrams");
        let refused = a.send_datagram(addr_of(&raw), group(1), "not sent");
        let refused = refused.expect_err("switched off");
        assert!(matches!(
            refused,
            SendError::NoDatagrams {
                payload: "not sent"
            }
        ));
        assert_eq!(a.stats().udp.rejected.invalid.frames, 1);
        end([a]).await;
    });
}

#[test]
fn datagrams_of_several_senders_are_delivered_with_the_right_source_address() {
    const ROUNDS: u8 = 30;

    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve_from(&b, [1, 2]);
            let senders = [socket(), socket(), socket()];
            // A transport with threads of its own reads some of these in one go; one on this thread
            // reads all of them in one go.
            for round in 0..ROUNDS {
                for (index, sender) in (0..).zip(&senders) {
                    let group = 1 + u32::from(round % 2);
                    sender
                        .send_to(&datagram(group, &[round, index]), b.local_addr())
                        .expect("sent");
                }
            }
            // Groups are handled side by side, so order holds only within a group.
            let mut next = [[0, 1]; 3];
            for _ in 0..usize::from(ROUNDS) * senders.len() {
                let (from, got) = seen.next().await;
                let index = usize::from(got.payload[1]);
                assert_eq!(from, addr_of(&senders[index]));
                let next = &mut next[index][got.group as usize - 1];
                assert_eq!(got.payload[0], *next);
                *next += 2;
            }
            assert_eq!(b.stats().inbound.malformed, 0);
            end([b]).await;
        });
    }
}

#[test]
fn a_slow_group_holds_back_neither_connections_nor_the_datagrams_of_other_groups() {
    const ROUNDS: u8 = 30;

    for config in placements() {
        run(async {
            let b = node(config);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut others = serve_from(&b, [2]);
            let mut witness = Witness::new(&b).await;
            let (slow, honest) = (socket(), socket());
            for round in 0..ROUNDS {
                // The last one is from the same sender as those that the slow group holds.
                for (group, sender) in [(1, &slow), (2, &honest), (2, &slow)] {
                    sender
                        .send_to(&datagram(group, &[round]), b.local_addr())
                        .expect("sent");
                }
                for sender in [&honest, &slow] {
                    let (from, got) = others.next().await;
                    assert_eq!((from, &got.payload[..]), (addr_of(sender), &[round][..]));
                }
                witness.comes_through().await;
            }
            assert_eq!(held.try_next(), None);
            let inbound = b.stats().inbound;
            assert_eq!(inbound.in_delivery.frames, u64::from(ROUNDS));
            assert!(inbound.dropped.total().is_zero(), "{inbound:?}");
            gate.open();
            for _ in 0..ROUNDS {
                held.next().await;
            }
            end([b]).await;
        });
    }
}

#[test]
fn a_group_holds_as_many_bytes_of_datagrams_as_configured_and_the_others_are_dropped() {
    const BOUND: u64 = 100 + 1024;
    /// A datagram of 92 bytes makes a frame of 100. Alone in its batch it costs 256 more.
    const COST: u64 = 100 + 256;

    for config in placements() {
        run(async {
            let b = node(config.max_datagram(100).udp_group_bytes(BOUND as usize));
            let mut events = watch(&b);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut others = serve(&b, [2]);
            let raw = socket();
            let send = |group| {
                let datagram = datagram(group, &[b'd'; 92]);
                raw.send_to(&datagram, b.local_addr()).expect("sent");
            };
            for sent in 1..=5 {
                send(1);
                until("read", || b.stats().inbound.received.frames == sent).await;
            }
            let inbound = b.stats().inbound;
            let (fit, dropped) = (inbound.in_delivery.frames, inbound.dropped.overflow);
            assert!((1..=BOUND / COST).contains(&fit), "{inbound:?}");
            assert_eq!((dropped.frames, dropped.bytes), (5 - fit, 100 * (5 - fit)));
            let event = events.next().await;
            let reason = DropReason::Overflow;
            assert!(
                matches!(event, PeerEvent::Dropped { reason: told, .. } if told == reason),
                "{event:?}"
            );
            // The bound is that of one group, and of datagrams only.
            send(2);
            assert_eq!(others.next().await.payload.len(), 92);
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"by a connection")]).await;
            until("held", || b.stats().inbound.in_delivery.frames == fit + 1).await;

            gate.open();
            let by_connection = |got: &Got| got.via == Via::Tcp;
            held.until(by_connection).await;
            until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
            send(1);
            until("room again", || {
                b.stats().inbound.delivered.frames == fit + 3
            })
            .await;
            end([b]).await;
        });
    }
}

#[test]
fn a_datagram_that_nobody_receives_does_no_harm() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            // A socket that accepts datagrams from one other socket only: the port is taken, yet
            // nobody receives ours.
            let (deaf, other) = (socket(), socket());
            deaf.connect(addr_of(&other)).expect("loopback");
            let nobody = addr_of(&deaf);
            for _ in 0..3 {
                a.send_datagram(nobody, group(1), "lost").expect("room");
                a.send_datagram(b.local_addr(), group(1), "there")
                    .expect("room");
                assert_eq!(seen.next().await.payload, "there");
            }
            let datagrams = a.stats().udp;
            assert_eq!(datagrams.accepted.frames, 6);
            assert_eq!(a.stats().links.restarts, 0);
            end([a, b]).await;
        });
    }
}

/// Only on Linux does one system call read several.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_of_one_sender_are_delivered_together_up_to_a_bound_in_bytes() {
    use actix::prelude::*;
    use actix_transport::Inbound;
    use tokio::sync::mpsc;

    const LEN: usize = 1000;
    const FRAMES: usize = 80;
    const FIT: usize = (64 << 10) / (LEN + 8);

    /// Reports how many frames its batches have.
    struct Batches(mpsc::UnboundedSender<usize>);

    impl Actor for Batches {
        type Context = Context<Self>;
    }

    impl Handler<Inbound> for Batches {
        type Result = ();

        fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
            let _ = self.0.send(inbound.count());
        }
    }

    run(async {
        // It runs on this thread, so it reads all of them in one go when this future waits.
        let b = node(current());
        let (tell, mut batches) = mpsc::unbounded_channel();
        let actor = Batches(tell).start();
        b.register(group(1), actor.recipient()).expect("free group");
        let raw = socket();
        for _ in 0..FRAMES {
            let datagram = datagram(1, &[b'd'; LEN]);
            raw.send_to(&datagram, b.local_addr()).expect("sent");
        }
        assert_eq!(batches.recv().await, Some(FIT));
        assert_eq!(batches.recv().await, Some(FRAMES - FIT));
        end([b]).await;
    });
}

/// Sends to an address that no datagram can go to. The send must be refused with the payload.
fn refuses(a: &Transport, addr: &str) {
    let addr = addr.parse().expect("an address");
    let before = a.stats().udp.rejected.invalid.frames;
    let refused = a.send_datagram(addr, group(1), "not sent");
    let refused = refused.expect_err("unusable");
    assert!(refused.to_string().contains(&addr.to_string()), "{refused}");
    let SendError::Address {
        addr: told,
        payload,
    } = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((told, payload), (addr, "not sent"));
    assert_eq!(a.stats().udp.rejected.invalid.frames, before + 1);
}

#[test]
fn a_datagram_to_an_unusable_address_is_refused_and_the_error_names_the_address() {
    run(async {
        let a = node(Config::default());
        for addr in [
            "[::1]:7001",
            "127.0.0.1:0",
            "0.0.0.0:7001",
            "224.0.0.1:7001",
            "255.255.255.255:7001",
        ] {
            refuses(&a, addr);
        }
        end([a]).await;
    });
}
