//! What a send queue holds: how much, for how long, and how senders wait for room.
//!
//! Most tests put a plug into the link. However long a test takes, nothing behind the plug moves,
//! so the frames in the queue can be counted exactly.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use actix_transport::{
    Config, DropReason, Overflow, Peer, PeerEvent, QueueLimit, SendError, Shutdown,
};
use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::net::TcpListener;

use crate::support::*;

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// How far the clock that gives frames their age may lag.
const CLOCK_STEP: Duration = Duration::from_millis(10);

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

fn full<T>(limit: QueueLimit, payload: T) -> Result<(), (QueueLimit, T)> {
    Err((limit, payload))
}

/// A send's result in a form that can be compared.
fn outcome<T>(sent: Result<(), SendError<T>>) -> Result<(), (QueueLimit, T)> {
    match sent {
        Ok(()) => Ok(()),
        Err(SendError::Full { limit, payload }) => Err((limit, payload)),
        Err(err) => panic!("{err}"),
    }
}

// ---- bounds ----------------------------------------------------------------------------------------

#[test]
fn a_queue_holds_as_many_frames_as_configured_and_not_one_more() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(100));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            for number in 1..100 {
                let sent = a.try_send(to, group(1), numbered(number, 10));
                assert_eq!(outcome(sent), Ok(()), "frame {number} of 100");
            }
            // Refused however small it is and however often it is tried. The plug still counts, as
            // it is being written.
            for _ in 0..3 {
                let sent = a.try_send(to, group(1), vec![7]);
                assert_eq!(outcome(sent), full(QueueLimit::Frames, vec![7]));
            }
            let frames = a.peer_stats(to).expect("known").frames;
            assert_eq!((frames.queued.frames, frames.in_flight.frames), (99, 1));
            assert_eq!(frames.rejected.full_frames.frames, 3);
            assert_eq!(frames.rejected.full_frames.bytes, 3 * 9);
            balanced([&a]);

            let mut tap = plugged.pull().await;
            for number in 1..100 {
                assert_eq!(tap.number().await, number);
            }
            until("room again", || {
                a.try_send(to, group(1), numbered(100, 10)).is_ok()
            })
            .await;
            assert_eq!(tap.number().await, 100);
            end([a]).await;
        });
    }
}

