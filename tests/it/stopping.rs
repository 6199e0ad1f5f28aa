//! How a transport stops: what is still delivered, what the report says about the other frames, and
//! that no resource is left over.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use actix_transport::{
    Config, Count, DropReason, GroupOverflow, LinkState, PeerEvent, SendError, Shutdown,
    StopReport, Transport,
};
use futures::FutureExt;

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

fn patient() -> [Config; 3] {
    placements().map(|config| config.stale_after(NEVER).user_timeout(NEVER))
}

fn bind(config: Config, addr: SocketAddr) -> Transport {
    let bound = Transport::builder().config(config).bind(addr);
    bound.unwrap_or_else(|err| panic!("{err}"))
}

/// Asserts that no frame and no datagram waits or is being written.
fn empty(transport: &Transport) {
    balanced([transport]);
    let stats = transport.stats();
    for waiting in [
        stats.tcp.queued,
        stats.tcp.in_flight,
        stats.udp.queued,
        stats.udp.in_flight,
    ] {
        assert!(waiting.is_zero(), "{stats:?}");
    }
}

// ---- what is still delivered, and what is not ------------------------------------------------------

#[test]
fn a_drain_delivers_what_is_queued_and_takes_no_longer_than_that() {
    const FRAMES: u32 = 5_000;

    for config in patient() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            for number in 0..FRAMES {
                let payload = numbered(number, 1000);
                a.try_send(b.local_addr(), group(1), payload).expect("room");
                if number % 10 == 0 {
                    a.send_datagram(b.local_addr(), group(2), "x")
                        .expect("room");
                }
            }
            let report = a.stop(Shutdown::Drain(NEVER)).await;
            assert_eq!(report, StopReport::default());
            empty(&a);
            let sent = a.stats();
            assert_eq!(sent.tcp.written.frames, u64::from(FRAMES));
            assert_eq!(sent.udp.written.frames, u64::from(FRAMES) / 10);
            for expected in 0..FRAMES {
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            end([b]).await;
        });
    }
}

#[test]
fn a_drain_keeps_dialling_a_peer_until_it_answers() {
    for config in patient() {
        run(async {
            let config = config.redial_first(MS).redial_max(5 * MS);
            let a = node(config);
            let away = Vacant::new();
            a.try_send(away.addr(), group(1), numbered(1, 4))
                .expect("room");
            until("tried in vain", || a.stats().links.dials > 2).await;
            let there = async {
                let listener = away.listen();
                let tap = Tap::accept(&listener).await;
                tap.read_to_end().await
            };
            let (report, read) = tokio::join!(a.stop(Shutdown::Drain(NEVER)), there);
            assert_eq!((report, read), (StopReport::default(), (vec![1], 0)));
            empty(&a);
        });
    }
}

/// Sends more bytes than the sockets on the way hold: all of it is written only if the other side
/// reads.
fn send_much(from: &Transport, to: &Transport) {
    const FRAMES: usize = 40;
    const LEN: usize = 500_000;
    const { assert!(FRAMES * LEN > PLUG) };

    for _ in 0..FRAMES {
        from.try_send(to.local_addr(), group(1), vec![0; LEN])
            .expect("room");
    }
}

#[test]
fn a_node_that_drains_towards_itself_reads_what_it_writes() {
    for config in patient() {
        run(async {
            let a = node(config);
            let _seen = serve(&a, [1]);
            send_much(&a, &a);
            let report = a.stop(Shutdown::Drain(NEVER)).await;
            assert_eq!(report, StopReport::default());
            empty(&a);
            assert_eq!(a.stats().tcp.written, a.stats().tcp.accepted);
        });
    }
}

#[test]
fn when_two_nodes_drain_towards_each_other_at_least_one_finishes() {
    for config in patient() {
        run(async {
            let nodes = [node(config.clone()), node(config)];
            let [a, b] = &nodes;
            let _seen = (serve(a, [1]), serve(b, [1]));
            send_much(a, b);
            send_much(b, a);
            // The drain that finishes second may have frames left for the node that is gone by
            // then.
            let drain = Shutdown::Drain(NEVER);
            let report = tokio::select! {
                report = a.stop(drain) => report,
                report = b.stop(drain) => report,
            };
            assert_eq!(report, StopReport::default());
            for node in nodes {
                node.stop(Shutdown::Now).await;
                empty(&node);
            }
        });
    }
}

