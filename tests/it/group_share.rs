//! How much of a queue one group may fill, and that the others do not notice when it does.
//!
//! A plug in the link holds back all frames behind it, so that they can be counted.

use std::{future::Future, pin::Pin, time::Duration};

use actix_transport::{
    Config, DropReason, Lane, LaneConfig, Overflow, Peer, PeerEvent, QueueLimit, SendError,
    Transport,
};
use futures::FutureExt;
use tokio::net::TcpListener;

use crate::support::*;

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// The groups: the plug is for the group 0.
const NOISY: u32 = 1;
const QUIET: u32 = 2;

/// Room for the plug and for a hundred frames, of which a group may have ten.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        config
            .max_frame(PLUG_BYTES)
            .queue_bytes(2 * PLUG_BYTES)
            .queue_frames(100)
            .group_share(0.1)
            .stale_after(NEVER)
            .user_timeout(NEVER)
    })
}

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

async fn plugged(a: &Transport, listener: &TcpListener) -> (Peer, Plugged) {
    let plugged = Plugged::new(a, listener).await;
    let peer = a.peer(listener.local_addr().expect("bound"));
    (peer.expect("usable"), plugged)
}

/// Reads frames, and returns the numbers of those of the noisy and of the quiet group.
async fn read(tap: &mut Tap, frames: usize) -> [Vec<u32>; 2] {
    let mut numbers = [Vec::new(), Vec::new()];
    for _ in 0..frames {
        let (of, payload) = tap.frame().await.expect("the link lives");
        numbers[of as usize - 1].push(number(&payload));
    }
    numbers
}

type Sending = Pin<Box<dyn Future<Output = Result<(), SendError<Vec<u8>>>>>>;

/// Begins to send a numbered frame, which has to wait.
fn start_waiting(peer: &Peer, of: u32, number: u32) -> Sending {
    let peer = peer.clone();
    let mut sending: Sending =
        Box::pin(async move { peer.send(group(of), numbered(number, 10)).await });
    assert!(sending.as_mut().now_or_never().is_none(), "no room");
    sending
}

#[test]
fn a_group_above_its_share_is_refused_with_the_reason_and_the_others_have_room() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, _) = listener();
            let (peer, plugged) = plugged(&a, &listener).await;
            for count in 0..10 {
                let sent = peer.try_send(group(NOISY), numbered(count, 10));
                sent.expect("room in its share");
            }
            for _ in 0..3 {
                let refused = peer.try_send(group(NOISY), numbered(10, 10));
                let err = refused.expect_err("its share is used up");
                assert!(err.is_full());
                assert_eq!(
                    err.to_string(),
                    "send queue is full: no room for more frames of this group, which has used up its share"
                );
                let SendError::Full { limit, payload } = err else {
                    panic!("{err}");
                };
                assert_eq!(limit, QueueLimit::GroupShare);
                assert_eq!(payload, numbered(10, 10));
            }
            for count in 0..10 {
                let sent = peer.try_send(group(QUIET), numbered(count, 10));
                sent.expect("room in its share");
            }
            let frames = peer.stats().frames;
            assert_eq!(frames.queued.frames, 20);
            assert_eq!(frames.rejected.full_share.frames, 3);
            assert_eq!(frames.rejected.full_share.bytes, 3 * 18);
            assert_eq!(frames.rejected.total(), frames.rejected.full_share);
            balanced([&a]);
            let mut tap = plugged.pull().await;
            let all: Vec<_> = (0..10).collect();
            assert_eq!(read(&mut tap, 20).await, [all.clone(), all]);
            end([a]).await;
        });
    }
}

#[test]
fn a_send_waits_for_the_share_of_its_own_group_while_others_go_on() {
    for config in configs() {
        run(async {
            let a = node(config);
            let (listener, _) = listener();
            let (peer, plugged) = plugged(&a, &listener).await;
            for count in 0..10 {
                let sent = peer.try_send(group(NOISY), numbered(count, 10));
                sent.expect("room in its share");
            }
            let waiting = [10, 11, 12].map(|count| start_waiting(&peer, NOISY, count));
            for count in 0..5 {
                let sending = peer.send(group(QUIET), numbered(count, 10));
                let sent = sending.now_or_never().expect("waits for nobody");
                sent.expect("room");
                let sent = peer.try_send(group(QUIET), numbered(5 + count, 10));
                sent.expect("room");
            }
            let mut tap = plugged.pull().await;
            for sending in waiting {
                sending.await.expect("room in the end");
            }
            let [noisy, quiet] = read(&mut tap, 23).await;
            assert_eq!(noisy, (0..13).collect::<Vec<_>>());
            assert_eq!(quiet, [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]);
            balanced([&a]);
            end([a]).await;
        });
    }
}