#[test]
fn a_queue_holds_as_many_bytes_as_configured_and_not_one_more() {
    for config in configs() {
        run(async {
            let a = node(config.queue_bytes(PLUG_BYTES + 1000));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            // With its header of eight bytes, each takes a hundred bytes.
            for number in 0..9 {
                let sent = a.try_send(to, group(1), numbered(number, 92));
                assert_eq!(
                    outcome(sent),
                    Ok(()),
                    "a hundred bytes after {number} hundred"
                );
            }
            let too_long = numbered(9, 93);
            let sent = a.try_send(to, group(1), too_long.clone());
            assert_eq!(outcome(sent), full(QueueLimit::Bytes, too_long));
            let sent = a.try_send(to, group(1), numbered(9, 92));
            assert_eq!(outcome(sent), Ok(()), "the last hundred bytes");
            // An empty payload still has a header.
            let sent = a.try_send(to, group(1), "");
            assert_eq!(outcome(sent), full(QueueLimit::Bytes, ""));

            let frames = a.peer_stats(to).expect("known").frames;
            assert_eq!(frames.queued.bytes, 1000);
            assert_eq!(frames.rejected.full_bytes.frames, 2);
            let mut tap = plugged.pull().await;
            for number in 0..10 {
                assert_eq!(tap.number().await, number);
            }
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_does_not_read_does_not_hold_up_the_others() {
    for config in configs() {
        run(async {
            let (a, b) = (node(config.clone().queue_frames(100)), node(config));
            let (listener, stuck) = listener();
            let _plugged = Plugged::new(&a, &listener).await;
            while a.try_send(stuck, group(1), vec![0; 100_000]).is_ok() {}
            let mut seen = serve(&b, [1]);
            for expected in 0..1000 {
                let payload = numbered(expected, 1000);
                a.send(b.local_addr(), group(1), payload)
                    .await
                    .expect("runs");
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            end([a, b]).await;
        });
    }
}

// ---- age -------------------------------------------------------------------------------------------

/// Waits until the events have reported this many stale frames.
async fn told_stale(events: &mut Seen<PeerEvent>, mut frames: u64) {
    while frames > 0 {
        if let PeerEvent::Dropped { reason, count, .. } = events.next().await {
            assert_eq!(reason, DropReason::Stale);
            frames -= count.frames;
        }
    }
}

#[test]
fn frames_for_a_peer_that_is_away_go_stale_by_the_clock() {
    const STALE_AFTER: Duration = Duration::from_millis(50);

    for config in placements() {
        run(async {
            // After the first failed dial, only the age of the frames wakes the writer.
            let config = config.redial_first(NEVER).redial_max(NEVER);
            let a = node(config.stale_after(STALE_AFTER));
            let mut events = watch(&a);
            let away = Vacant::new();
            for round in 1..=2 {
                let sent = Instant::now();
                for number in 0..100 {
                    let payload = vec![0; 1 + 1000 * number];
                    a.try_send(away.addr(), group(1), payload).expect("room");
                }
                told_stale(&mut events, 100).await;
                let waited = sent.elapsed();
                assert!(waited + CLOCK_STEP >= STALE_AFTER, "{waited:?}");
                let peer = a
                    .peer_stats(away.addr())
                    .expect("not idle long enough to be forgotten");
                assert!(peer.frames.queued.is_zero() && peer.frames.in_flight.is_zero());
                assert_eq!(peer.frames.dropped.stale, peer.frames.accepted);
                assert_eq!(peer.frames.dropped.stale.frames, round * 100);
            }
            end([a]).await;
        });
    }
}

#[test]
fn frames_behind_a_link_that_is_stuck_go_stale_by_the_clock() {
    const STALE_AFTER: Duration = Duration::from_millis(300);

    for config in configs() {
        run(async {
            let a = node(config.stale_after(STALE_AFTER));
            let mut events = watch(&a);
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let sent = Instant::now();
            for number in 0..100 {
                a.try_send(to, group(1), numbered(number, 1000))
                    .expect("room");
            }
            told_stale(&mut events, 100).await;
            let waited = sent.elapsed();
            assert!(waited + CLOCK_STEP >= STALE_AFTER, "{waited:?}");

            // The plug is older, but a part of it is on the wire, so it stays. The link stays up.
            let peer = a.peer_stats(to).expect("known");
            assert_eq!(peer.frames.dropped.stale.frames, 100);
            assert!(peer.frames.queued.is_zero(), "{peer:?}");
            assert_eq!(peer.frames.in_flight.bytes as usize, PLUG_BYTES);
            assert_eq!((peer.connected, peer.epoch), (true, 1));
            balanced([&a]);

            // Stale frames leave no gap: the next frame comes right behind the plug.
            let mut tap = plugged.pull().await;
            a.try_send(to, group(1), numbered(100, 10)).expect("room");
            assert_eq!(tap.number().await, 100);
            end([a]).await;
        });
    }
}

#[test]
fn frames_go_stale_even_if_the_queue_was_empty_when_the_link_got_stuck() {
    for config in configs() {
        run(async {
            let a = node(config.stale_after(Duration::from_millis(300)));
            let mut events = watch(&a);
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            // In the second round the plug itself is stale, and for a while it was the only frame.
            for round in 1..=2 {
                for number in 0..10 {
                    a.try_send(to, group(1), numbered(number, 10))
                        .expect("room");
                }
                until("stale", || {
                    let frames = a.peer_stats(to).expect("known").frames;
                    frames.dropped.stale.frames == round * 10
                })
                .await;
                told_stale(&mut events, 10).await;
            }
            drop(plugged);
            end([a]).await;
        });
    }
}

#[test]
fn frames_taken_for_writing_go_stale_when_the_link_gets_stuck_except_a_partly_written_one() {
    const FRAMES: u32 = 3000;
    const LEN: usize = 7000;
    // More than the sockets' buffers hold, in frames so small that one write takes many.
    const { assert!(FRAMES as usize * LEN > PLUG) };

    for config in configs() {
        run(async {
            let a = node(config.stale_after(Duration::from_millis(300)));
            let (listener, to) = listener();
            for number in 0..FRAMES {
                a.try_send(to, group(1), numbered(number, LEN))
                    .expect("room");
            }
            let mut tap = Tap::accept(&listener).await;
            until("stale", || {
                let frames = a.peer_stats(to).expect("known").frames;
                let left = frames.queued + frames.in_flight;
                !frames.dropped.stale.is_zero() && left.frames <= 1
            })
            .await;
            balanced([&a]);
            a.try_send(to, group(1), numbered(FRAMES, LEN))
                .expect("room");
            // The peer gets the frames that were written, the one that was partly written, and the
            // new one.
            let mut last = None;
            while last != Some(FRAMES) {
                let number = tap.number().await;
                assert!(last < Some(number), "{number} after {last:?}");
                last = Some(number);
            }
            let frames = a.peer_stats(to).expect("known");
            assert_eq!((frames.connected, frames.epoch), (true, 1));
            end([a]).await;
        });
    }
}

#[test]
fn frames_for_a_peer_that_is_away_wait_and_arrive_in_order() {
    for config in placements() {
        run(async {
            let ms = Duration::from_millis(1);
            let config = config.redial_first(ms).redial_max(10 * ms);
            let a = node(config.stale_after(NEVER));
            let mut events = watch(&a);
            let away = Vacant::new();
            let to = away.addr();
            for number in 0..500 {
                a.try_send(to, group(1), numbered(number, 100))
                    .expect("room");
            }
            events
                .until(|event| matches!(event, PeerEvent::Unreachable { failures: 3.., .. }))
                .await;
            assert_eq!(a.stats().tcp.queued.frames, 500);
            let listener = away.listen();
            let mut tap = Tap::accept(&listener).await;
            for number in 0..500 {
                assert_eq!(tap.number().await, number);
            }
            end([a]).await;
        });
    }
}

// ---- dropping the oldest ---------------------------------------------------------------------------

#[test]
fn a_queue_that_drops_the_oldest_keeps_as_many_of_the_newest_as_fit() {
    for config in configs() {
        for by_bytes in [false, true] {
            run(async {
                let config = config.clone().overflow(Overflow::DropOldest);
                let a = node(match by_bytes {
                    false => config.queue_frames(11),
                    true => config.queue_bytes(PLUG_BYTES + 10 * 100),
                });
                let mut events = watch(&a);
                let (listener, to) = listener();
                let plugged = Plugged::new(&a, &listener).await;
                for number in 0..100 {
                    let sent = a.try_send(to, group(1), numbered(number, 92));
                    assert_eq!(outcome(sent), Ok(()));
                }
                let frames = a.peer_stats(to).expect("known").frames;
                assert_eq!(frames.queued.frames, 10);
                assert_eq!(frames.dropped.overflow.frames, 90);
                balanced([&a]);
                let mut tap = plugged.pull().await;
                for number in 90..100 {
                    assert_eq!(tap.number().await, number);
                }
                let mut told = 0;
                while told < 90 {
                    if let PeerEvent::Dropped { reason, count, .. } = events.next().await {
                        assert_eq!(reason, DropReason::Overflow);
                        told += count.frames;
                    }
                }
                assert_eq!(told, 90);
                end([a]).await;
            });
        }
    }
}

#[test]
fn no_old_frame_is_dropped_for_a_new_one_that_cannot_fit_anyway() {
    for config in configs() {
        run(async {
            let config = config.overflow(Overflow::DropOldest);
            let a = node(config.queue_bytes(PLUG_BYTES + 1000));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            for number in 0..5 {
                a.try_send(to, group(1), numbered(number, 92))
                    .expect("room");
            }
            // The plug is being written and stays. The new frame could not fit beside it even in an
            // otherwise empty queue.
            let long = numbered(5, 1000);
            let sent = a.try_send(to, group(1), long.clone());
            assert_eq!(outcome(sent), full(QueueLimit::Bytes, long));
            let frames = a.peer_stats(to).expect("known").frames;
            assert_eq!(frames.dropped.overflow.frames, 0);
            let mut tap = plugged.pull().await;
            for number in 0..5 {
                assert_eq!(tap.number().await, number);
            }
            end([a]).await;
        });
    }
}

// ---- waiting for room ------------------------------------------------------------------------------

type Sending = Pin<Box<dyn Future<Output = Result<(), SendError<Vec<u8>>>>>>;

/// Begins to send a numbered frame. When this returns, the send waits in line for room.
fn start_waiting(peer: &Peer, number: u32) -> Sending {
    let peer = peer.clone();
    let mut sending: Sending =
        Box::pin(async move { peer.send(group(1), numbered(number, 10)).await });
    let refused = sending.as_mut().now_or_never();
    assert!(refused.is_none(), "there is no room for {number}");
    sending
}

/// A peer whose queue is full: behind the plug are frames 0, 1 and 2.
async fn full_peer(
    transport: &actix_transport::Transport,
    listener: &TcpListener,
) -> (Peer, Plugged) {
    let plugged = Plugged::new(transport, listener).await;
    let to = listener.local_addr().expect("bound");
    let peer = transport.peer(to).expect("room");
    for number in 0..3 {
        peer.try_send(group(1), numbered(number, 10)).expect("room");
    }
    (peer, plugged)
}

#[test]
fn waiting_sends_get_room_in_the_order_in_which_they_began() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(4));
            let (listener, _) = listener();
            let (peer, plugged) = full_peer(&a, &listener).await;
            // Polls only senders that were woken, in the order in which they were. A sender that is polled
            // for another reason may find that it has room before an earlier one is polled.
            let mut waiting: FuturesUnordered<_> =
                (3..20).map(|number| start_waiting(&peer, number)).collect();
            let polled = waiting.next().now_or_never();
            assert!(polled.is_none(), "all have their wakers in line");
            let offered = peer.stats().frames.offered.frames;
            assert_eq!(offered, 4, "a waiting send is not counted yet");

            // A sender that does not wait gets only the room that no waiting sender needs.
            let (hasty, done) = (peer.clone(), std::sync::mpsc::channel::<()>());
            let hasty = std::thread::spawn(move || {
                while done.1.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let _ = hasty.try_send(group(2), numbered(0, 10));
                    std::thread::yield_now();
                }
            });
            let reading = async {
                let mut tap = plugged.pull().await;
                // There is room for it only when fewer than four senders wait, that is after frame
                // 16.
                for expected in 0..17 {
                    let (group, payload) = tap.frame().await.expect("the link ended");
                    assert_eq!((group, number(&payload)), (1, expected));
                }
                let (mut expected, mut hasty) = (17, 0);
                while expected < 20 || hasty == 0 {
                    match tap.frame().await.expect("the link ended") {
                        (1, payload) => {
                            assert_eq!(number(&payload), expected);
                            expected += 1;
                        }
                        _ => hasty += 1,
                    }
                }
                drop(done.0);
                tap
            };
            let (sent, _tap) = tokio::join!(waiting.collect::<Vec<_>>(), reading);
            assert!(sent.len() == 17 && sent.iter().all(Result::is_ok));
            hasty.join().expect("runs");
            end([a]).await;
        });
    }
}

