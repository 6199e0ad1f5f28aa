//! The wire format, byte for byte, and what happens on a connection that sends anything else.

use actix_transport::{Config, Shutdown, Transport, Via};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::*;

/// Frames of two groups, empty ones among them, and their bytes.
fn some_frames() -> (Vec<(u32, &'static [u8])>, Vec<u8>) {
    let frames: Vec<(u32, &[u8])> = vec![
        (1, b"ab"),
        (2, b""),
        (0xFFFF_FFFE, b"\0\0\0\x08"),
        (1, b"hello"),
        (1, b""),
    ];
    let bytes = frames
        .iter()
        .flat_map(|&(group, payload)| wire(group, payload));
    let bytes = bytes.collect();
    (frames, bytes)
}

const SOME_GROUPS: [u32; 3] = [1, 2, 0xFFFF_FFFE];

/// Asserts that exactly these frames come next, each group's in order.
async fn takes(seen: &mut Seen<Got>, frames: &[(u32, &[u8])]) {
    let mut got = Vec::new();
    for _ in frames {
        let Got {
            group,
            payload,
            via,
        } = seen.next().await;
        assert_eq!(via, Via::Tcp);
        got.push((group, payload));
    }
    // Groups are handled side by side. The sort is stable, so each group's frames keep their order.
    got.sort_by_key(|&(group, _)| group);
    let mut frames = frames.to_vec();
    frames.sort_by_key(|&(group, _)| group);
    let got: Vec<_> = got
        .iter()
        .map(|(group, payload)| (*group, &payload[..]))
        .collect();
    assert_eq!(got, frames);
}

/// Bytes by which a test notices if one of them is missing or in another place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

#[test]
fn a_stream_cut_in_two_anywhere_gives_the_same_frames() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, SOME_GROUPS);
            let mut witness = Witness::new(&b).await;
            let (frames, bytes) = some_frames();
            for cut in 0..=bytes.len() {
                let mut stream = dial(&b).await;
                write(&mut stream, &bytes[..cut]).await;
                witness.comes_through().await;
                write(&mut stream, &bytes[cut..]).await;
                takes(&mut seen, &frames).await;
            }
            assert_eq!(seen.try_next(), None, "nothing came twice");
            end([b]).await;
        });
    }
}

#[test]
fn a_stream_written_byte_by_byte_gives_the_same_frames() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, SOME_GROUPS);
            let mut witness = Witness::new(&b).await;
            let (frames, bytes) = some_frames();
            let mut stream = dial(&b).await;
            for byte in bytes {
                write(&mut stream, &[byte]).await;
                witness.comes_through().await;
            }
            takes(&mut seen, &frames).await;
            assert_eq!(seen.try_next(), None);
            end([b]).await;
        });
    }
}

#[test]
fn many_frames_in_one_write_arrive_one_by_one_in_order() {
    const FRAMES: u32 = 20_000;

    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1, 2]);
            let mut bytes = Vec::new();
            for number in 0..FRAMES {
                // Seven frames of one group, then seven of the other, with payloads of 4 to 26
                // bytes.
                let group = 1 + number / 7 % 2;
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(4 + number as usize % 23, number as u8);
                bytes.extend(wire(group, &payload));
            }
            let mut stream = dial(&b).await;
            write(&mut stream, &bytes).await;
            let mut next = [0u32, 7];
            for _ in 0..FRAMES {
                let got = seen.next().await;
                let next = &mut next[got.group as usize - 1];
                assert_eq!(got.payload[..4], next.to_be_bytes(), "group {}", got.group);
                assert_eq!(got.payload.len(), 4 + *next as usize % 23);
                assert!(got.payload[4..].iter().all(|byte| *byte == *next as u8));
                *next += if *next % 7 == 6 { 8 } else { 1 };
            }
            until("delivered", || {
                let delivered = b.stats().inbound.delivered;
                delivered.frames == u64::from(FRAMES) && delivered.bytes == bytes.len() as u64
            })
            .await;
            end([b]).await;
        });
    }
}

#[test]
fn a_frame_larger_than_any_read_arrives_whole() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let large = pattern(3 << 20);
            let mut stream = dial(&b).await;
            let bytes = [wire(1, b"before"), wire(1, &large), wire(1, b"behind")].concat();
            let writer = tokio::spawn(async move { stream.write_all(&bytes).await });
            assert_eq!(seen.next().await.payload, "before");
            assert!(seen.next().await.payload == large, "not what was sent");
            assert_eq!(seen.next().await.payload, "behind");
            writer.await.expect("no panic").expect("open");
            end([b]).await;
        });
    }
}