#[test]
fn a_drain_that_times_out_reports_what_was_left_for_each_peer() {
    const LIMIT: Duration = Duration::from_millis(200);

    for config in patient() {
        run(async {
            let a = node(
                config
                    .clone()
                    .max_frame(PLUG_BYTES)
                    .redial_max(MS)
                    .redial_first(MS),
            );
            let b = node(config);
            let mut seen = serve(&b, [1]);
            let (listener, stuck) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let away = Vacant::new();
            let to_b = a.peer(b.local_addr()).expect("usable");
            to_b.connect();
            until("a link", || to_b.state() == LinkState::Up).await;
            for number in 0..3 {
                a.try_send(stuck, group(1), numbered(number, 92))
                    .expect("room");
                a.try_send(b.local_addr(), group(1), numbered(number, 4))
                    .expect("room");
                a.try_send(away.addr(), group(1), numbered(number, 42))
                    .expect("room");
            }
            let began = Instant::now();
            let report = a.stop(Shutdown::Drain(LIMIT)).await;
            let took = began.elapsed();
            assert!(took >= LIMIT, "{took:?}");
            // On an otherwise idle machine the stop takes some 100 ms longer than the limit.
            assert!(took < LIMIT + Duration::from_secs(2), "{took:?}");

            let mut undelivered = report.undelivered;
            undelivered.sort_by_key(|(_, count)| count.bytes);
            let left: Vec<_> = undelivered
                .iter()
                .map(|(peer, left)| {
                    (
                        peer.ip_addr().expect("an ip"),
                        left.frames,
                        left.bytes as usize,
                    )
                })
                .collect();
            assert_eq!(left, [(away.addr(), 3, 150), (stuck, 4, PLUG_BYTES + 300)]);
            for expected in 0..3 {
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            empty(&a);
            assert_eq!(a.stats().tcp.dropped.stopped.frames, 7);
            drop(plugged);
            end([b]).await;
        });
    }
}

#[test]
fn stopping_now_drops_what_is_queued_and_reports_it() {
    for config in patient() {
        run(async {
            let a = node(config.max_frame(PLUG_BYTES));
            let (listener, stuck) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            for number in 0..9 {
                a.try_send(stuck, group(1), numbered(number, 92))
                    .expect("room");
            }
            let report = a.stop(Shutdown::Now).await;
            let (peer, left) = &report.undelivered[0];
            assert_eq!((peer.ip_addr(), left.frames), (Some(stuck), 10));
            assert_eq!(left.bytes as usize, PLUG_BYTES + 900);
            empty(&a);
            assert_eq!(a.stats().tcp.dropped.stopped, *left);
            // The peer gets a part of the frame that was being written, and nothing else.
            let (numbers, part) = plugged.into_tap().read_to_end().await;
            assert!(numbers.is_empty() && part < PLUG_BYTES);
        });
    }
}

#[test]
fn a_drain_waits_until_what_was_received_is_handled() {
    for config in patient() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let overflow = GroupOverflow::Drop { max_bytes: 1 << 20 };
            let (gate, mut seen) = hold(&b, 1, overflow);
            for number in 0..10 {
                a.try_send(b.local_addr(), group(1), numbered(number, 4))
                    .expect("room");
            }
            until("received", || b.stats().inbound.received.frames == 10).await;
            let opening = async {
                tokio::time::sleep(20 * MS).await;
                gate.open();
            };
            tokio::join!(opening, b.stop(Shutdown::Drain(NEVER)));
            let inbound = b.stats().inbound;
            assert_eq!(inbound.delivered, inbound.received);
            for expected in 0..10 {
                assert_eq!(number(&seen.next().await.payload), expected);
            }
            end([a]).await;
        });
    }
}

#[test]
fn a_drain_waits_for_the_datagrams_that_a_slow_group_holds() {
    run(async {
        let [.., current] = patient();
        let b = node(current);
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let senders = [(); 2].map(|()| std::net::UdpSocket::bind((OWN_IP, 0)).expect("free"));
        for sender in [0, 0, 1] {
            let datagram = [&1_u32.to_le_bytes()[..], b"held"].concat();
            let sent = senders[sender].send_to(&datagram, b.local_addr());
            assert_eq!(sent.expect("room"), datagram.len());
        }
        until("held", || b.stats().inbound.in_delivery.frames == 3).await;
        let stopping = actix_rt::spawn({
            let b = b.clone();
            async move { b.stop(Shutdown::Drain(NEVER)).await }
        });
        tokio::time::sleep(20 * MS).await;
        gate.open();
        stopping.await.expect("stopped");
        for _ in 0..3 {
            seen.next().await;
        }
        let inbound = b.stats().inbound;
        assert_eq!((inbound.received.frames, inbound.delivered.frames), (3, 3));
    });
}