#[test]
fn a_cancelled_send_sends_nothing_is_not_counted_and_does_not_delay_the_others() {
    for config in configs() {
        run(async {
            let a = node(config.queue_frames(4));
            let (listener, _) = listener();
            let (peer, plugged) = full_peer(&a, &listener).await;
            let mut waiting: Vec<_> = (3..9)
                .map(|number| Some(start_waiting(&peer, number)))
                .collect();
            // One send in the middle is cancelled before there is room, the first one when there is
            // room that it could have taken.
            waiting[2] = None;
            let mut tap = plugged.pull().await;
            for number in 0..3 {
                assert_eq!(tap.number().await, number);
            }
            until("room", || peer.stats().frames.queued.is_zero()).await;
            waiting[0] = None;
            // The last ones are cancelled, too, while the one before them still waits.
            waiting[4] = None;
            waiting[5] = None;
            for sending in waiting.into_iter().flatten() {
                assert!(sending.await.is_ok());
            }
            assert_eq!((tap.number().await, tap.number().await), (4, 6));
            // Nobody waits any more, so a send that does not wait is accepted. It would find no room if
            // the four cancelled ones had kept theirs.
            peer.try_send(group(1), numbered(9, 10)).expect("room");
            assert_eq!(tap.number().await, 9);
            let frames = peer.stats().frames;
            assert_eq!((frames.offered.frames, frames.accepted.frames), (7, 7));
            end([a]).await;
        });
    }
}

