//! From `send` on one node to the group's actor on another.

use actix_transport::{Shutdown, Via};

use crate::support::*;

#[test]
fn a_frame_reaches_the_actor_of_its_group() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [3]);
            a.try_send(b.local_addr(), group(3), "hello").expect("room");
            let got = seen.next().await;
            assert_eq!(
                (got.group, &got.payload[..], got.via),
                (3, &b"hello"[..], Via::Tcp)
            );
            until("delivered", || b.stats().inbound.delivered.frames == 1).await;
            balanced([&a, &b]);
            a.stop(Shutdown::Now).await;
            b.stop(Shutdown::Now).await;
        });
    }
}