#[test]
fn a_drain_delivers_frames_that_take_several_rounds() {
    // Frames that alternate between two groups. One round delivers `ROUND` of them; the same read
    // brings `MORE` others, which are left for the next round.
    const ROUND: usize = 3_700;
    const MORE: usize = 3_300;

    run(async {
        let [.., current] = patient();
        let b = node(current.batch_frames(ROUND));
        let (gate, _held) = hold(&b, 1, GroupOverflow::Wait);
        let (next_gate, _held) = hold(&b, 4, GroupOverflow::Wait);
        let mut seen = serve(&b, [2, 3]);
        let stream = dial(&b).await;
        let send = |bytes: &[u8]| assert_eq!(stream.try_write(bytes).expect("room"), bytes.len());
        send(&wire(3, &vec![0; FILLS_FIVE_READS - 8]));
        assert_eq!(seen.next().await.group, 3);
        let turns = |group, frames| [wire(2, b""), wire(group, b"")].concat().repeat(frames / 2);
        send(&[turns(1, ROUND), turns(4, MORE)].concat());
        let received = || b.stats().inbound.received.frames as usize;
        until("held", || received() == 1 + ROUND).await;
        // A task of its own: the scheduler wakes it before the connection's task.
        let stopping = actix_rt::spawn({
            let b = b.clone();
            async move { b.stop(Shutdown::Drain(NEVER)).await }
        });
        tokio::time::sleep(20 * MS).await;
        gate.open();
        until("next round", || received() == 1 + ROUND + MORE).await;
        tokio::time::sleep(20 * MS).await;
        assert!(
            !stopping.is_finished(),
            "it must wait for the next round, too"
        );
        next_gate.open();
        stopping.await.expect("stopped");
        let inbound = b.stats().inbound;
        assert_eq!(inbound.delivered, inbound.received, "{inbound:?}");
    });
}

// ---- who may stop it, and what callers are told ----------------------------------------------------

#[test]
fn sends_are_refused_after_a_stop_and_give_the_payload_back() {
    for config in patient() {
        for how in [Shutdown::Now, Shutdown::Drain(NEVER)] {
            run(async {
                let (a, b) = (node(config.clone()), node(config.clone()));
                let mut seen = serve(&b, [1]);
                let (to, new) = (b.local_addr(), SocketAddr::from(([127, 9, 9, 9], 1)));
                let peer = a.peer(to).expect("room");
                peer.try_send(group(1), "last").expect("room");
                assert_eq!(seen.next().await.payload, "last");
                a.stop(how).await;
                let refusals = [
                    a.try_send(to, group(1), "late"),
                    a.try_send(new, group(1), "late"),
                    a.send(to, group(1), "late").await,
                    a.send(new, group(1), "late").await,
                    a.send_datagram(to, group(1), "late"),
                    a.send_auto(to, group(1), "late"),
                    peer.try_send(group(1), "late"),
                    peer.send(group(1), "late").await,
                ];
                for refused in refusals {
                    let Err(SendError::Stopped { payload }) = refused else {
                        panic!("taken, or refused for something else");
                    };
                    assert_eq!(payload, "late");
                }
                let stats = a.stats();
                assert_eq!(stats.tcp.rejected.stopped.frames, 6);
                assert_eq!(stats.udp.rejected.stopped.frames, 2);
                assert!(a.node().is_none());
                balanced([&a]);
                end([b]).await;
                assert!(seen.try_next().is_none());
            });
        }
    }
}

#[test]
fn sends_are_refused_from_the_moment_a_drain_begins() {
    for config in patient() {
        run(async {
            let a = node(config.max_frame(PLUG_BYTES));
            let (listener, to) = listener();
            let plugged = Plugged::new(&a, &listener).await;
            let mut stopping = Box::pin(a.stop(Shutdown::Drain(NEVER)));
            assert!(stopping.as_mut().now_or_never().is_none(), "drained a plug");
            let refused = a.try_send(to, group(1), "late").expect_err("stopping");
            assert!(refused.is_stopped());
            let refused = a.send_datagram(to, group(1), "late");
            assert!(refused.expect_err("stopping").is_stopped());
            let (report, _) = tokio::join!(stopping, plugged.pull());
            assert_eq!(report, StopReport::default());
            empty(&a);
        });
    }
}

