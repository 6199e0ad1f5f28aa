//! What a slow group does to those who send to it, and that nobody else notices.

use actix_transport::{Config, GroupOverflow, PeerEvent, Placement, Transport};

use crate::support::*;

/// A transport with one reader, so that a test can tell in which order its connections are read.
fn one_reader() -> Transport {
    let [dedicated, ..] = placements();
    node(dedicated)
}

/// A payload that begins with `number`.
fn payload(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

#[test]
fn a_waiting_group_holds_its_sender_back_and_no_frame_is_lost() {
    const LEN: usize = 16 << 10;

    run(async {
        let b = one_reader();
        let a = node(Config::default().queue_frames(64));
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let mut witness = Witness::new(&b).await;
        let peer = a.peer(b.local_addr()).expect("usable");

        // The kernel buffers some megabytes, and then no more.
        let (mut sent, mut refused_in_a_row) = (0, 0);
        while refused_in_a_row < 50 {
            match peer.try_send(group(1), payload(sent, LEN)) {
                Ok(()) => {
                    sent += 1;
                    refused_in_a_row = 0;
                }
                Err(err) => {
                    assert!(err.is_full(), "{err}");
                    // The reader has just read another connection, so it could also have read this
                    // one.
                    witness.comes_through().await;
                    if b.stats().inbound.in_delivery.frames > 0 {
                        refused_in_a_row += 1;
                    }
                }
            }
            assert!(sent < 20_000, "the sender is not held back");
        }
        // The group holds one batch. All other frames are in the kernels' buffers and in the
        // sender's queue.
        let held = b.stats().inbound.in_delivery;
        assert!(held.bytes < 1 << 20, "{held} in delivery");
        assert_eq!(seen.try_next(), None);

        gate.open();
        for number in 0..sent {
            let got = seen.next().await;
            assert!(got.payload == payload(number, LEN), "not frame {number}");
        }
        until("room", || peer.try_send(group(1), "room again").is_ok()).await;
        assert_eq!(seen.next().await.payload, "room again");
        let all = u64::from(sent) + 1;
        until("delivered", || {
            b.stats().inbound.in_delivery.is_zero() && a.stats().tcp.written.frames == all
        })
        .await;
        end([a, b]).await;
    });
}

#[test]
fn a_waiting_group_holds_back_later_frames_of_the_same_connection_and_nothing_else() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut other = serve(&b, [2]);
            let mut witness = Witness::new(&b).await;
            let mut stream = dial(&b).await;
            // Frames of one read are delivered together.
            write_frames(&mut stream, &[(1, b"held"), (2, b"beside")]).await;
            assert_eq!(other.next().await.payload, "beside");
            write_frames(&mut stream, &[(2, b"behind"), (1, b"held, too")]).await;
            for _ in 0..50 {
                witness.comes_through().await;
            }
            assert_eq!(other.try_next(), None);
            assert_eq!(held.try_next(), None);
            assert_eq!(b.stats().inbound.in_delivery.frames, 1);
            // The place of the connection is free at once. What it had sent is delivered all the same.
            drop(stream);
            until("noticed", || b.stats().links.connections == 1).await;
            assert_eq!(held.try_next(), None);
            gate.open();
            assert_eq!(held.next().await.payload, "held");
            assert_eq!(other.next().await.payload, "behind");
            assert_eq!(held.next().await.payload, "held, too");
            end([b]).await;
        });
    }
}

/// More than one read takes, and less than the kernel's receive buffer holds: the end of a connection
/// arrives only when everything before it has room there.
const REST: usize = 40 << 10;

#[test]
fn what_a_closed_connection_had_sent_is_delivered_when_the_group_goes_on() {
    for config in placements() {
        run(async {
            let b = node(config);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"first")]).await;
            until("read", || b.stats().inbound.in_delivery.frames == 1).await;
            let rest: Vec<_> = (0..20).map(|n| payload(n, REST / 20)).collect();
            for payload in &rest {
                write_frames(&mut stream, &[(1, payload)]).await;
            }
            // And the beginning of a frame that never ends.
            write(&mut stream, &wire(1, b"unfinished")[..10]).await;
            drop(stream);
            until("noticed", || b.stats().links.connections == 0).await;
            assert_eq!(b.stats().inbound.in_delivery.frames, 1);
            gate.open();
            assert_eq!(held.next().await.payload, "first");
            for payload in rest {
                assert!(held.next().await.payload == payload);
            }
            until("counted", || b.stats().inbound.truncated == 1).await;
            end([b]).await;
        });
    }
}

