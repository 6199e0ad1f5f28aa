//! When as many peers as allowed are known, one without a link makes room for the next.

use std::{net::SocketAddr, time::Duration};

use actix_transport::{Config, DropReason, PeerError, PeerEvent, Transport};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Peers that are neither idle nor stale for as long as a test runs.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        let config = config.stale_after(NEVER).idle_timeout(NEVER);
        config.redial_first(MS).redial_max(10 * MS)
    })
}

/// An address at which nobody listens: a loopback ip that no listener of a test uses.
fn nobody(port: u16) -> SocketAddr {
    ([127, 9, 9, 9], port).into()
}

/// Sends a frame, and waits until the peer has been dialled in vain.
async fn send_in_vain(a: &Transport, events: &mut Seen<PeerEvent>, to: SocketAddr) {
    a.try_send(to, group(1), numbered(0, 12)).expect("room");
    let unreachable =
        |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { peer, .. } if *peer == to);
    events.until(unreachable).await;
}

#[test]
fn the_peer_that_has_been_unreachable_for_longest_makes_room_and_its_frames_are_counted() {
    for config in configs() {
        run(async {
            let a = node(config.clone().max_peers(4));
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let mut events = watch(&a);
            a.try_send(b.local_addr(), group(1), "linked")
                .expect("room");
            seen.next().await;
            let held = a.peer(nobody(1)).expect("room");
            send_in_vain(&a, &mut events, nobody(1)).await;
            send_in_vain(&a, &mut events, nobody(2)).await;
            send_in_vain(&a, &mut events, nobody(3)).await;

            // The peer with a link and the one that somebody holds stay.
            for (gone, new) in [(2, 4), (3, 5), (4, 6)] {
                send_in_vain(&a, &mut events, nobody(new)).await;
                assert!(a.peer_stats(nobody(gone)).is_none());
            }
            assert_eq!(a.stats().links.peers, 4);
            assert_eq!(a.stats().tcp.dropped.peer_forgotten.frames, 3);
            assert_eq!(a.stats().tcp.queued.frames, 3);
            assert_eq!(held.stats().frames.queued.frames, 1);
            a.try_send(b.local_addr(), group(1), "again").expect("room");
            assert_eq!(seen.next().await.payload, "again");
            end([a, b]).await;
        });
    }
}

#[test]
fn the_drop_of_the_frames_of_a_peer_that_made_room_is_told() {
    for config in configs() {
        run(async {
            let a = node(config.max_peers(1));
            let mut events = watch(&a);
            send_in_vain(&a, &mut events, nobody(1)).await;
            drop(a.peer(nobody(2)).expect("the first makes room"));
            let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
            let PeerEvent::Dropped {
                peer,
                reason,
                count,
                ..
            } = events.until(dropped).await
            else {
                unreachable!("it was waited for");
            };
            assert_eq!(
                (peer, reason),
                (Some(nobody(1).into()), DropReason::PeerForgotten)
            );
            assert_eq!((count.frames, count.bytes), (1, 20));
            end([a]).await;
        });
    }
}

#[test]
fn an_idle_peer_makes_room_before_one_with_frames() {
    for config in configs() {
        run(async {
            let a = node(config.max_peers(2));
            let mut events = watch(&a);
            send_in_vain(&a, &mut events, nobody(1)).await;
            drop(a.peer(nobody(2)).expect("room"));
            let _held = a.peer(nobody(3)).expect("the idle one makes room");
            assert!(a.peer_stats(nobody(1)).is_some() && a.peer_stats(nobody(2)).is_none());
            let _too = a.peer(nobody(4)).expect("the unreachable one makes room");
            let full = a.peer(nobody(5)).expect_err("all are held");
            assert_eq!(full, PeerError::TooMany { max: 2 });
            end([a]).await;
        });
    }
}

#[test]
fn sends_to_ever_new_addresses_where_nobody_is_keep_nobody_out() {
    const MAX: usize = 50;

    for config in configs() {
        run(async {
            let a = node(config.clone().max_peers(MAX));
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let mut events = watch(&a);
            for port in 1..=4 * MAX as u16 {
                send_in_vain(&a, &mut events, nobody(port)).await;
            }
            a.try_send(b.local_addr(), group(1), "hello").expect("room");
            assert_eq!(seen.next().await.payload, "hello");
            let stats = a.stats();
            assert_eq!(stats.links.peers, MAX as u64);
            let gone = 3 * MAX as u64 + 1;
            assert_eq!(stats.tcp.dropped.peer_forgotten.frames, gone);
            end([a, b]).await;
        });
    }
}