#[test]
fn concurrent_stops_get_the_same_report_and_the_first_one_decides_how_to_stop() {
    for config in patient() {
        run(async {
            let a = node(config.clone().max_frame(PLUG_BYTES));
            let (listener, stuck) = listener();
            let _plugged = Plugged::new(&a, &listener).await;
            let other = a.clone();
            let began = Instant::now();
            let (first, second) =
                tokio::join!(a.stop(Shutdown::Drain(100 * MS)), other.stop(Shutdown::Now),);
            assert!(
                began.elapsed() >= 100 * MS,
                "the second stop cut the first one short"
            );
            assert_eq!(first, second);
            assert_eq!(first.undelivered[0].0, stuck);
            let again = a.stop(Shutdown::Drain(NEVER)).await;
            assert_eq!(again, first);
            balanced([&a]);
        });
    }
}

#[test]
fn a_stop_that_is_cancelled_is_finished_by_the_next_one() {
    for config in patient() {
        run(async {
            let a = node(config.max_frame(PLUG_BYTES));
            let (listener, stuck) = listener();
            let _plugged = Plugged::new(&a, &listener).await;
            a.try_send(stuck, group(1), numbered(1, 92)).expect("room");
            let given_up = tokio::time::timeout(20 * MS, a.stop(Shutdown::Drain(NEVER)));
            assert!(given_up.await.is_err(), "drained a plug");
            let report = a.stop(Shutdown::Now).await;
            assert_eq!(report.undelivered.len(), 1);
            assert_eq!(report.undelivered[0].1.frames, 2);
            empty(&a);
        });
    }
}

#[test]
fn dropping_the_last_transport_handle_stops_it_even_if_peers_or_the_node_are_held() {
    for config in patient() {
        run(async {
            let port = Vacant::new();
            let a = bind(config.clone(), port.addr());
            let (listener, to) = listener();
            let (peer, other) = (a.peer(to).expect("room"), a.clone());
            peer.try_send(group(1), numbered(1, 4)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            let b = node(config.clone());
            b.try_send(port.addr(), group(1), "x").expect("room");
            until("linked", || a.stats().links.connections == 1).await;
            until("alive", || a.node().is_some()).await;
            let (node, mut ends) = (a.node(), watch(&b));

            drop(a);
            peer.try_send(group(1), numbered(2, 4))
                .expect("another handle lives");
            assert_eq!(tap.number().await, 2);

            drop(other);
            assert_eq!(tap.read_to_end().await, (vec![], 0));
            let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
            ends.until(down).await;
            assert!(
                peer.try_send(group(1), "late")
                    .is_err_and(|err| err.is_stopped())
            );
            let node = node.expect("alive");
            until("ended", || !node.connected()).await;
            let mut again = None;
            until("the port is free", || {
                let bound = Transport::builder()
                    .config(config.clone())
                    .bind(port.addr());
                again = bound.ok();
                again.is_some()
            })
            .await;
            assert_eq!(peer.stats().balance(), Ok(()));
            end([b, again.expect("bound")]).await;
        });
    }
}

#[test]
fn dropping_the_last_handle_counts_what_was_queued() {
    for config in patient() {
        run(async {
            let a = node(config.max_frame(PLUG_BYTES));
            let (listener, to) = listener();
            let _plugged = Plugged::new(&a, &listener).await;
            let peer = a.peer(to).expect("room");
            peer.try_send(group(1), numbered(1, 92)).expect("room");
            drop(a);
            until("dropped", || {
                peer.stats().frames.dropped.stopped.frames == 2
            })
            .await;
            let frames = peer.stats().frames;
            assert!(frames.queued.is_zero() && frames.in_flight.is_zero());
            assert_eq!(peer.stats().balance(), Ok(()));
        });
    }
}

#[test]
fn dropping_the_last_handle_sends_an_event_for_what_was_queued() {
    for config in patient() {
        run(async {
            let (a, away) = (node(config), Vacant::new().addr());
            let mut events = watch(&a);
            a.try_send(away, group(1), "x").expect("room");
            let unreachable = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { .. });
            events.until(unreachable).await;
            drop(a);
            // The subscriber runs on this thread, which is blocked here while the transport ends.
            std::thread::sleep(10 * MS);
            let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
            match events.until(dropped).await {
                PeerEvent::Dropped {
                    peer,
                    reason,
                    count,
                    ..
                } => assert_eq!(
                    (peer, reason, count.frames),
                    (Some(away.into()), DropReason::Stopped, 1)
                ),
                _ => unreachable!("it was waited for"),
            }
        });
    }
}

