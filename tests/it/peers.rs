//! Which peers a transport knows, for how long, and what it counts for each.

use std::{net::SocketAddr, time::Duration};

use actix_transport::{Config, Peer, PeerError, SendStats, Shutdown, Transport};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Both placements, with settings by which idle peers are soon forgotten.
fn configs() -> [Config; 3] {
    placements().map(|config| config.idle_timeout(20 * MS))
}

async fn forgotten(transport: &Transport, peers: u64) {
    until("forgotten", || transport.stats().links.peers == peers).await;
}

#[test]
fn a_peer_handle_connects_only_when_it_sends() {
    for config in placements() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            assert_eq!(peer.addr(), to);
            let stats = peer.stats();
            assert_eq!(
                (stats.addr, stats.connected, stats.epoch),
                (Some(to), false, 0)
            );
            assert_eq!(stats.frames, SendStats::default());
            assert_eq!(a.stats().links.peers, 1);
            // A connection made earlier would be first in the listener's backlog, before the one
            // with the frame.
            peer.try_send(group(1), numbered(1, 4)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            let links = a.stats().links;
            assert_eq!((links.dials, links.connects), (1, 1));
            end([a]).await;
        });
    }
}

#[test]
fn an_idle_peer_that_nobody_holds_is_forgotten_but_its_counts_stay_in_the_totals() {
    for config in configs() {
        run(async {
            // Three peers: one that takes frames, one that is away, and one that only a handle was
            // asked for.
            let config = config.stale_after(400 * MS).redial_first(MS);
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let away = Vacant::new();
            for round in 1..=2 {
                a.try_send(b.local_addr(), group(1), numbered(round, 50))
                    .expect("room");
                assert_eq!(number(&seen.next().await.payload), round);
                a.try_send(away.addr(), group(1), numbered(round, 20))
                    .expect("room");
                drop(a.peer(a.local_addr()).expect("room"));
                forgotten(&a, 0).await;
                assert!(a.peer_stats(b.local_addr()).is_none());
                assert!(a.peer_stats(away.addr()).is_none());

                let (sent, links) = (a.stats().tcp, a.stats().links);
                let (written, stale) = (sent.written, sent.dropped.stale);
                assert_eq!(
                    (written.frames, written.bytes),
                    (round.into(), 58 * u64::from(round))
                );
                assert_eq!(
                    (stale.frames, stale.bytes),
                    (round.into(), 28 * u64::from(round))
                );
                assert_eq!(sent.offered, written + stale);
                assert_eq!(
                    (links.connects, links.disconnects),
                    (round.into(), round.into())
                );
                balanced([&a, &b]);
            }
            end([a, b]).await;
        });
    }
}

#[test]
fn a_forgotten_peer_starts_with_fresh_counts() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            for number in 1..=3 {
                let peer = a.peer(to).expect("room");
                peer.try_send(group(1), numbered(number, 4)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, number);
                let stats = peer.stats();
                assert_eq!((stats.epoch, stats.frames.offered.frames), (1, 1));
                drop(peer);
                forgotten(&a, 0).await;
            }
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_is_known_for_as_long_as_somebody_holds_it() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            let another = peer.clone();
            peer.try_send(group(1), numbered(1, 4)).expect("room");
            let tap = Tap::accept(&listener).await;
            assert_eq!(
                tap.read_to_end().await,
                (vec![1], 0),
                "its idle link is closed"
            );
            // Other peers come and are forgotten, one after another. This one stays as long as
            // either handle is held.
            for held in [Some(peer), Some(another)] {
                for port in 1..=3 {
                    let other = SocketAddr::from(([127, 9, 9, 9], port));
                    drop(a.peer(other).expect("room"));
                    until("forgotten", || a.peer_stats(other).is_none()).await;
                }
                let stats = a.peer_stats(to).expect("held");
                assert_eq!((stats.epoch, stats.frames.written.frames), (1, 1));
                drop(held);
            }
            forgotten(&a, 0).await;
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_with_queued_frames_is_not_forgotten() {
    for config in configs() {
        run(async {
            let config = config
                .idle_timeout(MS)
                .redial_first(10 * MS)
                .redial_max(10 * MS);
            let a = node(config.stale_after(Duration::from_secs(3600)));
            let away = Vacant::new();
            let to = away.addr();
            a.try_send(to, group(1), numbered(1, 4)).expect("room");
            // It is dialled in vain for much longer than a peer may be idle.
            until("dialled", || a.stats().links.dials >= 10).await;
            assert_eq!(a.peer_stats(to).expect("known").frames.queued.frames, 1);
            let listener = away.listen();
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            forgotten(&a, 0).await;
            end([a]).await;
        });
    }
}

