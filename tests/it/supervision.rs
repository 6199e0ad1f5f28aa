//! The transport's own actors panic: what the supervision restarts, and what survives.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix_transport::{
    Component, Config, DownReason, Failpoint, Failpoints, GroupOverflow, Lane, PeerEvent,
    Placement, Register, Shutdown, Transport, Via,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// The points where a PeerWriter can be made to panic.
const WRITING: [Failpoint; 4] = [
    Failpoint::BeforeTake,
    Failpoint::AfterTake,
    Failpoint::MidWrite,
    Failpoint::AfterWrite,
];

/// Both placements, with restarts and redials so quick that no test waits for them.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        config
            .restart_first(MS)
            .redial_first(MS)
            .redial_max(10 * MS)
            .stale_after(NEVER)
    })
}

fn writer_of(to: SocketAddr) -> Component {
    Component::PeerWriter {
        peer: to.into(),
        lane: Lane::NORMAL,
    }
}

/// A transport whose actors can be made to panic, and the failpoints that do so.
fn fragile(config: Config) -> (Transport, Failpoints) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let message = panic.payload().downcast_ref::<String>();
            let wanted = message.is_some_and(|message| message.starts_with("failpoint"));
            if !wanted {
                tell(panic);
            }
        }));
    });
    let faults = Failpoints::default();
    let transport = Transport::builder()
        .config(config)
        .failpoints(faults.clone())
        .bind("127.0.0.1:0")
        .expect("free port");
    (transport, faults)
}

async fn restarted(events: &mut Seen<PeerEvent>, component: Component) {
    let restarted = |event: &PeerEvent| matches!(event, PeerEvent::Restarted { component: p } if *p == component);
    events.until(restarted).await;
}

async fn failed(events: &mut Seen<PeerEvent>, component: Component) {
    let failed = |event: &PeerEvent| match event {
        PeerEvent::Failed { component: p } => *p == component,
        _ => false,
    };
    events.until(failed).await;
}

async fn down(events: &mut Seen<PeerEvent>) -> DownReason {
    let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(down).await {
        PeerEvent::Down { reason, .. } => reason,
        _ => unreachable!("it was waited for"),
    }
}

/// Sends one frame and waits until it arrives.
async fn passes(from: &Transport, to: SocketAddr, number_: u32, seen: &mut Seen<Got>) {
    from.try_send(to, group(1), numbered(number_, 10))
        .expect("room");
    assert_eq!(number(&seen.next().await.payload), number_);
}

// ---- listener, readers, node and UDP ---------------------------------------------------------------

#[test]
fn a_listener_that_panics_is_restarted_and_no_connection_is_lost() {
    for config in configs() {
        run(async {
            let (b, faults) = fragile(config.clone());
            let (mut events, mut seen) = (watch(&b), serve(&b, [1]));
            let old = node(config.clone());
            passes(&old, b.local_addr(), 0, &mut seen).await;
            for round in 1..=3 {
                faults.arm(Failpoint::Listener);
                restarted(&mut events, Component::Listener).await;
                assert!(faults.spent());
                assert_eq!(b.stats().links.restarts, round);
                let new = node(config.clone());
                passes(&new, b.local_addr(), 1, &mut seen).await;
                passes(&old, b.local_addr(), 2, &mut seen).await;
                end([new]).await;
            }
            assert_eq!(old.stats().links.connects, 1, "its link stood all the time");
            end([old, b]).await;
        });
    }
}