#[test]
fn a_dropping_group_holds_no_more_than_its_bound_and_holds_nobody_back() {
    const HELD: u64 = 10;
    const SENT: u32 = 30;
    const LEN: usize = 100;
    // What a batch of one such frame counts against the bound.
    const COST: usize = 8 + LEN + 256;
    // One connection can use four fifths of the bound.
    const MAX: usize = HELD as usize * COST * 5 / 4;

    for config in placements() {
        run(async {
            let b = node(config);
            let overflow = GroupOverflow::Drop { max_bytes: MAX };
            let (gate, mut slow) = hold(&b, 1, overflow);
            let mut other = serve(&b, [2]);
            let mut stream = dial(&b).await;
            for number in 0..SENT {
                let frames = [(1, &payload(number, LEN)[..]), (2, &number.to_be_bytes())];
                write_frames(&mut stream, &frames).await;
                // The slow group's frame before it does not hold back the other group's frame.
                assert_eq!(other.next().await.payload[..], number.to_be_bytes());
            }
            let inbound = b.stats().inbound;
            assert_eq!(inbound.in_delivery.frames, HELD);
            let beyond = u64::from(SENT) - HELD;
            assert_eq!(inbound.dropped.overflow.frames, beyond);
            assert_eq!(inbound.dropped.overflow.bytes, beyond * (8 + LEN as u64));
            assert_eq!(slow.try_next(), None);

            // The frames that had room are the ones that came first, and handling them makes room
            // again.
            gate.open();
            let mut held: Vec<_> = Vec::new();
            for _ in 0..HELD {
                held.push(slow.next().await.payload);
            }
            held.sort();
            let first: Vec<_> = (0..HELD as u32)
                .map(|number| payload(number, LEN))
                .collect();
            assert_eq!(held, first);
            until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
            for number in 0..SENT {
                write_frames(&mut stream, &[(1, &payload(number, LEN))]).await;
                assert_eq!(slow.next().await.payload, payload(number, LEN));
            }
            assert_eq!(b.stats().inbound.dropped.overflow.frames, beyond);
            end([b]).await;
        });
    }
}

#[test]
fn a_groups_bound_holds_across_all_connections_and_batch_sizes() {
    run(async {
        let b = node(Config::default());
        // Room for three batches of one frame, and the share that stays free beside them.
        let max_bytes = 7 * (8 + 256) / 2;
        let (gate, mut slow) = hold(&b, 1, GroupOverflow::Drop { max_bytes });
        let mut marks = serve(&b, [2]);
        let (mut first, mut second) = (dial(&b).await, dial(&b).await);
        // First a frame that exceeds the whole bound, then one frame from each of two connections,
        // then three frames in one batch, of which one has room.
        let too_large = [0; 1000];
        write_frames(&mut first, &[(1, &too_large), (2, b"")]).await;
        marks.next().await;
        assert_eq!(b.stats().inbound.dropped.overflow.frames, 1);
        for stream in [&mut first, &mut second] {
            write_frames(stream, &[(1, b""), (2, b"")]).await;
            marks.next().await;
        }
        write_frames(&mut first, &[(1, b""), (1, b""), (1, b""), (2, b"")]).await;
        marks.next().await;
        assert_eq!(b.stats().inbound.dropped.overflow.frames, 3);
        write_frames(&mut second, &[(1, b""), (2, b"")]).await;
        marks.next().await;
        let inbound = b.stats().inbound;
        assert_eq!(inbound.dropped.overflow.frames, 4);
        assert_eq!(inbound.in_delivery.frames, 3);
        gate.open();
        for _ in 0..3 {
            slow.next().await;
        }
        assert_eq!(slow.try_next(), None);
        end([b]).await;
    });
}

#[test]
fn a_dropping_group_gets_as_much_of_one_large_read_as_it_has_room_for() {
    // Few enough for one read: with their headers they take 42 KiB. Of 64 KiB sent at once, the
    // first read brought 47 KiB.
    const FRAMES: u32 = 400;
    const LEN: usize = 100;
    const MAX: usize = 32 << 10;
    // Frames that have room beside the fixed cost of a batch, in the share of one connection.
    const FITTING: u32 = ((MAX * 4 / 5 - 256) / (8 + LEN)) as u32;

    run(async {
        let b = node(Config::default().placement(Placement::Current));
        let overflow = GroupOverflow::Drop { max_bytes: MAX };
        let (gate, mut seen) = hold(&b, 1, overflow);
        gate.open();
        let mut others = serve(&b, [2]);
        let stream = dial(&b).await;
        let send = |bytes: &[u8]| assert_eq!(stream.try_write(bytes).expect("room"), bytes.len());
        send(&wire(2, &vec![0; FILLS_FIVE_READS - 8]));
        others.next().await;
        let frames = (0..FRAMES).map(|number| {
            // One frame of the other group is among them.
            let other = if number == 5 {
                wire(2, b"")
            } else {
                Vec::new()
            };
            [other, wire(1, &payload(number, LEN))].concat()
        });
        send(&frames.collect::<Vec<_>>().concat());
        for number in 0..FITTING {
            assert_eq!(seen.next().await.payload, payload(number, LEN));
        }
        others.next().await;
        let inbound = b.stats().inbound;
        let beyond = u64::from(FRAMES - FITTING);
        assert_eq!(inbound.dropped.overflow.frames, beyond);
        assert_eq!(inbound.dropped.overflow.bytes, beyond * (8 + LEN as u64));
        assert_eq!(seen.try_next(), None);
        end([b]).await;
    });
}

