//! What a transport shows of itself: its peers, and its counters in a form for other programs.

use std::{net::SocketAddr, time::Duration};

use actix_transport::{Config, LinkState};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_list_of_peers_tells_how_things_stand_with_each() {
    for config in placements() {
        run(async {
            let a = node(config.redial_first(MS).redial_max(MS));
            assert_eq!(a.peers(), []);
            let ((_listener, up), away, mute) = (listener(), Vacant::new(), Mute::new().await);
            let idle = a.local_addr();
            let _idle = a.peer(idle).expect("room");
            for to in [up, away.addr(), mute.addr] {
                a.try_send(to, group(1), "hello").expect("room");
            }
            let state = |addr: SocketAddr| {
                let peers = a.peers();
                let peer = peers.into_iter().find(|peer| peer.peer == addr);
                peer.expect("known").state
            };
            until("up", || state(up) == LinkState::Up).await;
            assert_eq!(state(idle), LinkState::Idle);
            assert_eq!(state(mute.addr), LinkState::Connecting);
            let failing = |state| matches!(state, LinkState::Unreachable { failures: 3.. });
            until("failing", || failing(state(away.addr()))).await;

            let peers = a.peers();
            let addrs: Vec<_> = peers.iter().map(|peer| peer.addr.expect("an ip")).collect();
            let mut known = vec![up, away.addr(), mute.addr, idle];
            known.sort();
            assert_eq!(addrs, known);
            let away_now = peers.iter().find(|peer| peer.peer == away.addr());
            let frames = away_now.expect("known").frames;
            assert_eq!((frames.accepted.frames, frames.queued.frames), (1, 1));

            // A peer that comes back is up, and none of its failures is remembered.
            let addr = away.addr();
            let listener = away.listen();
            let mut tap = Tap::accept(&listener).await;
            tap.frame().await.expect("the frame that waited");
            until("up", || state(addr) == LinkState::Up).await;
            drop((tap, listener));
            until("down", || state(addr) == LinkState::Idle).await;
            end([a]).await;
        });
    }
}

#[cfg(feature = "serde")]
#[test]
fn counters_and_peers_can_be_serialised() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        let to = b.local_addr();
        a.try_send(to, group(1), "hello").expect("room");
        seen.next().await;
        until("written", || a.stats().tcp.written.frames == 1).await;
        until("delivered", || b.stats().inbound.delivered.frames == 1).await;
        let stats = serde_json::to_value(a.stats()).expect("plain values");
        let one = serde_json::json!({ "frames": 1, "bytes": 13 });
        assert_eq!(stats["tcp"]["written"], one);
        assert_eq!(stats["links"]["connects"], 1);
        assert_eq!(stats["links"]["datagram_errors"]["refused"], 0);
        until("delivered", || b.stats().inbound.delivered.frames == 1).await;
        let stats = serde_json::to_value(b.stats()).expect("plain values");
        assert_eq!(stats["inbound"]["delivered"], one);
        assert_eq!(stats["inbound"]["dropped"]["no_group"]["frames"], 0);
        let peers = serde_json::to_value(a.peers()).expect("plain values");
        assert_eq!(peers[0]["peer"], to.to_string());
        assert_eq!(peers[0]["addr"], to.to_string());
        assert_eq!(peers[0]["node"], serde_json::Value::Null);
        assert_eq!(peers[0]["state"], "up");
        assert_eq!(peers[0]["frames"]["written"], one);
        let _named = a.peer("node-3.svc:7000").expect("room");
        let peers = serde_json::to_value(a.peers()).expect("plain values");
        assert_eq!(peers[1]["peer"], "node-3.svc:7000");
        assert_eq!(peers[1]["addr"], serde_json::Value::Null);
        end([a, b]).await;
    });
}