#[test]
fn frames_that_were_read_are_counted_even_if_a_stop_prevents_their_delivery() {
    // They come in one read, and take two rounds to deliver.
    const FRAMES: usize = 5_000;

    run(async {
        let [.., current] = patient();
        let b = node(current.batch_frames(FRAMES / 2));
        let (_gate, _held) = hold(&b, 1, GroupOverflow::Wait);
        let mut seen = serve(&b, [2, 3]);
        let stream = dial(&b).await;
        let send = |bytes: &[u8]| assert_eq!(stream.try_write(bytes).expect("room"), bytes.len());
        send(&wire(3, &vec![0; FILLS_FIVE_READS - 8]));
        seen.next().await;
        send(&[wire(1, b""), wire(2, b"")].concat().repeat(FRAMES / 2));
        until("held", || b.stats().inbound.received.frames > 1).await;
        b.stop(Shutdown::Now).await;
        balanced([&b]);
        let inbound = b.stats().inbound;
        assert_eq!(inbound.received.frames as usize, 1 + FRAMES);
    });
}

#[test]
fn a_transport_may_be_dropped_after_its_actix_system_has_ended() {
    for config in patient() {
        let port = Vacant::new();
        let mut made = None;
        run(async {
            made = Some(bind(config.clone(), port.addr()));
        });
        let a = made.expect("made");
        // Nobody is left to write the frame. That is no reason to panic.
        let _ = a.try_send(SocketAddr::from(([127, 0, 0, 1], 9)), group(1), "x");
        balanced([&a]);
        drop(a);
        run(async {
            until("the port is free", || {
                Transport::builder()
                    .config(config.clone())
                    .bind(port.addr())
                    .is_ok()
            })
            .await;
        });
    }
}

// ---- under load ------------------------------------------------------------------------------------

#[test]
fn every_frame_is_accounted_for_when_a_transport_stops_under_load() {
    for config in patient() {
        for round in 0..10 {
            let how = match round % 2 {
                0 => Shutdown::Now,
                _ => Shutdown::Drain(5 * MS),
            };
            run(stop_under_load(
                config.clone().queue_frames(500),
                how,
                round * MS,
            ));
        }
    }
}

async fn stop_under_load(config: Config, how: Shutdown, after: Duration) {
    let (a, b) = (node(config.clone()), node(config));
    let _seen = (serve(&a, [1]), serve(&b, [1]));
    let away = Vacant::new();
    let senders: Vec<_> = [
        (&a, b.local_addr()),
        (&b, a.local_addr()),
        (&a, away.addr()),
    ]
    .into_iter()
    .map(|(from, to)| {
        let from = from.clone();
        std::thread::spawn(move || {
            for number in 0.. {
                let payload = numbered(number, [10, 100, 20_000][number as usize % 3]);
                let sent = from.try_send(to, group(1), payload);
                if sent.is_err_and(|err| err.is_stopped()) {
                    return;
                }
                let _ = from.send_datagram(to, group(1), numbered(number, 10));
            }
        })
    })
    .collect();
    tokio::time::sleep(after).await;
    let report = a.stop(how).await;
    empty(&a);
    let stats = a.stats();
    // What a stop, or a drain that reached its limit, left in a mailbox is counted when it is handled.
    until("handled", || a.stats().inbound.in_delivery.is_zero()).await;
    let left: Count = report.undelivered.iter().map(|(_, count)| *count).sum();
    assert_eq!(left, stats.tcp.dropped.stopped);
    assert_eq!(report.datagrams, stats.udp.dropped.stopped);
    for (peer, left) in report.undelivered {
        let frames = a.peer_stats(peer).expect("known").frames;
        assert_eq!(left, frames.dropped.stopped);
    }
    b.stop(Shutdown::Now).await;
    empty(&b);
    for sender in senders {
        sender.join().expect("is told");
    }
    // The counters were final, except for sends that were refused since.
    let (before, after) = (stats.tcp, a.stats().tcp);
    assert_eq!(
        (before.accepted, before.written, before.dropped),
        (after.accepted, after.written, after.dropped)
    );
}