#[test]
fn sends_that_wait_for_room_are_refused_when_the_transport_stops() {
    for config in configs() {
        for how in [Shutdown::Now, Shutdown::Drain(NEVER)] {
            run(async {
                let a = node(config.clone().queue_frames(4));
                let (listener, _) = listener();
                let (peer, plugged) = full_peer(&a, &listener).await;
                let waiting: Vec<_> = (3..8).map(|number| start_waiting(&peer, number)).collect();
                // Even while a drain makes room, the waiting sends do not get it.
                let stopping = async {
                    let (report, _) = tokio::join!(a.stop(how), async {
                        let refused = join_all(waiting).await;
                        for (number, refused) in (3..).zip(refused) {
                            let err = refused.expect_err("stopped");
                            assert!(err.is_stopped(), "{err}");
                            assert_eq!(err.into_payload(), numbered(number, 10));
                        }
                        match how {
                            Shutdown::Now => plugged.into_tap(),
                            Shutdown::Drain(_) => plugged.pull().await,
                        }
                        .read_to_end()
                        .await
                    });
                    report
                };
                let report = stopping.await;
                let frames = peer.stats().frames;
                assert_eq!(frames.rejected.stopped.frames, 5);
                assert_eq!(frames.accepted.frames, 4);
                assert_eq!(report.undelivered.is_empty(), how != Shutdown::Now);
                balanced([&a]);
            });
        }
    }
}

#[test]
fn every_waiting_sender_gets_through_a_queue_of_one_frame() {
    const THREADS: u32 = 4;
    const FRAMES: u32 = 250;

    for config in configs() {
        run(async {
            let (a, b) = (node(config.clone().queue_frames(1)), node(config));
            let mut seen = serve(&b, 0..THREADS);
            let senders: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let peer = a.peer(b.local_addr()).expect("room");
                    std::thread::spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread().build();
                        runtime.expect("a runtime").block_on(async {
                            for number in 0..FRAMES {
                                let payload = numbered(number, 10);
                                peer.send(group(thread), payload).await.expect("runs");
                            }
                        });
                    })
                })
                .collect();
            let mut next = [0; THREADS as usize];
            for _ in 0..THREADS * FRAMES {
                let got = seen.next().await;
                let next = &mut next[got.group as usize];
                assert_eq!(number(&got.payload), *next);
                *next += 1;
            }
            for sender in senders {
                sender.join().expect("all sent");
            }
            end([a, b]).await;
        });
    }
}
