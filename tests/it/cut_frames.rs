//! A frame that no link survives does not keep back those behind it for ever.

use std::time::Duration;

use actix_transport::{Config, DropReason, PeerEvent};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Both placements, with frames that never go stale and redials so quick that no test waits for them.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        let config = config.stale_after(NEVER).max_frame(PLUG_BYTES);
        config.redial_first(MS).redial_max(MS)
    })
}

#[test]
fn a_frame_that_is_longer_than_the_peer_accepts_is_dropped_and_what_is_behind_it_arrives() {
    for config in configs() {
        run(async {
            let a = node(config);
            let b = node(Config::default().max_frame(1000));
            let mut seen = serve(&b, [1]);
            let mut events = watch(&a);
            let peer = a.peer(b.local_addr()).expect("room");
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            assert_eq!(number(&seen.next().await.payload), 1);
            peer.try_send(group(1), vec![0; PLUG]).expect("room");
            peer.try_send(group(1), numbered(2, 10)).expect("room");
            peer.try_send(group(1), numbered(3, 10)).expect("room");
            assert_eq!(number(&seen.next().await.payload), 2);
            assert_eq!(number(&seen.next().await.payload), 3);

            let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
            let PeerEvent::Dropped {
                peer: to,
                reason,
                count,
                ..
            } = events.until(dropped).await
            else {
                unreachable!("it was waited for");
            };
            assert_eq!(
                (to, reason),
                (Some(b.local_addr().into()), DropReason::CutOff)
            );
            assert_eq!((count.frames, count.bytes), (1, PLUG_BYTES as u64));
            until("all written", || peer.stats().frames.written.frames == 3).await;
            assert_eq!(peer.stats().frames.dropped.cut_off, count);
            // The first link, on which the frame came second, and two more.
            assert_eq!(b.stats().inbound.malformed, 3);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_frame_is_not_dropped_for_links_that_other_frames_were_cut_on() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            for round in 0..3 {
                peer.try_send(group(1), numbered(round, PLUG))
                    .expect("room");
                // Two links end while the frame is being written. The third takes it.
                for _ in 0..2 {
                    let mut tap = Tap::accept(&listener).await;
                    tap.buffer_bytes(1000).await;
                    tap.reset();
                }
                let mut tap = Tap::accept(&listener).await;
                assert_eq!(tap.number().await, round);
                tap.reset();
                until("ended", || !peer.stats().connected).await;
            }
            let frames = peer.stats().frames;
            assert_eq!(frames.written, frames.offered);
            end([a]).await;
        });
    }
}