#[test]
fn a_group_evicts_its_own_oldest_frames_where_the_oldest_make_room() {
    for config in configs() {
        run(async {
            let a = node(config.overflow(Overflow::DropOldest));
            let mut events = watch(&a);
            let (listener, _) = listener();
            let (peer, plugged) = plugged(&a, &listener).await;
            for count in 0..100 {
                let sent = peer.try_send(group(NOISY), numbered(count, 10));
                sent.expect("its own frames make way");
                if count % 10 == 0 {
                    let sent = peer.try_send(group(QUIET), numbered(count, 10));
                    sent.expect("room in its share");
                }
            }
            let frames = peer.stats().frames;
            assert_eq!(frames.queued.frames, 20);
            assert_eq!(frames.dropped.overflow.frames, 90);
            balanced([&a]);
            let mut tap = plugged.pull().await;
            let [noisy, quiet] = read(&mut tap, 20).await;
            assert_eq!(noisy, (90..100).collect::<Vec<_>>());
            assert_eq!(quiet, (0..10).map(|count| 10 * count).collect::<Vec<_>>());
            let mut told = 0;
            while told < 90 {
                if let PeerEvent::Dropped { reason, count, .. } = events.next().await {
                    assert_eq!(reason, DropReason::Overflow);
                    told += count.frames;
                }
            }
            assert_eq!(told, 90);
            end([a]).await;
        });
    }
}

#[test]
fn a_frame_longer_than_the_share_goes_when_its_group_has_no_other() {
    for config in configs() {
        run(async {
            let (a, b) = (node(config.clone().group_share(0.001)), node(config));
            let mut got = serve(&b, [NOISY]);
            let peer = a.peer(b.local_addr()).expect("usable");
            // A share has 33 KB. Each waits until the one before is written.
            for count in 0..5 {
                let sent = peer.send(group(NOISY), numbered(count, 1 << 20)).await;
                sent.expect("room in the end");
            }
            for count in 0..5 {
                assert_eq!(number(&got.next().await.payload), count);
            }
            end([a, b]).await;
        });
    }
}

#[test]
fn a_lane_has_a_share_of_its_own() {
    for config in configs() {
        run(async {
            let bulk = LaneConfig::new().group_share(0.02);
            let a = node(config.lane(Lane::BULK, bulk));
            let mute = Mute::new().await;
            let peer = a.peer(mute.addr).expect("usable");
            for (lane, share) in [(Lane::BULK, 2), (Lane::NORMAL, 10)] {
                let peer = peer.lane(lane);
                let accepted = (0..20)
                    .filter(|&count| peer.try_send(group(NOISY), numbered(count, 10)).is_ok());
                assert_eq!(accepted.count(), share, "{lane}");
            }
            end([a]).await;
        });
    }
}

/// With a share of less than two parts, they are sent one by one, and do not evict each other.
#[test]
fn a_long_message_keeps_within_the_share_of_its_group() {
    for config in placements() {
        for overflow in [Overflow::RejectNewest, Overflow::DropOldest] {
            run(async {
                let config = config.clone().overflow(overflow).group_share(0.0005);
                let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
                let mut got = serve(&b, [NOISY]);
                let peer = a.peer(b.local_addr()).expect("usable");
                let message: Vec<u8> = (0..3 << 20).map(|byte| (byte / 7) as u8).collect();
                let sending = peer.send_large(group(NOISY), message.clone());
                sending.await.expect("taken");
                assert!(got.next().await.payload == message);
                let frames = peer.stats().frames;
                assert!(frames.dropped.total().is_zero());
                balanced([&a]);
                end([a, b]).await;
            });
        }
    }
}
