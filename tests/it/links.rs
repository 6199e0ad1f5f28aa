//! Links: how they end, what happens to the frames on them, and when the next one is made.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use actix_transport::{Config, DownReason, PeerEvent, Shutdown, Transport};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Both placements, with redials so quick that no test waits for them.
fn configs() -> [Config; 3] {
    placements().map(|config| config.redial_first(MS).redial_max(10 * MS))
}

/// Waits until a link ends. Returns its epoch and the reason.
async fn down(events: &mut Seen<PeerEvent>) -> (u64, DownReason) {
    let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(down).await {
        PeerEvent::Down { epoch, reason, .. } => (epoch, reason),
        _ => unreachable!("it was waited for"),
    }
}

fn send(from: &Transport, to: SocketAddr, number: u32) {
    from.try_send(to, group(1), numbered(number, 100))
        .expect("room");
}

// ---- who writes ------------------------------------------------------------------------------------

#[test]
fn a_single_frame_is_written_by_the_thread_that_sends_it() {
    run(async {
        let [.., current] = placements();
        let a = node(current);
        let (listener, to) = listener();
        send(&a, to, 0);
        let mut tap = Tap::accept(&listener).await;
        assert_eq!(tap.number().await, 0);
        let counts = || a.peer_stats(to).expect("known").frames;

        let mut at_once = 0;
        for number in 1..=10 {
            tokio::time::sleep(MS).await;
            let before = counts().written.frames;
            send(&a, to, number);
            // The writer is a task on this thread and has not run since: the send itself wrote the
            // frame.
            at_once = counts().written.frames - before;
            assert_eq!(tap.number().await, number);
        }
        assert_eq!(at_once, 1);
        end([a]).await;
    });
}

#[test]
fn a_link_is_not_idle_while_senders_write_its_frames() {
    const IDLE: Duration = Duration::from_secs(1);

    run(async {
        let [.., current] = placements();
        let a = node(current.idle_timeout(IDLE));
        let (listener, to) = listener();
        send(&a, to, 0);
        let mut tap = Tap::accept(&listener).await;
        let counts = || a.peer_stats(to).expect("known").frames;
        let begun = Instant::now();
        let (mut number, mut at_once) = (0, 0);
        while begun.elapsed() < 3 * IDLE {
            assert_eq!(tap.number().await, number);
            tokio::time::sleep(IDLE / 20).await;
            number += 1;
            let before = counts().written.frames;
            send(&a, to, number);
            at_once += counts().written.frames - before;
        }
        assert!(at_once > u64::from(number) / 2, "{at_once} of {number}");
        assert_eq!(a.peer_stats(to).expect("known").epoch, 1);
        end([a]).await;
    });
}

// ---- the other side ends it ------------------------------------------------------------------------

#[test]
fn a_peer_that_restarts_on_its_port_gets_the_next_frame() {
    for config in configs() {
        run(async {
            let a = node(config.clone());
            let mut events = watch(&a);
            let port = Vacant::new();
            for life in 1..=3 {
                let b = Transport::builder()
                    .config(config.clone())
                    .bind(port.addr());
                let b = b.expect("kept for it");
                let mut seen = serve(&b, [1]);
                send(&a, port.addr(), life);
                assert_eq!(number(&seen.next().await.payload), life);
                b.stop(Shutdown::Now).await;
                assert_eq!(down(&mut events).await, (life.into(), DownReason::Closed));
            }
            assert_eq!(a.stats().tcp.written.frames, 3);
            end([a]).await;
        });
    }
}

#[test]
fn the_end_of_an_idle_link_is_noticed_before_a_frame_is_lost_to_it() {
    for config in configs() {
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            for epoch in 1..=5 {
                send(&a, to, epoch);
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, epoch, "lost to the link before");
                drop(tap);
                assert_eq!(down(&mut events).await, (epoch.into(), DownReason::Closed));
                assert!(!a.peer_stats(to).expect("known").connected);
            }
            let stats = a.stats();
            assert_eq!((stats.tcp.written.frames, stats.links.connects), (5, 5));
            end([a]).await;
        });
    }
}

