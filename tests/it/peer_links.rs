//! What a handle to a peer can do beside sending: connect, say how things stand, and forget the peer.

use std::time::Duration;

use actix_transport::{Config, DownReason, DropReason, LinkState, PeerEvent, SendError, SendStats};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

// ---- connecting ------------------------------------------------------------------------------------

#[test]
fn a_peer_is_dialled_without_a_frame_when_it_is_asked_to_connect() {
    for config in placements() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            assert_eq!(peer.state(), LinkState::Idle);
            peer.connect();
            let mut tap = Tap::accept(&listener).await;
            until("up", || peer.state() == LinkState::Up).await;
            assert_eq!(peer.stats().frames, SendStats::default());
            // There is a link already, so this does nothing.
            peer.connect();
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            assert_eq!(tap.number().await, 1);
            assert_eq!(a.stats().links.dials, 1);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_is_asked_to_connect_is_connected_although_its_handle_is_dropped() {
    for config in placements() {
        run(async {
            let a = node(config.idle_timeout(MS));
            let (listener, to) = listener();
            for _ in 0..10 {
                let before = a.stats().links.disconnects;
                a.peer(to).expect("room").connect();
                drop(Tap::accept(&listener).await);
                until("ended", || a.stats().links.disconnects > before).await;
            }
            end([a]).await;
        });
    }
}

#[test]
fn connecting_cuts_the_wait_before_the_next_dial_short() {
    for config in placements() {
        run(async {
            let config = config.redial_first(NEVER).redial_max(NEVER);
            let a = node(config.stale_after(NEVER));
            let mut events = watch(&a);
            let away = Vacant::new();
            let peer = a.peer(away.addr()).expect("room");
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            for failures in 1..=3 {
                let event = events.next().await;
                assert!(
                    matches!(event, PeerEvent::Unreachable { failures: told, .. } if told == failures),
                    "{event}"
                );
                assert_eq!(peer.state(), LinkState::Unreachable { failures });
                peer.connect();
            }
            // The third call has begun one more dial, which may come before or after the listener.
            let listener = away.listen();
            let accepting = async { Tap::accept(&listener).await.number().await };
            let asking = async {
                while let PeerEvent::Unreachable { .. } = events.next().await {
                    peer.connect();
                }
            };
            let (number, ()) = tokio::join!(accepting, asking);
            assert_eq!(number, 1);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_is_dialled_once_for_each_time_it_is_asked_to_connect() {
    for config in placements() {
        run(async {
            let a = node(config.redial_first(MS).redial_max(MS).stale_after(NEVER));
            let mut events = watch(&a);
            let (asked, busy) = (Vacant::new(), Vacant::new());
            let peer = a.peer(asked.addr()).expect("room");
            peer.connect();
            let first = events.next().await;
            assert!(
                matches!(first, PeerEvent::Unreachable { failures: 1, .. }),
                "{first}"
            );
            // Another peer, which has a frame, is dialled again and again.
            a.try_send(busy.addr(), group(1), "x").expect("room");
            let often = |event: &PeerEvent| match event {
                PeerEvent::Unreachable { peer, failures, .. } => {
                    assert_eq!(*peer, busy.addr());
                    *failures >= 20
                }
                _ => false,
            };
            events.until(often).await;
            peer.connect();
            let again = |event: &PeerEvent| match event {
                PeerEvent::Unreachable { peer, failures, .. } => {
                    *peer == asked.addr() && *failures == 2
                }
                _ => false,
            };
            events.until(again).await;
            end([a]).await;
        });
    }
}

// ---- forgetting ------------------------------------------------------------------------------------

#[test]
fn a_peer_that_is_forgotten_loses_its_link_and_its_frames_and_its_handles_refuse_more() {
    for config in placements() {
        run(async {
            let a = node(
                config
                    .queue_frames(3)
                    .stale_after(NEVER)
                    .max_frame(PLUG + 8),
            );
            let mut events = watch(&a);
            let (listener, to) = listener();
            // One frame is being written, and two wait for it: the queue is full.
            let tap = Plugged::new(&a, &listener).await.into_tap();
            let peer = a.peer(to).expect("known");
            for number in 1..=2 {
                peer.try_send(group(1), numbered(number, 10)).expect("room");
            }
            let waiting = peer.clone();
            let waits = actix::spawn(async move { waiting.send(group(1), "waits").await });
            tokio::task::yield_now().await; // It begins to wait.
            let full = |err: SendError<&str>| err.is_full();
            assert!(peer.try_send(group(1), "full").is_err_and(full));

            peer.forget();
            assert_eq!(a.peers(), []);
            assert!(a.peer_stats(to).is_none());
            let refused = |err: &SendError<&str>| matches!(err, SendError::Forgotten { .. });
            let waited = waits.await.expect("no panic").expect_err("forgotten");
            assert!(refused(&waited) && waited.into_payload() == "waits");
            let more = peer.try_send(group(1), "more").expect_err("forgotten");
            assert!(refused(&more), "{more}");
            let mut dropped = 0;
            let mut reason = None;
            while dropped < 3 || reason.is_none() {
                match events.next().await {
                    PeerEvent::Dropped {
                        peer,
                        reason,
                        count,
                        ..
                    } => {
                        assert_eq!(peer, Some(to.into()));
                        assert_eq!(reason, DropReason::PeerForgotten);
                        dropped += count.frames;
                    }
                    PeerEvent::Down { reason: why, .. } => reason = Some(why),
                    _ => {}
                }
            }
            assert_eq!((dropped, reason), (3, Some(DownReason::Ended)));
            // Only now: while somebody reads, the frame that was being written could still be finished.
            let (numbers, rest) = tap.read_to_end().await;
            assert!(numbers.is_empty());
            assert!(rest > 0, "a part of the plug");
            // Forgetting it again, and dropping the handles, changes no total.
            peer.forget();
            let totals = a.stats().tcp;
            assert_eq!(totals.dropped.peer_forgotten.frames, 3);
            assert_eq!(
                (totals.offered.frames, totals.rejected.invalid.frames),
                (6, 2)
            );
            balanced([&a]);
            drop(peer);
            assert_eq!(a.stats().tcp, totals);

            // The same address is a new peer.
            let peer = a.peer(to).expect("room");
            assert_eq!((peer.stats().epoch, peer.state()), (0, LinkState::Idle));
            assert_eq!(a.stats().tcp, totals);
            peer.try_send(group(1), numbered(7, 10)).expect("room");
            assert_eq!(Tap::accept(&listener).await.number().await, 7);
            balanced([&a]);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_waits_for_its_next_dial_is_forgotten_at_once() {
    for config in placements() {
        run(async {
            let a = node(
                config
                    .redial_first(NEVER)
                    .redial_max(NEVER)
                    .stale_after(NEVER),
            );
            let mut events = watch(&a);
            let peer = a.peer("127.0.0.1:1").expect("room");
            peer.try_send(group(1), "hello").expect("room");
            events.next().await;
            peer.forget();
            let event = events.next().await;
            assert!(
                matches!(
                    event,
                    PeerEvent::Dropped {
                        reason: DropReason::PeerForgotten,
                        ..
                    }
                ),
                "{event}"
            );
            assert_eq!(a.stats().links.peers, 0);
            // Nobody dials for this handle any more.
            peer.connect();
            assert_ne!(peer.state(), LinkState::Connecting);
            let other = a.peer("127.0.0.1:1").expect("room");
            other.connect();
            let event = events.next().await;
            assert!(
                matches!(event, PeerEvent::Unreachable { failures: 1, .. }),
                "{event}"
            );
            assert_eq!(a.stats().links.dials, 2);
            end([a]).await;
        });
    }
}

#[test]
fn peers_can_be_forgotten_by_many_while_others_send_to_them() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let _seen = serve(&b, [1]);
        let to = b.local_addr();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let a = a.clone();
                std::thread::spawn(move || {
                    for number in 0..500 {
                        let peer = a.peer(to).expect("room");
                        let _ = peer.try_send(group(1), numbered(number, 20));
                        if thread == 0 {
                            peer.forget();
                        }
                        a.stats().balance().expect("balanced");
                    }
                })
            })
            .collect();
        until("done", || threads.iter().all(|thread| thread.is_finished())).await;
        for thread in threads {
            thread.join().expect("balanced");
        }
        until("all written or dropped", || {
            let tcp = a.stats().tcp;
            (tcp.queued + tcp.in_flight).is_zero()
        })
        .await;
        let tcp = a.stats().tcp;
        assert_eq!(tcp.offered.frames, 4 * 500);
        balanced([&a]);
        end([a, b]).await;
    });
}
