//! A transport raises no signals.

use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Rust programs ignore SIGPIPE, and would not notice. C programs that load a library in Rust do not,
/// and die of it.
#[test]
fn a_write_to_a_link_that_the_peer_has_closed_raises_no_sigpipe() {
    alone(
        "signals::a_write_to_a_link_that_the_peer_has_closed_raises_no_sigpipe",
        || {
            run(async {
                let mut raised = signal(SignalKind::pipe()).expect("a handler");
                let [_, current] = placements();
                let a = node(current);
                for _ in 0..5 {
                    let (listener, to) = listener();
                    let peer = a.peer(to).expect("room");
                    let mut tap = None;
                    // So that single frames are written by this thread.
                    for number in 0..10 {
                        peer.try_send(group(1), numbered(number, 10)).expect("room");
                        let tap = match &mut tap {
                            Some(tap) => tap,
                            none => none.insert(Tap::accept(&listener).await),
                        };
                        assert_eq!(tap.number().await, number);
                        tokio::time::sleep(MS).await;
                    }
                    drop(tap);
                    // From here on nothing but this runs on this thread, so the transport does not
                    // notice that the link has ended: it writes, the peer's system answers with a
                    // reset, and it writes again.
                    let before = peer.stats().frames.written.frames;
                    for number in 0..3 {
                        std::thread::sleep(5 * MS);
                        peer.try_send(group(1), numbered(number, 10)).expect("room");
                    }
                    assert!(peer.stats().frames.written.frames > before, "at once");
                    // Now it notices.
                    until("ended", || !peer.stats().connected).await;
                    assert!(raised.recv().now_or_never().is_none());
                }
                end([a]).await;
            });
        },
    );
}
