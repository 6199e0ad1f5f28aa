//! Many frames in one call, and payloads of two pieces.

use std::time::Duration;

use actix_transport::{Config, QueueLimit, SendError, Shutdown};
use bytes::Bytes;
use futures::FutureExt;

use crate::support::*;

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Both placements, with room for the plug, and with no frame that goes stale.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        config
            .max_frame(PLUG_BYTES)
            .queue_bytes(2 * PLUG_BYTES)
            .stale_after(NEVER)
            .user_timeout(NEVER)
    })
}

#[test]
fn a_burst_arrives_in_order_in_all_its_groups() {
    // More than one part, in frames and in bytes.
    const FRAMES: u32 = 3_000;
    const GROUPS: u32 = 7;

    let len = |number: u32| match number % 500 {
        0 => 20_000,
        number => 4 + number as usize,
    };
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, 0..GROUPS);
            let peer = a.peer(b.local_addr()).expect("room");
            let frames = (0..FRAMES).map(|number| {
                let payload = numbered(number, len(number));
                (group(number % GROUPS), payload)
            });
            peer.try_send_all(frames).expect("room");
            let mut next: Vec<_> = (0..GROUPS).collect();
            for _ in 0..FRAMES {
                let got = seen.next().await;
                let next = &mut next[got.group as usize];
                assert_eq!(number(&got.payload), *next);
                assert_eq!(got.payload.len(), len(*next));
                *next += GROUPS;
            }
            until("written", || {
                peer.stats().frames.written.frames == u64::from(FRAMES)
            })
            .await;
            let sent = peer.stats().frames;
            assert_eq!((sent.offered, sent.accepted), (sent.written, sent.written));
            end([a, b]).await;
        });
    }
}

#[test]
fn what_does_not_fit_comes_back_in_order_and_can_be_sent_later() {
    const FRAMES: u32 = 5_000;

    for config in configs() {
        run(async {
            let a = node(config.queue_frames(100));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let peer = a.peer(to).expect("known");
            let mut taken = 0;
            let frames = (0..FRAMES).map(|number| {
                taken += 1;
                (group(1), numbered(number, 10))
            });
            let err = peer.try_send_all(frames).expect_err("room for 99");
            assert_eq!(err.accepted(), 99);
            assert!(err.is_full());
            let SendError::Full { limit, .. } = err.reason() else {
                panic!("{err}");
            };
            assert_eq!(limit, QueueLimit::Frames);
            let told = err.to_string();
            assert!(told.starts_with("accepted 99 frames"), "{told}");
            assert!(told.contains("queue is full"), "{told}");
            // The one that was refused counts, and those behind it do not.
            let stats = peer.stats().frames;
            assert_eq!(stats.offered.frames, 1 + 100);
            assert_eq!(stats.rejected.full_frames.frames, 1);
            assert_eq!(err.size_hint().0, (FRAMES - 99) as usize);

            let sending = peer.send_all(err);
            let reading = async {
                let mut tap = plugged.pull().await;
                for expected in 0..FRAMES {
                    assert_eq!(tap.number().await, expected);
                }
                tap
            };
            let (sent, _tap) = tokio::join!(sending, reading);
            sent.expect("runs");
            assert_eq!(taken, FRAMES);
            let stats = peer.stats().frames;
            assert_eq!(stats.accepted.frames, u64::from(FRAMES) + 1);
            end([a]).await;
        });
    }
}

#[test]
fn a_refused_frame_in_the_middle_keeps_those_behind_it_from_being_sent() {
    for config in placements() {
        run(async {
            let config = config.max_frame(1_000);
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("room");
            let frames = [10, 10, 2_000, 10].map(|len| (group(1), vec![7; len]));
            let err = peer.try_send_all(frames.clone()).expect_err("too large");
            assert_eq!(err.accepted(), 2);
            assert!(
                matches!(
                    err.reason(),
                    SendError::TooLarge {
                        len: 2_000,
                        max: 992,
                        ..
                    }
                ),
                "{err}"
            );
            assert!(err.eq(frames[2..].iter().cloned()));
            let err = peer.send_all(frames.clone()).await.expect_err("as before");
            assert_eq!(err.accepted(), 2);
            assert!(err.eq(frames[2..].iter().cloned()));
            for _ in 0..4 {
                assert_eq!(seen.next().await.payload.len(), 10);
            }
            let stats = peer.stats().frames;
            assert_eq!((stats.offered.frames, stats.accepted.frames), (6, 4));
            assert_eq!(stats.rejected.too_large.frames, 2);
            end([a, b]).await;
        });
    }
}

#[test]
fn an_endless_burst_is_taken_up_to_the_bound_and_little_further() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(5_000));
            let (listener, to) = listener();
            let _plugged = Plugged::new(&a, &listener).await;
            let peer = a.peer(to).expect("known");
            let mut taken = 0;
            let endless = std::iter::repeat_with(|| {
                taken += 1;
                (group(1), [7; 10])
            });
            let err = peer.try_send_all(endless).expect_err("endless");
            assert_eq!(err.accepted(), 4_999);
            drop(err);
            assert!((5_000..7_000).contains(&taken), "{taken}");
            end([a]).await;
        });
    }
}