#[test]
fn no_frame_is_lost_while_its_peer_is_being_forgotten() {
    const FRAMES: u32 = 150;

    for config in configs() {
        run(async {
            // The peer is forgotten after about every frame.
            let (a, b) = (node(config.clone().idle_timeout(MS)), node(config));
            let mut seen = serve(&b, [1]);
            for expected in 0..FRAMES {
                a.try_send(b.local_addr(), group(1), numbered(expected, 4))
                    .expect("room");
                assert_eq!(number(&seen.next().await.payload), expected);
                // Pauses from shorter to longer than it takes until the link is closed and the peer
                // is forgotten.
                tokio::time::sleep(Duration::from_micros(u64::from(expected) * 35)).await;
            }
            forgotten(&a, 0).await;
            let sent = a.stats().tcp;
            assert_eq!(
                (sent.written, sent.written.frames),
                (sent.offered, FRAMES.into())
            );
            end([a, b]).await;
        });
    }
}

#[test]
fn each_peer_has_its_own_counts_and_they_add_up_to_the_totals() {
    for config in placements() {
        run(async {
            let a = node(config.clone());
            let others = [(); 3].map(|()| node(config.clone()));
            let mut seen: Vec<_> = others.iter().map(|other| serve(other, [1])).collect();
            for (index, other) in others.iter().enumerate() {
                for number in 0..=index {
                    let payload = numbered(number as u32, 100);
                    a.try_send(other.local_addr(), group(1), payload)
                        .expect("room");
                }
                for _ in 0..=index {
                    seen[index].next().await;
                }
            }
            until("written", || a.stats().tcp.in_flight.is_zero()).await;
            let mut sum = SendStats::default();
            for (index, other) in others.iter().enumerate() {
                let stats = a.peer_stats(other.local_addr()).expect("known");
                assert_eq!(stats.peer, other.local_addr());
                assert_eq!((stats.connected, stats.epoch), (true, 1));
                assert_eq!(stats.frames.written.frames, index as u64 + 1);
                assert_eq!(stats.balance(), Ok(()));
                sum += stats.frames;
            }
            assert_eq!(a.stats().tcp, sum);
            assert_eq!(a.stats().links.peers, 3);
            let [b, c, d] = others;
            end([a, b, c, d]).await;
        });
    }
}

#[test]
fn two_handles_to_one_address_share_one_peer_and_one_link() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        let mapped = format!("[::ffff:127.0.0.1]:{}", b.local_addr().port());
        let handles = [
            a.peer(b.local_addr()).expect("room"),
            a.peer(mapped).expect("room"),
        ];
        for (number, handle) in handles.iter().enumerate() {
            let payload = numbered(number as u32, 4);
            handle.try_send(group(1), payload).expect("room");
        }
        a.try_send(b.local_addr(), group(1), numbered(2, 4))
            .expect("room");
        for expected in 0..3 {
            assert_eq!(number(&seen.next().await.payload), expected);
        }
        assert!(handles.iter().all(|handle| handle.addr() == b.local_addr()));
        assert_eq!(a.stats().links.peers, 1);
        assert_eq!(b.stats().links.accepted, 1);
        end([a, b]).await;
    });
}

#[test]
fn a_stopped_transport_makes_no_new_handles_but_existing_ones_still_show_counts() {
    run(async {
        let a = node(Config::default());
        let (_listener, to) = listener();
        let peer = a.peer(to).expect("room");
        a.stop(Shutdown::Now).await;
        let other = SocketAddr::from(([127, 9, 9, 9], 1));
        assert_eq!(a.peer(other).expect_err("stopped"), PeerError::Stopped);
        assert!(
            peer.try_send(group(1), "x")
                .is_err_and(|err| err.is_stopped())
        );
        assert_eq!(peer.stats().frames.rejected.stopped.frames, 1);
        drop(a);
        assert!(
            peer.try_send(group(1), "x")
                .is_err_and(|err| err.is_stopped())
        );
        assert_eq!(peer.stats().balance(), Ok(()));
    });
}

#[test]
fn handles_can_be_cloned_and_shared_between_threads() {
    fn anywhere<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    anywhere::<Peer>();
    anywhere::<Transport>();
}
