//! The events that subscribers get.

use std::{net::SocketAddr, time::Duration};

use actix::prelude::*;
use actix_transport::{
    Config, Count, DownReason, DropReason, Overflow, PeerAddr, PeerEvent, Shutdown, Transport,
};
use tokio::sync::{mpsc, watch as signal};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Makes a link to the listener by sending a frame, and lets the other side close it.
async fn up_and_down(from: &Transport, listener: &tokio::net::TcpListener) {
    let to = listener.local_addr().expect("bound");
    let before = from.stats().links.disconnects;
    from.try_send(to, group(1), numbered(1, 4)).expect("room");
    let mut tap = Tap::accept(listener).await;
    tap.number().await;
    drop(tap);
    until("ended", || from.stats().links.disconnects > before).await;
}

/// An event as a short text.
fn in_short(event: &PeerEvent) -> String {
    match event {
        PeerEvent::Up { epoch, .. } => format!("up {epoch}"),
        PeerEvent::Down { epoch, reason, .. } => format!("down {epoch} {reason:?}"),
        PeerEvent::Dropped { reason, count, .. } => format!("dropped {} {reason:?}", count.frames),
        other => panic!("{other:?} did not happen"),
    }
}

fn peer_of(event: &PeerEvent) -> Option<SocketAddr> {
    match event {
        PeerEvent::Up { peer, .. }
        | PeerEvent::Down { peer, .. }
        | PeerEvent::Unreachable { peer, .. } => peer.ip_addr(),
        PeerEvent::Dropped { peer, .. } => peer.as_ref().and_then(PeerAddr::ip_addr),
        _ => None,
    }
}

#[test]
fn each_new_link_to_a_peer_has_the_next_epoch() {
    for config in placements() {
        run(async {
            let a = node(config.redial_first(MS).redial_max(MS));
            let mut events = watch(&a);
            let (listener, to) = listener();
            for epoch in 1..=10 {
                up_and_down(&a, &listener).await;
                for expected in [format!("up {epoch}"), format!("down {epoch} Closed")] {
                    let event = events.next().await;
                    assert_eq!((in_short(&event), peer_of(&event)), (expected, Some(to)));
                }
            }
            end([a]).await;
            assert!(events.try_next().is_none());
        });
    }
}

#[test]
fn a_subscriber_gets_all_events_since_it_subscribed() {
    for config in placements() {
        run(async {
            let a = node(config.redial_first(MS).redial_max(MS));
            let (listener, _) = listener();
            let mut all = Vec::new();
            for epoch in 1..=4 {
                all.push(watch(&a));
                up_and_down(&a, &listener).await;
                for events in &mut all {
                    assert_eq!(in_short(&events.next().await), format!("up {epoch}"));
                    assert_eq!(
                        in_short(&events.next().await),
                        format!("down {epoch} Closed")
                    );
                }
            }
            end([a]).await;
        });
    }
}

#[test]
fn drop_events_add_up_to_the_drop_counters() {
    for config in placements() {
        run(async {
            let config = config
                .overflow(Overflow::DropOldest)
                .queue_frames(10)
                .stale_after(30 * MS)
                .redial_first(MS)
                .redial_max(20 * MS);
            let a = node(config);
            let mut events = watch(&a);
            let away = [Vacant::new(), Vacant::new()];
            for _ in 0..5 {
                for (index, peer) in away.iter().enumerate() {
                    for number in 0..20 * (index + 1) {
                        let payload = numbered(number as u32, 4 + 10 * index);
                        a.try_send(peer.addr(), group(1), payload)
                            .expect("always room");
                    }
                }
                until("stale", || a.stats().tcp.queued.is_zero()).await;
            }
            // These are still queued when the transport stops.
            for peer in &away {
                a.try_send(peer.addr(), group(1), numbered(0, 4))
                    .expect("always room");
            }
            a.stop(Shutdown::Now).await;
            balanced([&a]);
            let mut told = [[Count::ZERO; 3]; 2];
            while let Some(event) = events.try_next() {
                let PeerEvent::Dropped {
                    peer,
                    reason,
                    count,
                    ..
                } = event
                else {
                    continue;
                };
                let index = away
                    .iter()
                    .position(|away| peer.as_ref().is_some_and(|peer| *peer == away.addr()));
                let reason = match reason {
                    DropReason::Stale => 0,
                    DropReason::Overflow => 1,
                    DropReason::Stopped => 2,
                    other => panic!("{other:?}"),
                };
                assert!(!count.is_zero());
                told[index.expect("one of them")][reason] += count;
            }
            for (peer, told) in away.iter().zip(told) {
                let dropped = a.peer_stats(peer.addr()).expect("known").frames.dropped;
                assert_eq!(told, [dropped.stale, dropped.overflow, dropped.stopped]);
                assert!(told.iter().all(|count| !count.is_zero()), "{dropped:?}");
            }
        });
    }
}

