//! Payloads whose `Drop` panics cost nobody else anything.

use std::time::Duration;

use actix_transport::{Config, Overflow, Shutdown};
use bytes::Bytes;

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// The owner of a payload, which panics when it is dropped.
struct Bomb(Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        // A panic in all but the message, which nobody wants to read in the output of a test.
        std::panic::resume_unwind(Box::new("a payload that panics"));
    }
}

/// A payload that is kept as it is, because it is long, until it is dropped.
fn bomb() -> Bytes {
    Bytes::from_owner(Bomb(numbered(0, 16 << 10)))
}

/// Both placements, with redials so quick that no test waits for them.
fn configs() -> [Config; 3] {
    placements().map(|config| config.redial_first(MS).redial_max(MS))
}

#[test]
fn two_in_one_batch_cost_nothing() {
    alone("panicking_payloads::two_in_one_batch_cost_nothing", || {
        for config in configs() {
            run(async {
                let a = node(config.stale_after(NEVER));
                let away = Vacant::new();
                let peer = a.peer(away.addr()).expect("room");
                for _ in 0..5 {
                    peer.try_send(group(1), bomb()).expect("room");
                }
                let listener = away.listen();
                let mut tap = Tap::accept(&listener).await;
                for _ in 0..5 {
                    assert_eq!(tap.number().await, 0);
                }
                peer.try_send(group(1), numbered(1, 10)).expect("room");
                assert_eq!(tap.number().await, 1);
                assert_eq!(peer.stats().epoch, 1, "the same link");
                assert_eq!(a.stats().links.restarts, 0);
                end([a]).await;
            });
        }
    });
}

#[test]
fn two_that_are_dropped_before_they_are_written_cost_nothing() {
    let name = "panicking_payloads::two_that_are_dropped_before_they_are_written_cost_nothing";
    alone(name, || {
        for config in configs() {
            run(async {
                // Dropped for newer frames, then as stale, then at the end.
                let config = config.overflow(Overflow::DropOldest).queue_frames(2);
                let a = node(config.stale_after(300 * MS));
                let away = Vacant::new();
                let peer = a.peer(away.addr()).expect("room");
                for _ in 0..4 {
                    peer.try_send(group(1), bomb()).expect("room");
                }
                until("stale", || peer.stats().frames.dropped.stale.frames == 2).await;
                assert_eq!(peer.stats().frames.dropped.overflow.frames, 2);
                peer.try_send(group(1), bomb()).expect("room");
                peer.try_send(group(1), bomb()).expect("room");
                a.stop(Shutdown::Now).await;
                assert_eq!(peer.stats().frames.dropped.stopped.frames, 2);
                assert_eq!(a.stats().links.restarts, 0);
                balanced([&a]);
            });
        }
    });
}

#[test]
fn two_that_go_stale_behind_a_frame_that_is_being_written_cost_nothing() {
    let name =
        "panicking_payloads::two_that_go_stale_behind_a_frame_that_is_being_written_cost_nothing";
    alone(name, || {
        for config in configs() {
            run(async {
                let a = node(config.stale_after(100 * MS).max_frame(PLUG_BYTES));
                let away = Vacant::new();
                let peer = a.peer(away.addr()).expect("room");
                peer.try_send(group(1), numbered(1, 10)).expect("room");
                peer.try_send(group(1), vec![0; PLUG]).expect("room");
                peer.try_send(group(1), bomb()).expect("room");
                peer.try_send(group(1), bomb()).expect("room");
                let listener = away.listen();
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, 1);
                until("stale", || peer.stats().frames.dropped.stale.frames == 2).await;
                let (_, plug) = tap.frame().await.expect("the link goes on");
                assert_eq!(plug.len(), PLUG);
                assert_eq!(a.stats().links.restarts, 0);
                end([a]).await;
            });
        }
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn those_that_go_stale_between_two_lives_of_a_writer_do_not_end_its_supervision() {
    use actix_transport::{Failpoint, Failpoints, PeerEvent, Transport};

    let name = "panicking_payloads::those_that_go_stale_between_two_lives_of_a_writer_do_not_end_its_supervision";
    alone(name, || {
        for config in configs() {
            run(async {
                // The pause between the two lives is long enough for the frames to go stale.
                let config = config.restart_limit(0).failed_retry(500 * MS);
                let faults = Failpoints::default();
                let builder = Transport::builder().config(config.stale_after(50 * MS));
                let builder = builder.failpoints(faults.clone());
                let a = builder.bind("127.0.0.1:0").expect("free port");
                let mut events = watch(&a);
                let (listener, to) = listener();
                let peer = a.peer(to).expect("room");
                faults.arm(Failpoint::BeforeTake);
                peer.try_send(group(1), bomb()).expect("room");
                let failed = |event: &PeerEvent| matches!(event, PeerEvent::Failed { .. });
                events.until(failed).await;
                peer.try_send(group(1), bomb()).expect("room");
                until("stale", || peer.stats().frames.dropped.stale.frames == 2).await;
                let restarted = |event: &PeerEvent| matches!(event, PeerEvent::Restarted { .. });
                events.until(restarted).await;
                drop(Tap::accept(&listener).await);
                peer.try_send(group(1), numbered(1, 10)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, 1);
                end([a]).await;
            });
        }
    });
}