#[test]
fn an_empty_payload_is_a_frame() {
    run(async {
        let (a, b) = (node(Default::default()), node(Default::default()));
        let mut seen = serve(&b, [1]);
        let mut stream = dial(&b).await;
        write(&mut stream, &[0, 0, 0, 8, 1, 0, 0, 0]).await;
        assert!(seen.next().await.payload.is_empty());
        a.try_send(b.local_addr(), group(1), "").expect("room");
        assert!(seen.next().await.payload.is_empty());
        until("delivered", || b.stats().inbound.delivered.frames == 2).await;
        assert_eq!(b.stats().inbound.delivered.bytes, 16);
        end([a, b]).await;
    });
}

#[test]
fn a_length_below_the_header_or_above_the_limit_closes_only_its_own_connection() {
    const LIMIT: u32 = 1000;

    for config in placements() {
        run(async {
            let b = node(config.max_frame(LIMIT as usize));
            let mut seen = serve(&b, [1]);
            let mut witness = Witness::new(&b).await;
            let bad = (0..8).chain([LIMIT + 1, u32::MAX / 2, u32::MAX]);
            let mut closed = 0;
            for length in bad {
                let mut stream = dial(&b).await;
                // Only the four bytes of the length: they are enough to close the connection.
                let bytes = [&wire(1, b"before"), &length.to_be_bytes()[..]].concat();
                write(&mut stream, &bytes).await;
                assert_eq!(seen.next().await.payload, "before", "length {length}");
                expect_close(stream).await;
                closed += 1;
                until("counted", || b.stats().inbound.malformed == closed).await;
                witness.comes_through().await;
            }
            // A frame of exactly the limit is accepted.
            let longest = pattern(LIMIT as usize - 8);
            let mut stream = dial(&b).await;
            write(&mut stream, &wire(1, &longest)).await;
            assert_eq!(seen.next().await.payload, longest);
            let inbound = b.stats().inbound;
            assert_eq!(
                (inbound.malformed, inbound.truncated, inbound.timed_out),
                (closed, 0, 0)
            );
            until("closed", || b.stats().links.connections == 2).await;
            end([b]).await;
        });
    }
}

/// PhxPaxos checks `length - 4` against its limit of 10 MiB, or of 50 MiB for large messages.
#[test]
fn the_longest_frame_of_a_phxpaxos_node_is_accepted_and_a_longer_one_is_not() {
    for (config, limit) in [
        (Config::default(), 10 << 20),
        (Config::large_messages(), 50 << 20),
    ] {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let longest: u32 = limit + 4;
            let payload = pattern(longest as usize - 8);
            let (mut stream, bytes) = (dial(&b).await, wire(1, &payload));
            assert_eq!(bytes[..4], longest.to_be_bytes());
            let writer = tokio::spawn(async move { stream.write_all(&bytes).await });
            assert!(seen.next().await.payload == payload, "not what was sent");
            writer.await.expect("no panic").expect("open");

            let mut stream = dial(&b).await;
            write(&mut stream, &(longest + 1).to_be_bytes()).await;
            expect_close(stream).await;
            end([b]).await;
        });
    }
}

#[test]
fn bytes_behind_a_bad_length_are_not_read_as_frames() {
    run(async {
        let b = node(Default::default());
        let mut seen = serve(&b, [1]);
        let mut stream = dial(&b).await;
        let bytes = [wire(1, b"before"), vec![0; 4], wire(1, b"behind")].concat();
        write(&mut stream, &bytes).await;
        expect_close(stream).await;
        assert_eq!(seen.next().await.payload, "before");
        until("gone", || b.stats().links.connections == 0).await;
        assert_eq!(b.stats().inbound.received.frames, 1);
        end([b]).await;
    });
}

#[test]
fn whole_frames_before_a_bad_length_are_delivered_to_all_groups() {
    const GROUPS: u32 = 40;

    run(async {
        let b = node(Default::default());
        let mut seen = serve(&b, 0..GROUPS);
        let mut stream = dial(&b).await;
        let mut bytes: Vec<_> = (0..GROUPS)
            .flat_map(|index| wire(index, b"whole"))
            .collect();
        bytes.extend([0; 4]);
        write(&mut stream, &bytes).await;
        expect_close(stream).await;
        for index in 0..GROUPS {
            assert_eq!(seen.next().await.group, index);
        }
        let inbound = b.stats().inbound;
        assert_eq!(
            (inbound.delivered, inbound.malformed),
            (inbound.received, 1)
        );
        end([b]).await;
    });
}

#[test]
fn connections_that_speak_another_protocol_are_closed_and_counted() {
    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &pattern(500)].concat();
    let strangers: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &tls_hello,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0xFF; 4096],
        &[0; 4096],
    ];
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [0, 1]);
            let mut witness = Witness::new(&b).await;
            let witnessed = b.stats().inbound.received;
            for (before, bytes) in (0..).zip(strangers) {
                let mut stream = dial(&b).await;
                write(&mut stream, bytes).await;
                expect_close(stream).await;
                until("counted", || b.stats().inbound.malformed == before + 1).await;
            }
            until("closed", || b.stats().links.connections == 1).await;
            let inbound = b.stats().inbound;
            assert_eq!(
                inbound.received, witnessed,
                "none of these bytes was taken as a frame"
            );
            assert_eq!((inbound.truncated, inbound.timed_out), (0, 0));
            assert_eq!(seen.try_next(), None);
            witness.comes_through().await;
            end([b]).await;
        });
    }
}