#[test]
fn a_dropping_group_gets_its_frames_whole_from_among_those_of_other_groups() {
    run(async {
        let b = node(Config::default());
        let max_bytes = 1 << 20;
        let (gate, mut slow) = hold(&b, 1, GroupOverflow::Drop { max_bytes });
        let mut stream = dial(&b).await;
        let frames: [(u32, &[u8]); 6] = [
            (9, b"nobody's"),
            (1, b"a"),
            (1, b""),
            (9, b"nobody's"),
            (1, b"ccc"),
            (9, b"nobody's"),
        ];
        write_frames(&mut stream, &frames).await;
        gate.open();
        for payload in ["a", "", "ccc"] {
            assert_eq!(slow.next().await.payload, payload);
        }
        assert_eq!(b.stats().inbound.dropped.no_group.frames, 3);
        end([b]).await;
    });
}

#[test]
fn a_sender_that_floods_a_dropping_group_loses_its_own_frames_and_nobody_elses() {
    const HONEST: u32 = 50;
    const LEN: usize = 100;
    const MAX: usize = 256 << 10;

    for config in placements() {
        run(async {
            let b = node(config);
            let (gate, mut slow) = hold(&b, 1, GroupOverflow::Drop { max_bytes: MAX });
            let (mut marks, mut events) = (serve(&b, [2]), watch(&b));
            let (mut flooder, mut honest) = (dial(&b).await, dial(&b).await);
            let flood = [
                wire(1, &payload(u32::MAX, LEN)).repeat(5 * MAX / LEN),
                wire(2, b""),
            ];
            write(&mut flooder, &flood.concat()).await;
            marks.next().await;
            assert!(b.stats().inbound.dropped.overflow.frames > 0);
            // The flooder has filled what it may, and the group handles nothing.
            for number in 0..HONEST {
                write_frames(&mut honest, &[(1, &payload(number, LEN)), (2, b"")]).await;
                marks.next().await;
            }
            gate.open();
            let mut all = Vec::new();
            while all.len() < HONEST as usize {
                let got = slow.next().await.payload;
                if got != payload(u32::MAX, LEN) {
                    all.push(got);
                }
            }
            // Handlers that waited for the gate go on in any order.
            all.sort();
            let sent: Vec<_> = (0..HONEST).map(|number| payload(number, LEN)).collect();
            assert!(all == sent);
            // The events name the flooder only.
            let flooder = flooder.local_addr().expect("connected");
            let mut told = 0;
            while told < b.stats().inbound.dropped.overflow.frames {
                if let PeerEvent::Dropped { from, count, .. } = events.next().await {
                    assert_eq!(from, Some(flooder));
                    told += count.frames;
                }
            }
            end([b]).await;
        });
    }
}

#[test]
fn no_more_than_batch_frames_of_a_connection_are_with_handlers() {
    const MOST: u64 = 3;
    const SENT: u32 = 10;

    for config in placements() {
        run(async {
            let b = node(config.batch_frames(MOST as usize));
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut witness = Witness::new(&b).await;
            let witnessed = b.stats().inbound.received.frames;
            let mut stream = dial(&b).await;
            let frames: Vec<_> = (0..SENT)
                .flat_map(|number| wire(1, &number.to_be_bytes()))
                .collect();
            write(&mut stream, &frames).await;
            until("handed over", || {
                b.stats().inbound.in_delivery.frames == MOST
            })
            .await;
            for _ in 0..10 {
                witness.comes_through().await;
            }
            let inbound = b.stats().inbound;
            assert_eq!(inbound.in_delivery.frames, MOST);
            assert_eq!(inbound.received.frames, MOST + witnessed + 10);
            gate.open();
            for number in 0..SENT {
                assert_eq!(held.next().await.payload[..], number.to_be_bytes());
            }
            end([b]).await;
        });
    }
}
