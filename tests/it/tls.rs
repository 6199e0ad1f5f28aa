//! Encrypted connections between nodes that show certificates.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use actix_transport::{
    BindError, Config, DownReason, HandshakeFailure, Identity, NodeId, PeerEvent, Shutdown, Tls,
    TlsError, TlsMode, Transport,
};

use crate::support::{
    keys::{Authority, Keys, Request},
    *,
};

const MS: Duration = Duration::from_millis(1);

fn quick(config: Config) -> Config {
    config.redial_first(MS).redial_max(10 * MS)
}

fn tls(keys: &Keys) -> Tls {
    let Keys {
        ca_pem,
        cert_pem,
        key_pem,
    } = keys;
    Tls::from_pem(ca_pem.as_bytes(), cert_pem.as_bytes(), key_pem.as_bytes())
        .expect("keys that fit together")
        .allow(["node-*.test"])
}

fn node(config: &Config, node: u64, tls: Tls) -> Transport {
    let builder = Transport::builder()
        .config(quick(config.clone()))
        .identity(identity(node))
        .tls(tls);
    builder.bind("127.0.0.1:0").expect("free port")
}

/// Waits until the stats say what is wanted.
async fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        tokio::time::sleep(MS).await;
    }
}

#[test]
fn frames_and_answers_go_both_ways_on_one_encrypted_connection() {
    for config in placements() {
        run(async {
            let authority = Authority::new("kv");
            let [a, b] =
                [1, 2].map(|n| node(&config, n, tls(&authority.certificate(Request::node(n)))));
            let mut questions = serve_known(&b, 1);
            let mut answers = serve_known(&a, 1);
            for number in 0..200_u32 {
                // From a few bytes to some records.
                let len = 4 + (number as usize * 997) % 100_000;
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(len, number as u8);
                a.try_send(b.local_addr(), group(1), payload.clone())
                    .expect("room");
                let (sender, got) = questions.next().await;
                assert_eq!(got.payload, payload);
                let peer = sender.expect("introduced").peer().expect("usable");
                peer.try_send(group(1), got.payload).expect("room");
                let (sender, got) = answers.next().await;
                assert_eq!(sender.expect("introduced").node(), NodeId::new(2));
                assert_eq!(got.payload, payload);
            }
            let stats = [&a, &b].map(Transport::stats);
            assert_eq!(stats.map(|stats| stats.links.dials), [1, 0]);
            assert_eq!((stats[0].tls.connected, stats[1].tls.accepted), (1, 1));
            let peer = &a.peers()[0];
            let certificate = peer.certificate.as_ref().expect("shown");
            assert_eq!(certificate.dns_names()[0], "node-2.test");
            end([a, b]).await;
        });
    }
}