#[test]
fn frames_are_written_in_the_wire_format_to_the_byte() {
    for config in placements() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
            let to = listener.local_addr().expect("bound");
            let a = node(config);
            // Short payloads are copied into the queue's buffer, long ones are written from where
            // they are. This list has each kind beside itself and beside the other.
            let lengths = [
                1,
                0,
                8 << 10,
                5,
                (8 << 10) - 1,
                100_000,
                8 << 10,
                0,
                70_000,
                2,
            ];
            let mut expected = Vec::new();
            for (index, len) in (0x0102_0304..).zip(lengths) {
                let payload = pattern(len);
                expected.extend(wire(index, &payload));
                a.try_send(to, group(index), Bytes::from(payload))
                    .expect("room");
            }
            assert_eq!(expected[..9], [0, 0, 0, 9, 4, 3, 2, 1, 0], "as documented");

            let (mut stream, _) = listener.accept().await.expect("dialled");
            let mut bytes = vec![0; expected.len()];
            stream.read_exact(&mut bytes).await.expect("all of it");
            assert!(bytes == expected, "not what was sent");
            let bytes = expected.len() as u64;
            until("counted", || a.stats().tcp.written.bytes == bytes).await;
            balanced([&a]);
            a.stop(Shutdown::Now).await;
            let behind = stream.read(&mut [0; 1]).await.expect("closed in order");
            assert_eq!(behind, 0, "something behind the last frame");
        });
    }
}

#[test]
fn nothing_is_ever_written_to_an_accepted_connection() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let mut stream = dial(&b).await;
            let bytes = [
                wire(u32::MAX, b"ping"),
                wire(9, b"nobody"),
                wire(1, b"here"),
            ];
            write(&mut stream, &bytes.concat()).await;
            assert_eq!(seen.next().await.payload, "here");
            // The connection ends in good order, so anything written to it would be read before its
            // end.
            stream.shutdown().await.expect("open");
            let mut said = Vec::new();
            stream
                .read_to_end(&mut said)
                .await
                .expect("closed in order");
            assert_eq!(said, b"");
            end([b]).await;
        });
    }
}

#[test]
fn a_connection_that_ends_inside_a_frame_is_counted_and_its_whole_frames_are_delivered() {
    for config in placements() {
        run(async {
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let whole = wire(1, b"whole");
            let cut = wire(1, b"cut");
            for end in 0..cut.len() {
                let mut stream = dial(&b).await;
                write(&mut stream, &[&whole, &cut[..end]].concat()).await;
                drop(stream);
                assert_eq!(seen.next().await.payload, "whole");
                until("gone", || b.stats().links.connections == 0).await;
                // A cut at 0 is an end between two frames: nothing is truncated.
                until("counted", || b.stats().inbound.truncated == end as u64).await;
            }
            let inbound = b.stats().inbound;
            assert_eq!((inbound.malformed, inbound.timed_out), (0, 0));
            assert_eq!(inbound.received.frames, cut.len() as u64);
            end([b]).await;
        });
    }
}

/// Sends a frame of the reserved group between two other frames, which must arrive.
async fn send_reserved(b: &Transport, seen: &mut Seen<Got>) {
    let mut stream = dial(b).await;
    let bytes = [wire(1, b"a"), wire(u32::MAX, b"reserved"), wire(1, b"b")];
    write(&mut stream, &bytes.concat()).await;
    assert_eq!(seen.next().await.payload, "a");
    assert_eq!(seen.next().await.payload, "b");
    // The connection stays open.
    write_frames(&mut stream, &[(1, b"c")]).await;
    assert_eq!(seen.next().await.payload, "c");
    until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
}

#[test]
fn a_frame_of_the_reserved_group_is_ignored_and_counted() {
    run(async {
        let b = node(Default::default());
        let mut seen = serve(&b, [1]);
        send_reserved(&b, &mut seen).await;
        let ignored = b.stats().inbound.dropped.no_group;
        assert_eq!((ignored.frames, ignored.bytes), (1, 16));
        end([b]).await;
    });
}

#[test]
fn a_frame_of_the_reserved_group_does_not_reach_the_catch_all_actor() {
    run(async {
        let b = node(Default::default());
        let mut seen = serve(&b, [1]);
        let (actor, mut others) = probe();
        b.catch_all(Some(actor));
        send_reserved(&b, &mut seen).await;
        assert_eq!(others.try_next(), None, "a frame of the reserved group");
        assert_eq!(b.stats().inbound.dropped.no_group.frames, 1);
        end([b]).await;
    });
}