#[test]
fn a_stop_beside_thousands_of_dead_peers_is_not_held_up_by_telling_many_subscribers() {
    const PEERS: u32 = 4096;
    const SUBSCRIBERS: usize = 50;

    for config in patient() {
        run(async {
            let a = node(config.max_peers(PEERS as usize));
            let mut watching: Vec<_> = (0..SUBSCRIBERS).map(|_| watch(&a)).collect();
            for index in 0..PEERS {
                let ip = std::net::Ipv4Addr::from(0x7F01_0000 + index);
                a.try_send(SocketAddr::from((ip, 9)), group(1), "x")
                    .expect("room");
            }
            until("all tried", || a.stats().links.dials > u64::from(PEERS)).await;
            let report = a.stop(Shutdown::Now).await;
            assert_eq!(report.undelivered.len(), PEERS as usize);
            // Telling 50 subscribers of 4,096 peers makes 200,000 events. Of most, they are only told how
            // many there were.
            let missed = |event: &PeerEvent| matches!(event, PeerEvent::Missed { .. });
            for seen in &mut watching {
                let PeerEvent::Missed { events } = seen.until(missed).await else {
                    unreachable!("it was waited for");
                };
                assert!(events > 3000, "{events}");
            }
        });
    }
}

// ---- nothing is left -------------------------------------------------------------------------------

/// The open descriptors: each one's number and what it refers to.
fn descriptors() -> BTreeSet<(PathBuf, PathBuf)> {
    let open = std::fs::read_dir("/proc/self/fd").expect("linux");
    open.filter_map(|descriptor| {
        let path = descriptor.ok()?.path();
        // The descriptor that reads this directory is closed by now.
        let target = std::fs::read_link(&path).ok()?;
        Some((path, target))
    })
    .collect()
}

/// Starts two transports, uses every part of them, and ends them with `end`.
async fn use_and_end<F: Future<Output = ()>>(config: &Config, end: impl AsyncFn(Transport) -> F) {
    let ports = [Vacant::new(), Vacant::new()];
    let [a, b] = ports
        .each_ref()
        .map(|port| bind(config.clone(), port.addr()));
    let (mut at_a, mut at_b) = (serve(&a, [1]), serve(&b, [1]));
    let away = Vacant::new();
    for (from, to, seen) in [(&a, &b, &mut at_b), (&b, &a, &mut at_a)] {
        from.try_send(to.local_addr(), group(1), "x").expect("room");
        seen.next().await;
        from.send_datagram(to.local_addr(), group(1), "x")
            .expect("room");
        seen.next().await;
        from.try_send(away.addr(), group(1), "x").expect("room");
        drop(watch(from));
    }
    end(a).await.await;
    end(b).await.await;
    drop((at_a, at_b));
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_stop_the_port_is_free_and_no_descriptor_or_thread_is_left() {
    alone(
        "stopping::after_a_stop_the_port_is_free_and_no_descriptor_or_thread_is_left",
        || {
            for config in patient() {
                run(async {
                    let (open, running) = (descriptors(), threads());
                    for how in [Shutdown::Now, Shutdown::Drain(20 * MS)] {
                        use_and_end(&config, async |transport: Transport| async move {
                            let addr = transport.local_addr();
                            transport.stop(how).await;
                            // The port is free at once, while the handle still exists.
                            bind(Config::default(), addr).stop(Shutdown::Now).await;
                            drop(transport);
                        })
                        .await;
                        assert_eq!(descriptors(), open);
                        // The last thread may still be ending when it reports that the others have
                        // ended.
                        until("the threads ended", || threads() == running).await;
                    }
                });
            }
        },
    );
}

#[cfg(target_os = "linux")]
#[test]
fn soon_after_the_last_handle_is_dropped_no_descriptor_or_thread_is_left() {
    alone(
        "stopping::soon_after_the_last_handle_is_dropped_no_descriptor_or_thread_is_left",
        || {
            for config in patient() {
                run(async {
                    let (open, running) = (descriptors(), threads());
                    for _ in 0..2 {
                        use_and_end(&config, async |transport: Transport| async move {
                            drop(transport);
                        })
                        .await;
                        until("the threads ended", || threads() == running).await;
                        until("the descriptors are closed", || descriptors() == open).await;
                    }
                });
            }
        },
    );
}