#[test]
fn a_link_that_is_reset_is_noticed_while_it_is_idle() {
    for config in configs() {
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            for epoch in 1..=3 {
                send(&a, to, epoch);
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, epoch);
                tap.reset();
                let reset = DownReason::Lost(std::io::ErrorKind::ConnectionReset);
                assert_eq!(down(&mut events).await, (epoch.into(), reset));
            }
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_writes_back_is_disconnected_and_dialled_again() {
    for config in configs() {
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            // It writes back while the link is idle.
            send(&a, to, 1);
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            tap.write_back().await;
            assert_eq!(down(&mut events).await, (1, DownReason::Spoke));
            assert_eq!(tap.read_to_end().await, (vec![], 0));
            // The next link works.
            send(&a, to, 2);
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 2);
            assert!(a.peer_stats(to).expect("known").connected);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_writes_back_without_reading_is_disconnected() {
    for config in configs() {
        run(async {
            let a = node(config.max_frame(PLUG_BYTES));
            let mut events = watch(&a);
            let (listener, _) = listener();
            let mut tap = Plugged::new(&a, &listener).await.into_tap();
            tap.write_back().await;
            assert_eq!(down(&mut events).await, (1, DownReason::Spoke));
            // The frame that was cut comes again on the next link.
            let mut tap = Tap::accept(&listener).await;
            let (_, plug) = tap.frame().await.expect("the link ended");
            assert_eq!(plug.len(), PLUG);
            end([a]).await;
        });
    }
}

// ---- a frame that is cut ---------------------------------------------------------------------------

/// How a peer ends a link in the middle of a frame.
#[derive(Debug, Copy, Clone)]
enum Cut {
    /// It dies: the link is reset.
    Reset,
    /// It closes the connection with bytes unread.
    Close,
    /// It closes its side for writing, and still reads everything.
    HalfClose,
}

#[test]
fn a_frame_cut_by_the_end_of_a_link_is_sent_again_whole_and_written_ones_are_not() {
    for config in configs() {
        // How much of the long frame the peer reads before it ends the link: nothing, a part of the
        // length, the header, and more than a socket's buffer holds.
        for read in [0, 3, 8, 1 << 20] {
            for cut in [Cut::Reset, Cut::Close, Cut::HalfClose] {
                run(cut_short(config.clone(), read, cut));
            }
        }
    }
}

async fn cut_short(config: Config, read: usize, cut: Cut) {
    const BEFORE: u32 = 10;
    let long = numbered(BEFORE, PLUG);

    let a = node(config.max_frame(PLUG_BYTES).stale_after(NEVER));
    let mut events = watch(&a);
    let (listener, to) = listener();
    let peer = a.peer(to).expect("room");
    for number in 0..BEFORE {
        peer.try_send(group(1), numbered(number, 100))
            .expect("room");
    }
    peer.try_send(group(1), long).expect("room");
    for number in BEFORE + 1..20 {
        peer.try_send(group(1), numbered(number, 100))
            .expect("room");
    }
    let mut first = Tap::accept(&listener).await;
    for number in 0..BEFORE {
        assert_eq!(first.number().await, number);
    }
    first.buffer_bytes(read).await;
    until("the long frame is being written", || {
        peer.stats().frames.written.frames == u64::from(BEFORE)
    })
    .await;
    let mut half = None;
    match cut {
        Cut::Reset => first.reset(),
        Cut::Close => drop(first),
        Cut::HalfClose => {
            first.half_close().await;
            half = Some(first);
        }
    }
    assert_eq!(down(&mut events).await.0, 1);
    // The test reads the first link on only now. If it read earlier, the writer might find room
    // again and finish the frame before it noticed the end. Then it would rightly not send the
    // frame again.
    if let Some(first) = half {
        let (whole, part) = first.read_to_end().await;
        assert!(
            whole.is_empty(),
            "a frame that is sent again was received already"
        );
        assert!(part < PLUG_BYTES);
    }
    let mut second = Tap::accept(&listener).await;
    // Each frame comes once, in order.
    for number in BEFORE..20 {
        assert_eq!(second.number().await, number, "{cut:?} after {read}");
    }
    until("all written", || peer.stats().frames.written.frames == 20).await;
    let frames = peer.stats().frames;
    assert_eq!(frames.written, frames.accepted);
    end([a]).await;
    assert_eq!(second.read_to_end().await, (vec![], 0));
}

#[test]
fn each_frame_is_written_once_when_links_break_again_and_again() {
    // All frames together are more than the sockets of the broken links can hold.
    const BREAKS: u32 = 2;
    const FRAMES: u32 = 700;
    const LEN: usize = 60_000;
    const { assert!(LEN * FRAMES as usize > BREAKS as usize * (PLUG + 10 * LEN)) };

    for config in configs() {
        run(async {
            let a = node(config.stale_after(NEVER));
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            for number in 0..FRAMES {
                peer.try_send(group(1), numbered(number, LEN))
                    .expect("room");
            }
            let mut last = None;
            let mut read = async |tap: &mut Tap| {
                let number = tap.number().await;
                assert!(Some(number) > last, "{number} came after {last:?}");
                last = Some(number);
                number
            };
            for _ in 0..BREAKS {
                let mut tap = Tap::accept(&listener).await;
                for _ in 0..10 {
                    read(&mut tap).await;
                }
                tap.reset();
            }
            let mut tap = Tap::accept(&listener).await;
            while read(&mut tap).await < FRAMES - 1 {}
            // Frames that the kernel had taken but the peer had not read when a link broke are
            // lost. They count as written, like those that were read. Each frame was written to one
            // link.
            until("all written", || peer.stats().frames.in_flight.is_zero()).await;
            let frames = peer.stats().frames;
            assert_eq!(frames.written, frames.accepted);
            end([a]).await;
        });
    }
}

// ---- nobody there ----------------------------------------------------------------------------------

#[test]
fn unreachable_events_with_growing_failure_counts_come_until_the_peer_is_up() {
    for config in configs() {
        run(async {
            let a = node(config.stale_after(NEVER));
            let mut events = watch(&a);
            let away = Vacant::new();
            let to = away.addr();
            send(&a, to, 1);
            let (mut last, mut first_since) = (0, None);
            while last < 5 {
                let PeerEvent::Unreachable {
                    peer,
                    since,
                    failures,
                    error,
                    name: None,
                    ..
                } = events.next().await
                else {
                    panic!("there is nothing else to tell");
                };
                assert_eq!(
                    (peer, error),
                    (to.into(), std::io::ErrorKind::ConnectionRefused)
                );
                assert!(failures > last, "{failures} after {last}");
                last = failures;
                assert_eq!(
                    *first_since.get_or_insert(since),
                    since,
                    "`since` is the time of the first failure"
                );
            }
            assert!(a.stats().links.dials >= last.into());
            let listener = away.listen();
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            let up = |event: &PeerEvent| matches!(event, PeerEvent::Up { .. });
            events.until(up).await;

            // The next outage is counted from its own beginning.
            drop(listener);
            drop(tap);
            assert_eq!(down(&mut events).await.0, 1);
            send(&a, to, 2);
            let PeerEvent::Unreachable {
                since, failures, ..
            } = events.next().await
            else {
                panic!("there is nothing else to tell");
            };
            assert!(Some(since) >= first_since);
            assert!(failures < last, "{failures}, counted on from {last}");
            end([a]).await;
        });
    }
}

#[test]
fn a_dial_without_an_answer_is_given_up_after_the_connect_timeout() {
    const DIAL: Duration = Duration::from_millis(100);

    for config in configs() {
        run(async {
            let a = node(config.connect_timeout(DIAL));
            let mut events = watch(&a);
            let mute = Mute::new().await;
            let began = Instant::now();
            send(&a, mute.addr, 1);
            let PeerEvent::Unreachable { error, .. } = events.next().await else {
                panic!("there is nothing else to tell");
            };
            assert_eq!(error, std::io::ErrorKind::TimedOut);
            assert!(began.elapsed() >= DIAL);
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_that_closes_every_link_at_once_is_dialled_with_waits() {
    const WAIT: Duration = Duration::from_millis(50);
    const LINKS: u32 = 30;

    for config in placements() {
        run(async {
            let config = config.redial_first(WAIT).redial_max(WAIT);
            let a = node(config.stable_after(NEVER));
            let (listener, to) = listener();
            let began = Instant::now();
            for link in 1..=LINKS {
                // Each link is made for a new frame.
                send(&a, to, link);
                drop(Tap::accept(&listener).await);
                until("it ended", || {
                    a.stats().links.disconnects == u64::from(link)
                })
                .await;
            }
            // Each wait is drawn at random between nothing and 50 ms. The mean of their sum is 725
            // ms, and 300 ms is more than five standard deviations below it.
            let took = began.elapsed();
            assert!(took > 6 * WAIT, "{LINKS} links in {took:?}");
            end([a]).await;
        });
    }
}

#[test]
fn a_peer_is_no_longer_dialled_once_its_frames_are_stale() {
    for config in configs() {
        run(async {
            let config = config.stale_after(50 * MS).idle_timeout(50 * MS);
            let a = node(config);
            let away = Vacant::new();
            send(&a, away.addr(), 1);
            until("stale", || a.stats().tcp.dropped.stale.frames == 1).await;
            // Only a peer that is not being dialled is idle, and only an idle peer is forgotten.
            until("forgotten", || a.peer_stats(away.addr()).is_none()).await;
            let stats = a.stats();
            assert_eq!(stats.tcp.dropped.stale.frames, 1);
            assert!(stats.links.dials > 0 && stats.links.connects == 0);
            end([a]).await;
        });
    }
}

// ---- nothing to send -------------------------------------------------------------------------------

#[test]
fn an_idle_link_is_closed_and_made_again_for_the_next_frame() {
    const IDLE: Duration = Duration::from_millis(100);

    for config in configs() {
        run(async {
            let a = node(config.idle_timeout(IDLE));
            let mut events = watch(&a);
            let (listener, to) = listener();
            // While a handle is held the peer is not forgotten, so its links are counted on.
            let peer = a.peer(to).expect("room");
            for epoch in 1..=3 {
                peer.try_send(group(1), numbered(epoch, 10)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, epoch);
                assert_eq!(down(&mut events).await, (epoch.into(), DownReason::Idle));
                assert_eq!(tap.read_to_end().await, (vec![], 0), "closed in good order");
                assert_eq!(
                    (peer.stats().connected, peer.stats().epoch),
                    (false, epoch.into())
                );
            }
            end([a]).await;
        });
    }
}

#[test]
fn the_idle_timeout_counts_from_the_last_frame() {
    const IDLE: Duration = Duration::from_millis(400);

    for config in configs() {
        run(async {
            let a = node(config.idle_timeout(IDLE));
            let mut events = watch(&a);
            let (listener, to) = listener();
            send(&a, to, 0);
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 0);
            // Sends frames, with pauses between them, for longer than a link may be idle.
            let began = Instant::now();
            let mut last = began;
            while began.elapsed() < IDLE + IDLE / 4 {
                tokio::time::sleep(20 * MS).await;
                last = Instant::now();
                send(&a, to, 1);
                // If the machine is so slow that the link was idle meanwhile, the frame comes on
                // another link.
                while tap.frame().await.is_none() {
                    tap = Tap::accept(&listener).await;
                }
            }
            let epoch = a.peer_stats(to).expect("known").epoch;
            let idle = |event: &PeerEvent| matches!(event, PeerEvent::Down { epoch: ended, .. } if *ended == epoch);
            events.until(idle).await;
            let idle = last.elapsed();
            assert!(idle >= IDLE, "closed after {idle:?}");
            end([a]).await;
        });
    }
}