#[test]
fn received_frames_for_an_unserved_group_are_reported_without_a_peer() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut events = watch(&b);
            let mut told = Count::ZERO;
            for number in 1..=3 {
                a.try_send(b.local_addr(), group(9), numbered(number, 10))
                    .expect("room");
                let event = events.next().await;
                let PeerEvent::Dropped {
                    peer: None,
                    reason: DropReason::NoGroup,
                    count,
                    ..
                } = event
                else {
                    panic!("{event:?}");
                };
                told += count;
            }
            assert_eq!(told, b.stats().inbound.dropped.no_group);
            assert_eq!(told.frames, 3);
            end([a, b]).await;
        });
    }
}

/// A slow subscriber: it takes no further event until the test opens its gate.
struct Slow {
    tell: mpsc::UnboundedSender<PeerEvent>,
    gate: signal::Receiver<bool>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<PeerEvent> for Slow {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, event: PeerEvent, _: &mut Context<Self>) -> Self::Result {
        let _ = self.tell.send(event);
        let mut gate = self.gate.clone();
        Box::pin(async move {
            let _ = gate.wait_for(|open| *open).await;
        })
    }
}

#[test]
fn a_slow_subscriber_gets_only_the_latest_state() {
    for config in placements() {
        run(async {
            let config = config.redial_first(MS).redial_max(MS);
            let a = node(config.queue_frames(1).overflow(Overflow::DropOldest));
            let (tell, mut told) = mpsc::unbounded_channel();
            let (gate, wait) = signal::channel(false);
            a.subscribe(Slow { tell, gate: wait }.start().recipient());
            let mut others = watch(&a);
            let (listener, to) = listener();

            // The subscriber is busy with the first event while fifty links come and go.
            up_and_down(&a, &listener).await;
            let first = told.recv().await.expect("told");
            assert_eq!(in_short(&first), "up 1");
            for _ in 0..50 {
                up_and_down(&a, &listener).await;
            }
            let closed = |event: &PeerEvent| matches!(event, PeerEvent::Down { epoch: 51, .. });
            others.until(closed).await;
            gate.send_replace(true);
            let mut news = Vec::new();
            while !news.contains(&format!("down 51 {:?}", DownReason::Closed)) {
                let event = told.recv().await.expect("told");
                assert_eq!(peer_of(&event), Some(to));
                news.push(in_short(&event));
            }
            // The events in between were left out.
            assert_eq!(news, ["up 51", "down 51 Closed"]);
            end([a]).await;
        });
    }
}