#[test]
fn a_reader_that_panics_is_restarted_and_its_peers_connect_again() {
    for config in configs() {
        run(async {
            let (b, faults) = fragile(config.clone());
            let (mut events, mut seen) = (watch(&b), serve(&b, [1]));
            let a = node(config);
            let mut links = watch(&a);
            for round in 1..=3 {
                passes(&a, b.local_addr(), 1, &mut seen).await;
                faults.arm(Failpoint::Reader);
                restarted(&mut events, Component::Reader(0)).await;
                assert_eq!(b.stats().links.restarts, round);
                // The connections end with their reader, and their places become free again.
                assert_eq!(down(&mut links).await, DownReason::Closed);
                until("places are free", || b.stats().links.connections == 0).await;
                balanced([&a, &b]);
            }
            // The group is still registered.
            passes(&a, b.local_addr(), 2, &mut seen).await;
            // Both are counted a little after the actor has the frame.
            let sent = || a.stats().tcp;
            until("all is written", || sent().written == sent().accepted).await;
            let delivered = || b.stats().inbound.delivered;
            until("all is delivered", || delivered() == sent().written).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn a_reader_that_panics_does_not_end_the_connections_of_other_readers() {
    run(async {
        let [config, ..] = configs();
        let placement = Placement::Dedicated {
            readers: 2,
            writers: 1,
        };
        let (b, faults) = fragile(config.clone().placement(placement));
        let (mut events, mut seen) = (watch(&b), serve(&b, [1]));
        let others = [node(config.clone()), node(config)];
        for other in &others {
            passes(other, b.local_addr(), 1, &mut seen).await;
        }
        faults.arm(Failpoint::Reader);
        let restarted = |event: &PeerEvent| matches!(event, PeerEvent::Restarted { .. });
        events.until(restarted).await;
        let links = || {
            others
                .each_ref()
                .map(|other| other.stats().links.disconnects)
        };
        until("one ended", || links().iter().sum::<u64>() == 1).await;
        for other in &others {
            passes(other, b.local_addr(), 2, &mut seen).await;
        }
        assert_eq!(links().iter().sum::<u64>(), 1);
        assert_eq!(b.stats().links.accepted, 3);
        let [c, d] = others;
        end([b, c, d]).await;
    });
}

#[test]
fn a_node_that_panics_is_restarted_and_the_registrations_survive() {
    for config in configs() {
        run(async {
            let (b, faults) = fragile(config.clone());
            let (mut events, mut seen) = (watch(&b), serve(&b, [1]));
            let a = node(config);
            for round in 1..=3 {
                passes(&a, b.local_addr(), 1, &mut seen).await;
                until("alive", || b.node().is_some_and(|node| node.connected())).await;
                let former = b.node().expect("alive");
                faults.arm(Failpoint::Node);
                restarted(&mut events, Component::Node).await;
                assert_eq!(b.stats().links.restarts, round);
                until("ended", || !former.connected()).await;
                until("alive", || b.node().is_some_and(|node| node.connected())).await;

                // The new node has the registrations of the former one.
                let present = b.node().expect("alive");
                assert_ne!(present, former);
                let register = Register {
                    group: group(1),
                    actor: spare(),
                    overflow: GroupOverflow::Wait,
                };
                let taken = present.send(register).await.expect("alive");
                assert!(taken.is_err(), "the group was forgotten");
            }
            passes(&a, b.local_addr(), 2, &mut seen).await;
            assert_eq!(a.stats().links.connects, 1, "its link stood all the time");
            end([a, b]).await;
        });
    }
}

/// An actor that ignores its frames.
fn spare() -> actix::Recipient<actix_transport::Inbound> {
    use actix::Actor;

    struct Spare;

    impl Actor for Spare {
        type Context = actix::Context<Self>;
    }

    impl actix::Handler<actix_transport::Inbound> for Spare {
        type Result = ();

        fn handle(&mut self, _: actix_transport::Inbound, _: &mut actix::Context<Self>) {}
    }

    Spare.start().recipient()
}

#[test]
fn a_udp_actor_that_panics_is_restarted_and_loses_no_datagram() {
    for config in configs() {
        run(async {
            // Before each restart there is a wait, during which datagrams are sent and arrive.
            let config = config.restart_first(50 * MS);
            let (a, faults) = fragile(config.clone());
            let b = node(config);
            let mut events = watch(&a);
            let (mut at_a, mut at_b) = (serve(&a, [1]), serve(&b, [1]));
            for round in 1..=3 {
                faults.arm(Failpoint::Udp);
                until("panicked", || faults.spent()).await;
                for number in 0..10 {
                    let payload = numbered(number, 10);
                    a.send_datagram(b.local_addr(), group(1), &payload)
                        .expect("room");
                    b.send_datagram(a.local_addr(), group(1), &payload)
                        .expect("room");
                }
                // From one socket to another on the same machine, datagrams keep their order, and
                // the buffers have room for all.
                for expected in 0..10 {
                    for seen in [&mut at_a, &mut at_b] {
                        let got = seen.next().await;
                        assert_eq!((number(&got.payload), got.via), (expected, Via::Udp));
                    }
                }
                restarted(&mut events, Component::UdpActor).await;
                assert_eq!(a.stats().links.restarts, round);
            }
            // A datagram may arrive before the actor has counted that it was sent.
            until("all counted", || a.stats().udp.written.frames == 30).await;
            assert_eq!(a.stats().udp.accepted.frames, 30);
            end([a, b]).await;
        });
    }
}

// ---- writers ---------------------------------------------------------------------------------------

#[test]
fn a_writer_that_panics_is_restarted_and_every_frame_is_written_once() {
    for config in configs() {
        for point in WRITING {
            run(every_frame_once(config.clone(), point));
        }
    }
}

async fn every_frame_once(config: Config, point: Failpoint) {
    const FRAMES: u32 = 60;
    const PANICS: u64 = 3;

    let (a, faults) = fragile(config.max_frame(PLUG_BYTES));
    let mut events = watch(&a);
    let (listener, to) = listener();
    let peer = a.peer(to).expect("room");
    for _ in 0..PANICS {
        faults.arm(point);
    }
    for number in 0..FRAMES {
        // Now and then a frame so long that the kernel does not take it at once.
        let len = if number % 20 == 10 { PLUG } else { 1000 };
        peer.try_send(group(1), numbered(number, len))
            .expect("room");
    }
    // Each panic ends a link. The test reads each link to its end before the next one, so it would
    // notice frames out of order and a frame that was written to two links.
    let (mut next, mut links) = (0, 0);
    while next < FRAMES {
        let mut tap = Tap::accept(&listener).await;
        links += 1;
        while next < FRAMES
            && let Some((_, payload)) = tap.frame().await
        {
            assert_eq!(number(&payload), next, "{point:?}, link {links}");
            next += 1;
        }
    }
    until("restarted", || a.stats().links.restarts == PANICS).await;
    restarted(&mut events, writer_of(to)).await;
    until("all written", || {
        peer.stats().frames.written.frames == u64::from(FRAMES)
    })
    .await;
    assert!(faults.spent(), "{point:?}");
    let stats = a.stats();
    assert_eq!(stats.links.restarts, PANICS);
    assert_eq!(
        (stats.tcp.written, stats.tcp.offered.frames),
        (stats.tcp.offered, FRAMES.into())
    );

    // The restarted writer goes on writing.
    peer.try_send(group(1), numbered(FRAMES, 4)).expect("room");
    until("written", || {
        peer.stats().frames.written == peer.stats().frames.offered
    })
    .await;
    end([a]).await;
}

#[test]
fn subscribers_are_told_that_the_link_of_a_panicked_writer_ended() {
    for config in configs() {
        run(async {
            let (a, faults) = fragile(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            faults.arm(Failpoint::AfterWrite);
            for epoch in 1..=2 {
                a.try_send(to, group(1), numbered(epoch, 4)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, epoch);
                if epoch == 1 {
                    assert_eq!(down(&mut events).await, DownReason::Ended);
                    restarted(&mut events, writer_of(to)).await;
                    assert_eq!(tap.read_to_end().await, (vec![], 0));
                }
            }
            assert_eq!(
                a.peer_stats(to).expect("known").epoch,
                2,
                "the epoch is counted on"
            );
            end([a]).await;
        });
    }
}

#[test]
fn a_writer_that_panics_does_not_disturb_other_peers() {
    for config in configs() {
        run(async {
            let (a, faults) = fragile(config.clone());
            let b = node(config);
            let mut seen = serve(&b, [1]);
            passes(&a, b.local_addr(), 0, &mut seen).await;
            let mut events = watch(&a);
            let (listener, to) = listener();
            for round in 1..=3 {
                faults.arm(Failpoint::AfterTake);
                a.try_send(to, group(1), numbered(round, 4)).expect("room");
                restarted(&mut events, writer_of(to)).await;
                passes(&a, b.local_addr(), round, &mut seen).await;
                let first = Tap::accept(&listener).await;
                let (numbers, _) = first.read_to_end().await;
                let mut second = Tap::accept(&listener).await;
                assert_eq!((numbers, second.number().await), (vec![], round));
                drop(second);
                until("idle again", || !a.peer_stats(to).expect("known").connected).await;
            }
            assert_eq!(a.peer_stats(b.local_addr()).expect("known").epoch, 1);
            end([a, b]).await;
        });
    }
}

// ---- too often -------------------------------------------------------------------------------------

#[test]
fn an_actor_that_panics_too_often_is_reported_as_failed_and_restarted_after_a_pause() {
    const PAUSE: Duration = Duration::from_millis(100);

    for config in configs() {
        run(async {
            let (b, faults) = fragile(config.clone().restart_limit(2).failed_retry(PAUSE));
            let (mut events, mut seen) = (watch(&b), serve(&b, [1]));
            let a = node(config);
            for round in 1..=2 {
                for _ in 0..2 {
                    faults.arm(Failpoint::Listener);
                    restarted(&mut events, Component::Listener).await;
                }
                let armed = Instant::now();
                faults.arm(Failpoint::Listener);
                failed(&mut events, Component::Listener).await;
                restarted(&mut events, Component::Listener).await;
                assert!(armed.elapsed() >= PAUSE, "after {:?}", armed.elapsed());
                assert_eq!(b.stats().links.restarts, 3 * round);
            }
            passes(&a, b.local_addr(), 1, &mut seen).await;
            end([a, b]).await;
        });
    }
}

#[test]
fn frames_wait_for_a_writer_that_failed() {
    for config in configs() {
        run(async {
            let (a, faults) = fragile(config.restart_limit(1).failed_retry(1_000 * MS));
            let mut events = watch(&a);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            faults.arm(Failpoint::BeforeTake);
            faults.arm(Failpoint::AfterTake);
            for number in 0..10 {
                peer.try_send(group(1), numbered(number, 10)).expect("room");
            }
            failed(&mut events, writer_of(to)).await;
            assert_eq!(peer.stats().frames.queued.frames, 10);
            peer.try_send(group(1), numbered(10, 10)).expect("room");
            for _ in 0..2 {
                let broken = Tap::accept(&listener).await;
                assert_eq!(broken.read_to_end().await, (vec![], 0));
            }
            let mut tap = Tap::accept(&listener).await;
            for number in 0..=10 {
                assert_eq!(tap.number().await, number);
            }
            end([a]).await;
        });
    }
}

#[test]
fn frames_go_stale_while_their_failed_writer_pauses() {
    for config in configs() {
        run(async {
            let config = config.stale_after(300 * MS).restart_limit(0);
            let (a, faults) = fragile(config.failed_retry(NEVER));
            let mut events = watch(&a);
            let (_listener, to) = listener();
            faults.arm(Failpoint::BeforeTake);
            a.try_send(to, group(1), numbered(1, 4)).expect("room");
            failed(&mut events, writer_of(to)).await;
            for round in 1..=2 {
                let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
                events.until(dropped).await;
                assert_eq!(a.stats().tcp.dropped.stale.frames, round);
                a.try_send(to, group(1), numbered(1, 4)).expect("room");
            }
            balanced([&a]);
            // The pause is longer than any test. Dropping the transport does not wait for it.
            drop(a);
        });
    }
}

#[test]
fn datagrams_go_stale_while_the_failed_udp_actor_pauses() {
    for config in configs() {
        run(async {
            let config = config.stale_after(300 * MS).restart_limit(0);
            let (a, faults) = fragile(config.failed_retry(NEVER));
            let mut events = watch(&a);
            faults.arm(Failpoint::Udp);
            failed(&mut events, Component::UdpActor).await;
            for round in 1..=2 {
                let to = Vacant::new().addr();
                a.send_datagram(to, group(1), "x").expect("room");
                let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
                events.until(dropped).await;
                assert_eq!(a.stats().udp.dropped.stale.frames, round);
            }
            balanced([&a]);
        });
    }
}

#[test]
fn datagrams_that_were_read_are_delivered_even_if_the_udp_actor_panics() {
    run(async {
        let [.., current] = configs();
        let (b, faults) = fragile(current);
        let mut events = watch(&b);
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let senders = [(); 2].map(|()| std::net::UdpSocket::bind((OWN_IP, 0)).expect("free"));
        for sender in [0, 0, 1, 1] {
            let datagram = [&1_u32.to_le_bytes()[..], b"here"].concat();
            let sent = senders[sender].send_to(&datagram, b.local_addr());
            assert_eq!(sent.expect("room"), datagram.len());
        }
        until("held", || b.stats().inbound.in_delivery.frames == 4).await;
        faults.arm(Failpoint::Udp);
        restarted(&mut events, Component::UdpActor).await;
        gate.open();
        for _ in 0..4 {
            assert_eq!(seen.next().await.payload, "here");
        }
        let inbound = b.stats().inbound;
        assert_eq!(inbound.received.frames, 4, "{inbound:?}");
        assert!(inbound.dropped.total().is_zero(), "{inbound:?}");
        balanced([&b]);
    });
}

/// Otherwise the tests that have a writer panic there would not be about what they say.
#[test]
fn the_failpoint_in_the_middle_of_a_write_is_not_hit_by_a_frame_that_is_written_at_once() {
    let [.., current] = configs();
    run(async {
        let (a, faults) = fragile(current.clone());
        let b = node(current);
        let mut seen = serve(&b, [1]);
        faults.arm(Failpoint::MidWrite);
        for number in 0..3 {
            passes(&a, b.local_addr(), number, &mut seen).await;
        }
        assert!(!faults.spent());
        assert_eq!(a.stats().links.restarts, 0);
        balanced([&a, &b]);
    });
}

/// Two senders. Linux reads the datagrams of both at once, and those of the second wait until those of the first are
/// delivered.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_were_read_and_not_delivered_when_the_udp_actor_panics_are_counted() {
    // Together as many as one system call reads.
    const OF_EACH: [u64; 2] = [6, 2];

    run(async {
        let [.., current] = configs();
        // So that other tasks run between one frame and the next.
        let (b, faults) = fragile(current.batch_frames(1));
        let mut events = watch(&b);
        let (_gate, _held) = hold(&b, 1, GroupOverflow::Wait);
        let senders = [(); 2].map(|()| std::net::UdpSocket::bind((OWN_IP, 0)).expect("free"));
        for (sender, number) in senders.iter().zip(OF_EACH) {
            for _ in 0..number {
                let datagram = [&1_u32.to_le_bytes()[..], b"here"].concat();
                let sent = sender.send_to(&datagram, b.local_addr());
                assert_eq!(sent.expect("room"), datagram.len());
            }
        }
        // The actor reads for the first time when this future waits.
        let inbound = || b.stats().inbound;
        let delivered = std::future::poll_fn(|cx| match inbound().in_delivery.frames {
            0 => {
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            _ => std::task::Poll::Ready(()),
        });
        let delivered = tokio::time::timeout(20_000 * MS, delivered).await;
        delivered.expect("the first is delivered");
        faults.arm(Failpoint::Udp);
        restarted(&mut events, Component::UdpActor).await;
        let [first, second] = OF_EACH;
        until("counted", || inbound().received.frames == first + second).await;
        let gone = inbound().dropped.actor_gone.frames;
        assert!((second..first + second).contains(&gone), "{gone}");
        balanced([&b]);
    });
}

#[test]
fn a_stop_does_not_wait_for_the_pause_of_a_failed_actor() {
    for config in configs() {
        for how in [Shutdown::Now, Shutdown::Drain(50 * MS)] {
            run(async {
                let config = config.clone().restart_limit(0).failed_retry(NEVER);
                let (a, faults) = fragile(config);
                let mut events = watch(&a);
                let (_listener, to) = listener();
                for (point, component) in [
                    (Failpoint::Listener, Component::Listener),
                    (Failpoint::Node, Component::Node),
                    (Failpoint::Reader, Component::Reader(0)),
                    (Failpoint::Udp, Component::UdpActor),
                    (Failpoint::BeforeTake, writer_of(to)),
                ] {
                    faults.arm(point);
                    if let Component::PeerWriter { peer: to, .. } = &component {
                        a.try_send(to, group(1), numbered(1, 4)).expect("room");
                    }
                    failed(&mut events, component).await;
                }
                let stopping = tokio::time::timeout(Duration::from_secs(20), a.stop(how));
                let report = stopping.await.expect("the stop waits for the pause to end");
                let undelivered: Vec<_> = report
                    .undelivered
                    .iter()
                    .map(|(to, _)| to.clone())
                    .collect();
                assert_eq!(undelivered, [to]);
                assert_eq!(a.stats().links.restarts, 0);
                balanced([&a]);
            });
        }
    }
}

#[test]
fn a_transport_with_a_failed_actor_still_ends_with_its_last_handle() {
    for config in configs() {
        run(async {
            let (a, faults) = fragile(config.restart_limit(0).failed_retry(NEVER));
            let mut events = watch(&a);
            let addr = a.local_addr();
            faults.arm(Failpoint::Listener);
            failed(&mut events, Component::Listener).await;
            drop(a);
            until("the port is free", || {
                std::net::TcpListener::bind(addr).is_ok()
            })
            .await;
        });
    }
}

#[test]
fn restarts_older_than_the_window_do_not_count() {
    for config in configs() {
        run(async {
            let config = config.restart_limit(1).restart_window(MS);
            let (a, faults) = fragile(config.failed_retry(NEVER));
            let mut events = watch(&a);
            for round in 1..=5 {
                faults.arm(Failpoint::Node);
                restarted(&mut events, Component::Node).await;
                assert_eq!(a.stats().links.restarts, round);
                tokio::time::sleep(2 * MS).await;
            }
            end([a]).await;
        });
    }
}

#[test]
fn the_first_wait_before_a_restart_is_as_configured() {
    for config in configs() {
        run(async {
            const DAY: Duration = Duration::from_secs(24 * 60 * 60);
            let (quick, at_quick) = fragile(config.clone());
            let (slow, at_slow) = fragile(config.restart_first(DAY));
            at_slow.arm(Failpoint::Node);
            until("ended", || at_slow.spent()).await;
            let mut events = watch(&quick);
            for _ in 0..5 {
                at_quick.arm(Failpoint::Node);
                restarted(&mut events, Component::Node).await;
            }
            // The wait is drawn at random between nothing and a day.
            assert_eq!(slow.stats().links.restarts, 0);
            end([quick]).await;
            drop(slow);
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_backlog_holds_as_many_connections_as_configured_while_the_listener_pauses() {
    for config in configs() {
        run(async {
            // The pause is longer than the eight dials below take.
            let config = config.restart_limit(0).failed_retry(2_000 * MS);
            let (b, faults) = fragile(config.backlog(3));
            let mut events = watch(&b);
            faults.arm(Failpoint::Listener);
            failed(&mut events, Component::Listener).await;
            // A backlog of n holds n + 1 connections that nobody accepts. The next dial gets no
            // answer.
            let (connected, mut held) = tokio::sync::mpsc::unbounded_channel();
            for _ in 0..8 {
                let (connected, addr) = (connected.clone(), b.local_addr());
                actix::spawn(async move {
                    let dialling = tokio::net::TcpStream::connect(addr);
                    if let Ok(stream) = tokio::time::timeout(50 * MS, dialling).await {
                        let _ = connected.send(stream.expect("listening"));
                    }
                });
            }
            drop(connected);
            let mut streams = Vec::new();
            while let Some(stream) = held.recv().await {
                streams.push(stream);
            }
            assert_eq!(streams.len(), 4);
            // The restarted listener accepts them.
            until("accepted", || b.stats().links.accepted == 4).await;
            end([b]).await;
        });
    }
}

// ---- everything at once ----------------------------------------------------------------------------

#[test]
fn the_counters_balance_while_every_actor_panics_again_and_again() {
    for config in configs() {
        run(async {
            let config = config.restart_limit(1 << 20);
            let (a, at_a) = fragile(config.clone());
            let (b, at_b) = fragile(config);
            let mut seen = [serve(&a, [1, 2]), serve(&b, [1, 2])];
            let over = Arc::new(AtomicBool::new(false));
            let mut senders = Vec::new();
            for (from, to) in [(&a, &b), (&b, &a)] {
                for thread in 1..=2 {
                    let (over, from, to) = (over.clone(), from.clone(), to.local_addr());
                    senders.push(std::thread::spawn(move || {
                        for number in 0.. {
                            if over.load(Relaxed) {
                                return;
                            }
                            let len = [10, 100, 10_000, 200_000][number as usize % 4];
                            // Now and then refused, because the queue is full.
                            let _ = from.try_send(to, group(thread), numbered(number, len));
                            let _ = from.send_datagram(to, group(thread), numbered(number, 9));
                            if number % 8 == 0 {
                                std::thread::sleep(MS);
                            }
                        }
                    }));
                }
            }
            let points = [
                Failpoint::Listener,
                Failpoint::Reader,
                Failpoint::Node,
                Failpoint::Udp,
            ];
            // Three panics each. The wait before a restart grows with every actor that ends soon
            // after its start.
            for point in points.iter().chain(&WRITING).cycle().take(24) {
                at_a.arm(*point);
                at_b.arm(*point);
                for _ in 0..5 {
                    balanced([&a, &b]);
                    tokio::time::sleep(MS).await;
                }
            }
            until("all have panicked", || {
                balanced([&a, &b]);
                at_a.spent() && at_b.spent()
            })
            .await;
            over.store(true, Relaxed);
            for sender in senders {
                sender.join().expect("runs");
            }
            // Both still serve each other, and no frame is left over.
            let [seen_a, seen_b] = &mut seen;
            for (from, to, seen) in [(&a, &b, seen_b), (&b, &a, seen_a)] {
                until("it serves", || {
                    let _ = from.try_send(to.local_addr(), group(1), "still there?");
                    std::iter::from_fn(|| seen.try_next()).any(|got| got.payload == "still there?")
                })
                .await;
            }
            until("all is quiet", || {
                [&a, &b].iter().all(|transport| {
                    let stats = transport.stats();
                    let (tcp, udp) = (stats.tcp, stats.udp);
                    let waits = tcp.queued + tcp.in_flight + udp.queued + udp.in_flight;
                    waits.is_zero() && stats.inbound.in_delivery.is_zero()
                })
            })
            .await;
            assert_eq!(a.stats().links.restarts + b.stats().links.restarts, 48);
            end([a, b]).await;
        });
    }
}