/// Whoever sends to a peer while a burst is under way must not wait for the iterator of that burst.
#[test]
fn a_burst_whose_iterator_is_slow_does_not_delay_the_frames_of_others() {
    let [dedicated, ..] = placements();
    run(async {
        // Nothing but the burst wakes the writer.
        let config = dedicated.stale_after(NEVER).idle_timeout(NEVER);
        let (a, b) = (node(config.clone()), node(config));
        let _seen = serve(&b, [1, 2]);
        let peer = a.peer(b.local_addr()).expect("room");
        let all_written = || {
            let frames = peer.stats().frames;
            frames.written == frames.accepted
        };
        // Most of the time the writer sleeps when a burst begins, and the burst has to wake it. Otherwise a
        // timer of the writer does, after two seconds, and so many rounds take longer than a test may.
        for _ in 0..40 {
            let frames = (0..4_000).map(|number| {
                if number == 2_000 {
                    peer.try_send(group(2), "another").expect("room");
                    block_until("written", all_written);
                }
                (group(1), numbered(number, 10))
            });
            peer.try_send_all(frames).expect("room");
            until("written", all_written).await;
        }
        end([a, b]).await;
    });
}

#[test]
fn a_burst_that_waits_gets_through_a_queue_of_one_frame() {
    const FRAMES: u32 = 500;

    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone().queue_frames(1)), node(config));
            let mut seen = serve(&b, [1]);
            let peer = a.peer(b.local_addr()).expect("room");
            let sender = std::thread::spawn(move || {
                let frames = (0..FRAMES).map(|number| (group(1), numbered(number, 10)));
                futures::executor::block_on(peer.send_all(frames)).expect("runs");
            });
            for expected in 0..FRAMES {
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            sender.join().expect("all sent");
            end([a, b]).await;
        });
    }
}

#[test]
fn a_cancelled_burst_has_sent_what_was_accepted_and_holds_no_room() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(4));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let peer = a.peer(to).expect("known");
            let frames = (0..10).map(|number| (group(1), numbered(number, 10)));
            assert!(peer.send_all(frames).now_or_never().is_none(), "full");
            let stats = peer.stats().frames;
            assert_eq!((stats.offered.frames, stats.accepted.frames), (4, 4));
            let mut tap = plugged.pull().await;
            for number in 0..3 {
                assert_eq!(tap.number().await, number);
            }
            until("room", || peer.stats().frames.queued.is_zero()).await;
            let frames = (3..7).map(|number| (group(1), numbered(number, 10)));
            until("written", || peer.stats().frames.in_flight.is_zero()).await;
            peer.try_send_all(frames).expect("room for four");
            for number in 3..7 {
                assert_eq!(tap.number().await, number);
            }
            end([a]).await;
        });
    }
}

#[test]
fn a_burst_is_refused_whole_when_the_transport_stops() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(4));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let peer = a.peer(to).expect("known");
            let frames = || (0..2_000).map(|number| (group(1), numbered(number, 10)));
            let mut waiting = Box::pin(peer.send_all(frames()));
            assert!(waiting.as_mut().now_or_never().is_none(), "full");
            a.stop(Shutdown::Now).await;
            let err = waiting.await.expect_err("stopped");
            assert!(err.is_stopped(), "{err}");
            assert_eq!(err.accepted(), 3);
            assert!(err.eq(frames().skip(3)));
            let err = peer.try_send_all(frames()).expect_err("stopped");
            assert!(err.is_stopped() && err.accepted() == 0, "{err}");
            assert!(err.eq(frames()));
            assert_eq!(peer.stats().frames.rejected.stopped.frames, 2);
            balanced([&a]);
            drop(plugged);
        });
    }
}

// ---- payloads of two pieces -------------------------------------------------------------------------

#[test]
fn a_header_in_front_of_a_body_arrives_as_one_payload_and_the_body_is_not_copied() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let (short, long) = (Bytes::from(vec![1; 10]), Bytes::from(vec![2; 1 << 20]));
            let peer = a.peer(to).expect("known");
            let frames = [&short, &long].map(|body| (group(1), ([9; 4], body.clone())));
            peer.try_send_all(frames).expect("room");
            assert!(short.is_unique(), "it was copied");
            assert!(!long.is_unique(), "the queue keeps it");
            let refused = a.try_send(to, group(u32::MAX), ([9; 4], long.clone()));
            let (head, body) = refused.expect_err("reserved").into_payload();
            assert_eq!((head, body.as_ptr()), ([9; 4], long.as_ptr()));
            drop(body);

            let mut tap = plugged.pull().await;
            for body in [&short, &long] {
                let (_, payload) = tap.frame().await.expect("the link ended");
                assert_eq!(payload, [&[9; 4], &body[..]].concat());
            }
            until("written", || long.is_unique()).await;
            let bytes = PLUG_BYTES + (8 + 4 + short.len()) + (8 + 4 + long.len());
            until("written", || {
                peer.stats().frames.written.bytes as usize == bytes
            })
            .await;
            end([a]).await;
        });
    }
}

#[test]
fn a_pair_is_one_datagram() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            a.send_datagram(b.local_addr(), group(1), ("head ", b"body"))
                .expect("room");
            assert_eq!(seen.next().await.payload, "head body");
            a.send_auto(b.local_addr(), group(1), ("long ", vec![7; 5_000]))
                .expect("room");
            assert_eq!(seen.next().await.payload.len(), 5_005);
            end([a, b]).await;
        });
    }
}