#[test]
fn a_slow_subscriber_gets_the_drops_it_missed_as_one_sum() {
    for config in placements() {
        run(async {
            let a = node(config.stale_after(MS).redial_first(MS).redial_max(20 * MS));
            let (tell, mut told) = mpsc::unbounded_channel();
            let (gate, wait) = signal::channel(false);
            a.subscribe(Slow { tell, gate: wait }.start().recipient());
            let away = Vacant::new();
            for round in 1..=20 {
                a.try_send(away.addr(), group(1), numbered(1, 4))
                    .expect("room");
                until("stale", || a.stats().tcp.dropped.stale.frames == round).await;
            }
            gate.send_replace(true);
            a.stop(Shutdown::Now).await;
            let (mut events, mut frames) = (0, 0);
            while let Ok(event) = told.try_recv() {
                events += 1;
                if let PeerEvent::Dropped { count, .. } = event {
                    frames += count.frames;
                }
            }
            assert_eq!(frames, 20);
            // The event it was busy with, and the latest of each kind.
            assert!(events <= 3, "{events} events");
        });
    }
}

#[test]
fn a_subscriber_that_never_finishes_does_not_keep_the_transport_from_stopping() {
    for config in placements() {
        run(async {
            let a = node(config);
            let (tell, mut told) = mpsc::unbounded_channel();
            let (_gate, wait) = signal::channel(false);
            a.subscribe(Slow { tell, gate: wait }.start().recipient());
            let mut others = watch(&a);
            let (listener, _) = listener();
            up_and_down(&a, &listener).await;
            assert_eq!(in_short(&told.recv().await.expect("told")), "up 1");
            end([a]).await;
            assert_eq!(in_short(&others.next().await), "up 1");
            assert_eq!(in_short(&others.next().await), "down 1 Closed");
        });
    }
}

#[test]
fn a_subscriber_that_ended_is_removed_and_the_others_still_get_events() {
    struct Ending(mpsc::UnboundedSender<PeerEvent>);

    impl Actor for Ending {
        type Context = Context<Self>;
    }

    impl Handler<PeerEvent> for Ending {
        type Result = ();

        fn handle(&mut self, event: PeerEvent, ctx: &mut Context<Self>) {
            let _ = self.0.send(event);
            ctx.stop();
        }
    }

    for config in placements() {
        run(async {
            let a = node(config.redial_first(MS).redial_max(MS));
            let (tell, mut told) = mpsc::unbounded_channel();
            let recipient = Ending(tell).start().recipient::<PeerEvent>();
            let held = recipient.downgrade();
            a.subscribe(recipient);
            let mut others = watch(&a);
            let (listener, _) = listener();
            for epoch in 1..=3 {
                up_and_down(&a, &listener).await;
                assert_eq!(in_short(&others.next().await), format!("up {epoch}"));
                assert_eq!(
                    in_short(&others.next().await),
                    format!("down {epoch} Closed")
                );
            }
            assert_eq!(in_short(&told.recv().await.expect("told")), "up 1");
            assert!(told.recv().await.is_none(), "told after its end");
            until("let go", || held.upgrade().is_none()).await;
            end([a]).await;
        });
    }
}

#[test]
fn the_last_events_are_sent_before_the_stop_returns() {
    for config in placements() {
        run(async {
            let a = node(
                config
                    .redial_first(Duration::from_secs(3600))
                    .redial_max(Duration::from_secs(3600)),
            );
            let mut events = watch(&a);
            let (listener, to) = listener();
            let away = Vacant::new();
            a.try_send(to, group(1), numbered(1, 4)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            assert_eq!(in_short(&events.next().await), "up 1");
            a.try_send(away.addr(), group(1), numbered(1, 4))
                .expect("room");
            let refused = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { .. });
            events.until(refused).await;
            a.stop(Shutdown::Now).await;
            let mut last = [
                in_short(&events.next().await),
                in_short(&events.next().await),
            ];
            last.sort();
            assert_eq!(last, ["down 1 Ended", "dropped 1 Stopped"]);
            assert!(events.try_next().is_none());
            balanced([&a]);
        });
    }
}

#[test]
fn a_transport_works_the_same_without_subscribers() {
    run(async {
        let a = node(Config::default().redial_first(MS).redial_max(MS));
        let (listener, _) = listener();
        for _ in 0..3 {
            up_and_down(&a, &listener).await;
        }
        assert_eq!(a.stats().links.connects, 3);
        end([a]).await;
    });
}
