//! Frames and events can be taken from streams, on any runtime, with the same bounds as by actors.

use std::time::Duration;

use actix_transport::{Config, PeerEvent, RegisterError, Shutdown, Transport};
use futures::StreamExt;

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_stream_holds_back_the_connection_when_it_is_full() {
    for config in placements() {
        run(async {
            // A batch for each frame.
            let [a, b] = [node(config.clone()), node(config.batch_frames(1))];
            let mut stream = b.stream(group(1), 2).expect("free");
            let peer = a.peer(b.local_addr()).expect("usable");
            for number in 0..50_u32 {
                peer.send(group(1), number.to_be_bytes().to_vec())
                    .await
                    .expect("room");
            }
            // Two in the stream, and one that waits to get there.
            until("the stream is full", || {
                b.stats().inbound.received.frames == 3
            })
            .await;
            tokio::time::sleep(20 * MS).await;
            assert_eq!(b.stats().inbound.received.frames, 3);
            for number in 0..50_u32 {
                let mut batch = stream.next().await.expect("comes");
                assert_eq!(batch.next().as_deref(), Some(&number.to_be_bytes()[..]));
            }
            balanced([&a, &b]);
            let ended = tokio::spawn(async move { stream.next().await.is_none() });
            end([a, b]).await;
            assert!(ended.await.expect("no panic"), "the transport has stopped");
        });
    }
}

#[test]
fn when_a_stream_is_dropped_its_group_may_be_served_by_others() {
    run(async {
        let [a, b] = [(); 2].map(|()| node(Config::default()));
        let stream = b.stream(group(1), 1).expect("free");
        let taken = b.stream(group(1), 1).err();
        assert_eq!(taken, Some(RegisterError::Taken(group(1))));
        let peer = a.peer(b.local_addr()).expect("usable");
        peer.try_send(group(1), "for nobody").expect("room");
        until("it came", || b.stats().inbound.received.frames == 1).await;
        drop(stream);
        until("it is counted", || {
            b.stats().inbound.dropped.actor_gone.frames == 1
        })
        .await;
        let mut stream = None;
        until("the group is free", || {
            stream = b.stream(group(1), 1).ok();
            stream.is_some()
        })
        .await;
        peer.try_send(group(1), "for the next").expect("room");
        let batch = stream.as_mut().expect("is there").next().await;
        assert_eq!(
            batch.expect("comes").next().as_deref(),
            Some(&b"for the next"[..])
        );
        balanced([&a, &b]);
        end([a, b]).await;
    });
}

#[test]
fn a_program_on_many_threads_takes_frames_and_events_from_streams() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let [a, b] = [(); 2].map(|()| {
            let builder = Transport::builder();
            builder.bind("127.0.0.1:0").expect("free port")
        });
        let mut events = a.events(4);
        let mut stream = b.stream(group(1), 4).expect("free");
        let to = b.local_addr();
        let peer = a.peer(to).expect("usable");
        tokio::time::timeout(20_000 * MS, async {
            peer.send(group(1), "hello").await.expect("room");
            let mut batch = stream.next().await.expect("comes");
            assert_eq!(batch.next().as_deref(), Some(&b"hello"[..]));
            loop {
                match events.next().await.expect("comes") {
                    PeerEvent::Up { addr, .. } => break assert_eq!(addr, to),
                    _ => continue,
                }
            }
            for transport in [&a, &b] {
                transport.stop(Shutdown::Now).await;
            }
            while events.next().await.is_some() {}
            assert!(stream.next().await.is_none());
        })
        .await
        .expect("in time");
    });
}
