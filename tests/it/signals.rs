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
    let name = "signals::a_write_to_a_link_that_the_peer_has_closed_raises_no_sigpipe";
    alone(name, || {
        run(async {
            let mut raised = signal(SignalKind::pipe()).expect("a handler");
            let [.., current] = placements();
            // Short frames are written in one piece, long ones in many.
            for len in [10, 16 << 10] {
                let a = node(current.clone());
                let (listener, to) = listener();
                let peer = a.peer(to).expect("room");
                peer.try_send(group(1), numbered(0, 10)).expect("room");
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, 0);
                drop((tap, listener));
                // Nothing but this has run on this thread since, so the transport does not know yet
                // that the link has ended. It writes, the peer's system answers with a reset, and it
                // writes again.
                std::thread::sleep(10 * MS);
                for number in 0..64 {
                    peer.try_send(group(1), numbered(number, len))
                        .expect("room");
                }
                until("ended", || a.stats().links.disconnects == 1).await;
                assert!(raised.recv().now_or_never().is_none(), "{len}");
                end([a]).await;
            }
        });
    });
}
