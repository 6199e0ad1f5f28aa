//! Encrypted connections between nodes that show certificates.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, SystemTime},
};

use actix_transport::{
    BindError, Config, DownReason, GroupOverflow, HandshakeFailure, Identity, NodeId, PeerEvent,
    RefusedReason, Shutdown, Tls, TlsError, TlsMode, Transport,
};

use crate::support::{
    keys::{Authority, Keys, Request},
    tls_client::{connect, fate, first_flight, impostor, send_raw, tls, tls_of_all},
    *,
};

const MS: Duration = Duration::from_millis(1);

fn quick(config: Config) -> Config {
    config.redial_first(MS).redial_max(10 * MS)
}

fn node_with(config: &Config, node: u64, tls: Tls) -> Transport {
    let builder = Transport::builder()
        .config(quick(config.clone()))
        .identity(identity(node))
        .tls(tls);
    builder.bind("127.0.0.1:0").expect("free port")
}

/// A node with keys of its own from this CA.
fn node_of(authority: &Authority, node: u64) -> Transport {
    node_with(
        &Config::default(),
        node,
        tls(&authority.certificate(Request::node(node))),
    )
}

fn failed(transport: &Transport, reason: HandshakeFailure) -> u64 {
    transport.stats().tls.failed.of(reason)
}

/// Waits until a handshake has failed at this node, and checks that it is counted by its reason and ip.
async fn failed_once(transport: &Transport, reason: HandshakeFailure) {
    let total = || transport.stats().tls.failed.total();
    until("the failure is counted", || total() > 0).await;
    let failed = transport.stats().tls.failed;
    assert_eq!(
        (failed.total(), failed.of(reason)),
        (1, 1),
        "{failed} for {reason:?}"
    );
    let refused = transport.failed_handshakes();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].ip.to_string(), "127.0.0.1");
    assert_eq!(refused[0].failed.of(reason), 1);
}

fn send(from: &Transport, to: &Transport, number: u32) {
    let payload = number.to_be_bytes().to_vec();
    from.try_send(to.local_addr(), group(1), payload)
        .expect("room");
}

async fn arrives(got: &mut Seen<Got>, number: u32) {
    assert_eq!(got.next().await.payload, number.to_be_bytes()[..]);
}

async fn unreachable(events: &mut Seen<PeerEvent>) -> std::io::ErrorKind {
    let wanted = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { .. });
    match events.until(wanted).await {
        PeerEvent::Unreachable { error, .. } => error,
        other => panic!("{other}"),
    }
}

async fn down(events: &mut Seen<PeerEvent>) -> DownReason {
    let wanted = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(wanted).await {
        PeerEvent::Down { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

// ---- frames --------------------------------------------------------------------------------------------

#[test]
fn frames_and_answers_go_both_ways_on_one_encrypted_connection() {
    for config in placements() {
        run(async {
            let authority = Authority::new("kv");
            let [a, b] = [1, 2].map(|node| {
                node_with(
                    &config,
                    node,
                    tls(&authority.certificate(Request::node(node))),
                )
            });
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
                let sender = sender.expect("introduced");
                assert_eq!(sender.node(), NodeId::new(2));
                let certificate = sender.certificate().expect("shown");
                assert_eq!(certificate.dns_names()[0], "node-2.test");
                assert_eq!(got.payload, payload);
            }
            let stats = [&a, &b].map(Transport::stats);
            assert_eq!(stats.map(|stats| stats.links.dials), [1, 0]);
            assert_eq!((stats[0].tls.connected, stats[1].tls.accepted), (1, 1));
            balanced([&a, &b]);
            end([a, b]).await;
        });
    }
}

/// The system takes only a part of what is encrypted, again and again.
#[test]
fn large_frames_both_ways_at_once_arrive_whole_and_in_order() {
    const FRAMES: u32 = 40;
    const LEN: usize = 1_500_000;

    for config in placements() {
        // However slow the machine is.
        let config = config.stale_after(Duration::from_secs(3600));
        run(async {
            let authority = Authority::new("kv");
            let [a, b] = [1, 2].map(|node| {
                node_with(
                    &config,
                    node,
                    tls(&authority.certificate(Request::node(node))),
                )
            });
            let mut seen = [serve(&a, [1]), serve(&b, [1])];
            for number in 0..FRAMES {
                for (from, to) in [(&a, &b), (&b, &a)] {
                    from.try_send(to.local_addr(), group(1), numbered(number, LEN))
                        .expect("room");
                }
            }
            for seen in &mut seen {
                for expected in 0..FRAMES {
                    let got = seen.next().await;
                    assert_eq!((number(&got.payload), got.payload.len()), (expected, LEN));
                }
            }
            balanced([&a, &b]);
            end([a, b]).await;
        });
    }
}

#[test]
fn nothing_of_a_frame_is_readable_on_the_way() {
    run(async {
        let authority = Authority::new("kv");
        let a = node_of(&authority, 1);
        let (listener, addr) = listener();
        let b = node_of(&authority, 2);
        let mut got = serve(&b, [1]);
        let to = b.local_addr();
        let copied = thread::spawn(move || {
            let listener = listener.into_std().expect("of this thread");
            listener.set_nonblocking(false).expect("a socket");
            let (from, _) = listener.accept().expect("dialled");
            let to = TcpStream::connect(to).expect("it listens");
            let (mut back, mut there) = (to.try_clone().expect("a socket"), from.try_clone());
            thread::spawn(move || {
                let _ = std::io::copy(&mut back, there.as_mut().expect("a socket"));
            });
            let (mut from, mut to, mut copy) = (from, to, Vec::new());
            let mut bytes = [0; 1024];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                copy.extend_from_slice(&bytes[..n]);
                let _ = to.write_all(&bytes[..n]);
            }
            copy
        });
        let secret = b"nobody reads this on the way".repeat(10);
        a.try_send(addr, group(1), secret.clone()).expect("room");
        assert_eq!(got.next().await.payload, secret);
        end([a, b]).await;
        let copy = copied.join().expect("no panic");
        assert!(copy.len() > secret.len());
        let part = &secret[..8];
        assert!(!copy.windows(8).any(|bytes| bytes == part));
        // The names of the certificate are encrypted as well.
        assert!(!copy.windows(6).any(|bytes| bytes == b"node-1"));
    });
}

#[test]
fn what_was_written_on_an_encrypted_connection_is_confirmed_to_the_frame() {
    run(async {
        let authority = Authority::new("kv");
        let [a, b] = [1, 2].map(|node| node_of(&authority, node));
        let mut events = watch(&a);
        let mut got = serve(&b, [1]);
        for number in 0..100 {
            send(&a, &b, number);
            arrives(&mut got, number).await;
        }
        b.stop(Shutdown::Now).await;
        let wanted = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
        let PeerEvent::Down {
            receipt, reason, ..
        } = events.until(wanted).await
        else {
            panic!("another event");
        };
        assert_eq!(reason, DownReason::Left);
        if let Some(receipt) = receipt {
            assert_eq!(
                (receipt.confirmed.frames, receipt.in_doubt.frames),
                (100, 0)
            );
        }
        a.stop(Shutdown::Now).await;
    });
}

// ---- who gets in ---------------------------------------------------------------------------------------

/// Says `Hello` and a frame over TLS, as whoever has these keys.
async fn stranger(to: &Transport, keys: Option<&Keys>) -> usize {
    let stream = connect(to.local_addr(), keys);
    let says = [hello(9, 1), wire(1, b"let me in")].concat();
    let fate = tokio::task::spawn_blocking(move || fate(stream, &says));
    fate.await.expect("no panic").0
}

#[test]
fn without_a_valid_certificate_nothing_gets_in_or_out_and_the_reason_is_counted() {
    use HandshakeFailure::*;

    let authority = Authority::new("kv");
    let good = authority.certificate(Request::node(9));
    let of = |request| Some(authority.certificate(request));
    let other_ca = Authority::new("other").certificate(Request::node(9));
    // It calls itself like the one that is trusted, so a signature is looked at.
    let forged_ca = Authority::new("kv").certificate(Request::node(9));
    // A chain that leads to the CA, and is too long.
    let mut long = authority.intermediate("1");
    for level in 2..=8 {
        long = long.intermediate(&level.to_string());
    }
    let strangers = [
        (NoCertificate, None),
        (UnknownIssuer, Some(other_ca)),
        (BadCertificate, Some(forged_ca)),
        (Expired, of(Request::node(9).expired())),
        (NotYetValid, of(Request::node(9).not_yet_valid())),
        (NotAllowed, of(Request::new().dns("web-9.test"))),
        (NotAllowed, of(Request::new().uri("spiffe://node-9.test"))),
        (NotAllowed, of(Request::new())),
        (BadCertificate, Some(long.certificate(Request::node(9)))),
        (
            BadCertificate,
            Some(good.with_key_of(&authority.certificate(Request::node(8)))),
        ),
    ];
    for (reason, keys) in strangers {
        run(async {
            let node = node_of(&authority, 1);
            let got = serve(&node, [1]);
            let came = stranger(&node, keys.as_ref()).await;
            assert_eq!(came, 0, "{reason:?}");
            failed_once(&node, reason).await;
            let stats = node.stats();
            assert_eq!(stats.inbound.received.frames, 0);
            until("the place is free", || node.stats().links.connections == 0).await;
            node.stop(Shutdown::Now).await;
            got.end().await;
        });
    }
}

#[test]
fn with_a_valid_certificate_a_client_of_another_kind_gets_in() {
    run(async {
        let authority = Authority::new("kv");
        let node = node_of(&authority, 1);
        let mut got = serve(&node, [1]);
        let keys = authority.certificate(Request::node(9));
        let mut stream = connect(node.local_addr(), Some(&keys));
        let answered = tokio::task::spawn_blocking(move || {
            stream.write_all(&hello(9, 1)).expect("open");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("a Welcome");
            let frame = wire(1, b"let me in");
            stream.write_all(&frame).expect("open");
            stream
        });
        let _stream = answered.await.expect("no panic");
        assert_eq!(got.next().await.payload, &b"let me in"[..]);
        assert_eq!(node.stats().tls.accepted, 1);
        node.stop(Shutdown::Now).await;
    });
}

#[test]
fn bytes_that_are_no_tls_cost_their_own_connection_and_are_counted() {
    let flight = first_flight();
    let hello = hello(9, 1);
    let garbage: Vec<u8> = (0..4096_u32).map(|n| (n * 31 % 251) as u8).collect();
    let mut no_hello = vec![0x16, 3, 1, 0, 200];
    no_hello.resize(4096, 0xee);
    let empty_records = [0x16, 3, 3, 0, 0].repeat(1000);
    for bytes in [&hello, &garbage, &no_hello, &empty_records] {
        run(async {
            let node = node_of(&Authority::new("kv"), 1);
            let stream = send_raw(&node, bytes);
            failed_once(&node, HandshakeFailure::NotTls).await;
            until("the place is free", || node.stats().links.connections == 0).await;
            drop(stream);
            assert_eq!(node.stats().inbound.malformed, 0);
            node.stop(Shutdown::Now).await;
        });
    }
    // An alert at every byte of the first flight.
    run(async {
        let node = node_of(&Authority::new("kv"), 1);
        let count = flight.len();
        for cut in 0..count {
            let alert = [0x15, 3, 3, 0, 2, 2, 40];
            drop(send_raw(&node, &[&flight[..cut], &alert].concat()));
        }
        until("all are over", || {
            node.stats().tls.failed.total() == count as u64 && node.stats().links.connections == 0
        })
        .await;
        node.stop(Shutdown::Now).await;
    });
}

#[test]
fn half_a_handshake_and_then_silence_ends_after_its_time() {
    run(async {
        let keys = Authority::new("kv").certificate(Request::node(1));
        let config = Config::default().connect_timeout(200 * MS);
        let node = node_with(&config, 1, tls(&keys));
        let flight = first_flight();
        let open: Vec<_> = [0, 1, flight.len() / 2]
            .map(|len| send_raw(&node, &flight[..len]))
            .into();
        until("all are over", || {
            failed(&node, HandshakeFailure::TimedOut) == 3 && node.stats().links.connections == 0
        })
        .await;
        drop(open);
        node.stop(Shutdown::Now).await;
    });
}

/// More than there may be at the same time, all from one ip.
#[test]
fn the_oldest_handshakes_give_way_and_a_node_still_gets_in() {
    run(async {
        let authority = Authority::new("kv");
        let [a, b] = [1, 2].map(|node| node_of(&authority, node));
        let mut got = serve(&b, [1]);
        let flight = first_flight();
        let _open: Vec<_> = (0..100)
            .map(|_| send_raw(&b, &flight[..flight.len() / 2]))
            .collect();
        until("there is no place", || {
            failed(&b, HandshakeFailure::Crowded) >= 36
        })
        .await;
        send(&a, &b, 1);
        arrives(&mut got, 1).await;
        end([a, b]).await;
    });
}

#[test]
fn a_handshake_that_never_ends_is_cut_after_32_kib() {
    run(async {
        let node = node_of(&Authority::new("kv"), 1);
        // A message of the handshake that announces 65,000 bytes, in records of 1,000.
        let mut bytes = Vec::new();
        for n in 0..60 {
            bytes.extend_from_slice(&[0x16, 3, 1, 3, 0xe8]);
            let mut part = vec![7; 1000];
            if n == 0 {
                part[..4].copy_from_slice(&[1, 0, 0xfd, 0xe8]);
            }
            bytes.extend_from_slice(&part);
        }
        let _stream = send_raw(&node, &bytes);
        failed_once(&node, HandshakeFailure::TooLong).await;
        node.stop(Shutdown::Now).await;
    });
}

#[test]
fn tls_on_a_plain_port_is_malformed_and_costs_its_own_connection() {
    run(async {
        let plain = node(quick(Config::default()));
        let got = serve(&plain, [1]);
        let authority = Authority::new("kv");
        let a = node_of(&authority, 1);
        let mut events = watch(&a);
        send(&a, &plain, 1);
        let error = unreachable(&mut events).await;
        assert_eq!(error, std::io::ErrorKind::UnexpectedEof);
        assert!(plain.stats().inbound.malformed > 0);
        assert!(failed(&a, HandshakeFailure::Closed) > 0);
        assert_eq!(a.stats().tcp.written.frames, 0);
        end([plain, a]).await;
        got.end().await;
    });
}

// ---- who is dialled ------------------------------------------------------------------------------------

#[test]
fn a_node_is_dialled_only_if_its_certificate_is_for_the_name_or_for_the_node_that_is_meant() {
    run(async {
        let authority = Authority::new("kv");
        let no_ip = || authority.certificate(Request::new().dns("node-2.test"));
        let b = node_with(&Config::default(), 2, tls(&no_ip()));
        let mut got = serve(&b, [1]);
        // By an ip that the certificate does not have.
        let a = node_of(&authority, 1);
        let mut events = watch(&a);
        send(&a, &b, 1);
        let error = unreachable(&mut events).await;
        assert_eq!(error, std::io::ErrorKind::PermissionDenied);
        assert!(failed(&a, HandshakeFailure::WrongName) > 0);
        until("the other end knows", || {
            failed(&b, HandshakeFailure::Rejected) > 0
        })
        .await;
        assert_eq!(b.stats().inbound.received.frames, 0);
        a.stop(Shutdown::Now).await;
        // As the node that is meant there.
        for (meant, comes) in [(2, true), (3, false)] {
            let keys = authority.certificate(Request::node(1));
            let a = Transport::builder()
                .config(quick(Config::default()))
                .identity(identity(1).incarnation(10 + meant))
                .tls(tls(&keys))
                .peer(NodeId::new(meant), b.local_addr())
                .bind("127.0.0.1:0")
                .expect("free port");
            let mut events = watch(&a);
            send(&a, &b, meant as u32);
            match comes {
                true => arrives(&mut got, meant as u32).await,
                false => {
                    let error = unreachable(&mut events).await;
                    assert_eq!(error, std::io::ErrorKind::PermissionDenied);
                }
            }
            a.stop(Shutdown::Now).await;
        }
        b.stop(Shutdown::Now).await;
        got.end().await;
    });
}

#[test]
fn a_node_that_is_dialled_must_be_of_this_ca_and_allowed() {
    let authority = Authority::new("kv");
    let others = [
        (
            HandshakeFailure::UnknownIssuer,
            Authority::new("other").certificate(Request::node(2)),
        ),
        (
            HandshakeFailure::NotAllowed,
            authority.certificate(Request {
                dns: vec!["web-2.test".to_owned()],
                ..Request::node(2)
            }),
        ),
    ];
    for (reason, keys) in others {
        run(async {
            let b = node_with(&Config::default(), 2, tls_of_all(&keys).allow(["*"]));
            let a = node_of(&authority, 1);
            let mut events = watch(&a);
            send(&a, &b, 1);
            let error = unreachable(&mut events).await;
            assert_eq!(error, std::io::ErrorKind::PermissionDenied);
            assert!(failed(&a, reason) > 0, "{}", a.stats().tls.failed);
            end([a, b]).await;
        });
    }
}

// ---- which node it is ----------------------------------------------------------------------------------

#[test]
fn a_node_must_have_a_certificate_for_its_number() {
    run(async {
        let authority = Authority::new("kv");
        let b = node_of(&authority, 2);
        let got = serve(&b, [1]);
        // It would be stopped by its own check, if it did not switch that off.
        let keys = authority.certificate(Request::node(7));
        let liar = node_with(&Config::default(), 3, tls(&keys).node_rule(|_, _| true));
        let mut events = watch(&liar);
        send(&liar, &b, 1);
        let refused = DownReason::Refused(RefusedReason::Certificate);
        assert_eq!(down(&mut events).await, refused);
        // Nor is it taken for the node that it says to be when it is dialled.
        let mut events = watch(&b);
        send(&b, &liar, 1);
        assert_eq!(down(&mut events).await, refused);
        let written = [&b, &liar].map(|node| node.stats().tcp.written.frames);
        assert_eq!(written, [0, 0]);
        // Once when it dialled, and once when it was dialled.
        assert!(failed(&b, HandshakeFailure::WrongNode) >= 2);
        end([b, liar]).await;
        got.end().await;
    });
}

#[test]
fn a_node_that_is_dialled_needs_a_certificate_that_is_valid_and_a_key() {
    use HandshakeFailure::*;

    let authority = Authority::new("kv");
    let mut long = authority.intermediate("1");
    for level in 2..=8 {
        long = long.intermediate(&level.to_string());
    }
    let good = authority.certificate(Request::node(2));
    let impostors = [
        (Expired, authority.certificate(Request::node(2).expired())),
        (
            NotYetValid,
            authority.certificate(Request::node(2).not_yet_valid()),
        ),
        (BadCertificate, long.certificate(Request::node(2))),
        (
            BadCertificate,
            good.with_key_of(&authority.certificate(Request::node(2))),
        ),
    ];
    for (reason, keys) in impostors {
        run(async {
            let addr = impostor(&keys, welcome_both_ways(2, 7, 7000));
            let a = node_of(&authority, 1);
            let mut events = watch(&a);
            a.try_send(addr, group(1), &b"secret"[..]).expect("room");
            let error = unreachable(&mut events).await;
            assert_eq!(error, std::io::ErrorKind::PermissionDenied, "{reason:?}");
            assert!(failed(&a, reason) > 0, "{}", a.stats().tls.failed);
            assert_eq!(a.stats().tcp.written.frames, 0);
            a.stop(Shutdown::Now).await;
        });
    }
}

/// It could not be shut out later: only links both ways are ended when the keys change.
#[test]
fn a_node_that_takes_frames_only_and_sends_none_gets_none() {
    run(async {
        let authority = Authority::new("kv");
        let keys = authority.certificate(Request::node(2));
        for (answer, comes) in [
            (welcome(2, 7), false),
            (welcome_both_ways(2, 7, 7000), true),
        ] {
            let addr = impostor(&keys, answer);
            let a = node_of(&authority, 1);
            let mut events = watch(&a);
            a.try_send(addr, group(1), &b"x"[..]).expect("room");
            match comes {
                false => {
                    unreachable(&mut events).await;
                    assert_eq!(a.stats().tcp.written.frames, 0);
                }
                true => until("it is written", || a.stats().tcp.written.frames == 1).await,
            }
            a.stop(Shutdown::Now).await;
        }
    });
}

#[test]
fn a_rule_that_panics_covers_nothing_and_costs_nothing_else() {
    run(async {
        let authority = Authority::new("kv");
        let keys = authority.certificate(Request::node(1));
        let tls_1 = tls(&keys).node_rule(|_, node| {
            assert_eq!(node, NodeId::new(1), "the rule fails");
            true
        });
        let a = node_with(&Config::default(), 1, tls_1);
        let b = node_of(&authority, 2);
        let mut events = watch(&b);
        send(&b, &a, 1);
        let refused = DownReason::Refused(RefusedReason::Certificate);
        assert_eq!(down(&mut events).await, refused);
        assert_eq!(a.stats().links.restarts, 0);
        a.reload_tls(tls(&keys)).expect("good keys");
        let mut got = serve(&a, [1]);
        arrives(&mut got, 1).await;
        end([a, b]).await;
    });
}

#[test]
fn another_rule_can_say_which_nodes_a_certificate_covers() {
    run(async {
        let authority = Authority::new("kv");
        let [a, b] = [1, 2].map(|node| {
            let uri = format!("spiffe://kv/zone-{node}/node");
            let keys = authority.certificate(Request {
                dns: Vec::new(),
                ..Request::node(node).uri(&uri)
            });
            let tls = tls_of_all(&keys).allow(["spiffe://kv/zone-*/node"]);
            let rule = tls.node_rule(|certificate, node| {
                certificate.uris() == [format!("spiffe://kv/zone-{node}/node")]
            });
            node_with(&Config::default(), node, rule)
        });
        let mut got = serve(&b, [1]);
        send(&a, &b, 1);
        arrives(&mut got, 1).await;
        end([a, b]).await;
    });
}

// ---- other keys ----------------------------------------------------------------------------------------

#[test]
fn keys_change_under_load_without_the_loss_of_a_frame() {
    run(async {
        let authority = Authority::new("kv");
        let [a, b] = [1, 2].map(|node| node_of(&authority, node));
        let mut got = serve(&b, [1]);
        for number in 0..400 {
            send(&a, &b, number);
            if number % 10 == 0 {
                for (node, transport) in [(1, &a), (2, &b)] {
                    let keys = authority.certificate(Request::node(node));
                    transport.reload_tls(tls(&keys)).expect("good keys");
                }
            }
            arrives(&mut got, number).await;
        }
        assert_eq!(b.stats().inbound.missing, 0);
        end([a, b]).await;
    });
}

#[test]
fn a_new_certificate_is_shown_on_a_new_link_and_the_former_one_ends_in_order() {
    run(async {
        let authority = Authority::new("kv");
        let [a, b] = [1, 2].map(|node| node_of(&authority, node));
        let mut events = watch(&a);
        let mut got = serve(&b, [1]);
        send(&a, &b, 1);
        arrives(&mut got, 1).await;
        let keys = authority.certificate(Request::node(1));
        a.reload_tls(tls(&keys)).expect("good keys");
        assert_eq!(down(&mut events).await, DownReason::Renewed);
        send(&a, &b, 2);
        arrives(&mut got, 2).await;
        // Other rules with the same certificate end nothing.
        a.reload_tls(tls_of_all(&keys).allow(["*"]))
            .expect("good keys");
        send(&a, &b, 3);
        arrives(&mut got, 3).await;
        assert_eq!((a.stats().tls.connected, b.stats().inbound.missing), (2, 0));
        end([a, b]).await;
    });
}

/// The former link is read for as long as the actor is busy. Nothing else shows that it is still there.
#[test]
fn a_ca_can_be_withdrawn_without_loss_when_no_link_needs_it_any_more() {
    for config in placements() {
        run(async {
            let [old, new] = ["old", "new"].map(Authority::new);
            let both = |node, authority: &Authority| {
                let ca_pem = old.root_pem().to_owned() + new.root_pem();
                tls(&Keys {
                    ca_pem,
                    ..authority.certificate(Request::node(node))
                })
            };
            let [a, b] = [1, 2].map(|node| node_with(&config, node, both(node, &old)));
            let (gate, mut got) = hold(&b, 1, GroupOverflow::Wait);
            let mut events = watch(&a);
            send(&a, &b, 0);
            until("the actor is busy", || gate.came() == 1).await;
            send(&a, &b, 1);
            until("it is written", || a.stats().tcp.written.frames == 2).await;
            a.reload_tls(both(1, &new)).expect("good keys");
            assert_eq!(down(&mut events).await, DownReason::Renewed);
            send(&a, &b, 2);
            let only_new = tls(&new.certificate(Request::node(2)));
            let cut = || b.nodes_cut_by(&only_new).expect("good keys");
            until("there is a new link", || a.stats().tls.connected == 2).await;
            assert_eq!(cut(), [NodeId::new(1)]);
            gate.open();
            until("the former link is read to its end", || cut().is_empty()).await;
            b.reload_tls(only_new.clone()).expect("good keys");
            for number in 0..3 {
                arrives(&mut got, number).await;
            }
            assert_eq!(b.stats().inbound.missing, 0);
            end([a, b]).await;
        });
    }
}

#[test]
fn whoever_is_no_longer_allowed_is_shut_out_at_once() {
    for config in placements() {
        run(async {
            let authority = Authority::new("kv");
            let keys = [1, 2].map(|node| authority.certificate(Request::node(node)));
            let [a, b] = [1, 2].map(|node| node_with(&config, node as u64, tls(&keys[node - 1])));
            let mut events = watch(&a);
            let mut got = serve(&b, [1]);
            send(&a, &b, 1);
            arrives(&mut got, 1).await;
            let only_others = tls_of_all(&keys[1]).allow(["node-3.test"]);
            b.reload_tls(only_others).expect("good keys");
            let links = || b.stats().links.connections;
            until("the link has ended", || links() == 0).await;
            assert_eq!(down(&mut events).await, DownReason::Closed);
            send(&a, &b, 2);
            until("it is refused", || {
                failed(&b, HandshakeFailure::NotAllowed) > 0
            })
            .await;
            unreachable(&mut events).await;
            assert!(failed(&a, HandshakeFailure::Rejected) > 0);
            assert_eq!(b.stats().inbound.received.frames, 1);
            // The same from the other end: who dials looks at the links that it made, too.
            b.reload_tls(tls(&keys[1])).expect("good keys");
            arrives(&mut got, 2).await;
            a.reload_tls(tls_of_all(&keys[0]).allow(["node-3.test"]))
                .expect("good keys");
            assert_eq!(down(&mut events).await, DownReason::Untrusted);
            end([a, b]).await;
            got.end().await;
        });
    }
}

#[test]
fn keys_that_cannot_be_used_leave_the_old_ones_in_use() {
    run(async {
        let authority = Authority::new("kv");
        let keys = authority.certificate(Request::node(1));
        let [a, b] = [1, 2].map(|node| node_of(&authority, node));
        let mut got = serve(&b, [1]);
        let before = a.certificate().expect("TLS is on");
        let reload = |tls| a.reload_tls(tls).expect_err("bad keys");
        assert!(matches!(reload(tls_of_all(&keys)), TlsError::NobodyAllowed));
        let bad_pattern = tls_of_all(&keys).allow(["no name"]);
        assert!(matches!(reload(bad_pattern), TlsError::Pattern(_)));
        let of_another = tls(&authority.certificate(Request::node(2)));
        assert!(matches!(reload(of_another), TlsError::NotOurs { .. }));
        assert_eq!(a.certificate(), Some(before));
        send(&a, &b, 1);
        arrives(&mut got, 1).await;
        let plain = node(Config::default());
        let err = plain.reload_tls(tls(&keys)).expect_err("it has no TLS");
        assert!(matches!(err, TlsError::Off));
        plain.stop(Shutdown::Now).await;
        end([a, b]).await;
    });
}

#[test]
fn files_are_read_again_and_bad_ones_are_told_and_not_used() {
    run(async {
        let dir = std::env::temp_dir().join(format!("actix-transport-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let authority = Authority::new("kv");
        authority.write(&dir).expect("a folder");
        let write = |request| {
            let keys = authority.certificate(request);
            keys.write(&dir, "node-1").expect("a folder");
        };
        write(Request::node(1));
        let path = |name: &str| dir.join(name);
        let [ca, cert, key] = ["ca.pem", "node-1.pem", "node-1.key"].map(path);
        let files = Tls::from_pem_files(ca, &cert, key).expect("good files");
        let files = files.allow(["node-*.test"]).reload_every(MS);
        let a = node_with(&Config::default(), 1, files);
        let mut events = watch(&a);
        let first = a.certificate().expect("TLS is on");
        // Half written, gone, and another key.
        let whole = std::fs::read_to_string(&cert).expect("a file");
        std::fs::write(&cert, &whole[..whole.len() / 2]).expect("a folder");
        let told = |event: &PeerEvent| matches!(event, PeerEvent::TlsNotReloaded { .. });
        events.until(told).await;
        std::fs::remove_file(&cert).expect("a file");
        let gone = |event: &PeerEvent| {
            let PeerEvent::TlsNotReloaded { error } = event else {
                return false;
            };
            matches!(error, TlsError::Read { .. })
        };
        let told = events.until(gone).await;
        assert!(told.to_string().contains("node-1.pem"), "{told}");
        let other = authority.certificate(Request::node(1));
        std::fs::write(&cert, &other.cert_pem).expect("a folder");
        let mismatch = |event: &PeerEvent| {
            let PeerEvent::TlsNotReloaded { error } = event else {
                return false;
            };
            matches!(error, TlsError::KeyMismatch)
        };
        events.until(mismatch).await;
        assert_eq!(a.certificate(), Some(first.clone()));
        write(Request::node(1));
        let changed = |event: &PeerEvent| matches!(event, PeerEvent::TlsReloaded { .. });
        events.until(changed).await;
        assert_ne!(a.certificate(), Some(first));
        a.stop(Shutdown::Now).await;
        std::fs::remove_dir_all(dir).expect("a folder");
    });
}

#[test]
fn a_link_whose_certificate_expires_ends_in_order_and_valid_keys_bring_it_back() {
    run(async {
        let authority = Authority::new("kv");
        let a = node_of(&authority, 1);
        let soon = Request {
            not_after: SystemTime::now() + Duration::from_secs(4),
            ..Request::node(2)
        };
        let b = node_with(&Config::default(), 2, tls(&authority.certificate(soon)));
        let (mut events, mut at_b) = (watch(&a), watch(&b));
        let (mut got, mut asked) = (serve(&b, [1]), serve_known(&b, 2));
        let mut back = serve(&a, [1]);
        let question = a.try_send(b.local_addr(), group(2), "question");
        question.expect("room");
        // Both write on the link, so both tell how it ended.
        let (sender, _) = asked.next().await;
        let answering = sender.expect("introduced").peer().expect("usable");
        answering
            .try_send(group(1), 0u32.to_be_bytes())
            .expect("room");
        arrives(&mut back, 0).await;
        let mut number = 1;
        let ended = loop {
            send(&a, &b, number);
            // The last frame may be the first of the next link.
            tokio::select! {
                biased;
                got = got.next() => assert_eq!(got.payload, u32::to_be_bytes(number)[..]),
                reason = down(&mut events) => break reason,
            }
            number += 1;
            tokio::time::sleep(MS).await;
        };
        // Whoever notices it first says so, and the other one may only see that the link was closed.
        let reasons = [ended, down(&mut at_b).await];
        assert!(reasons.contains(&DownReason::Expired), "{reasons:?}");
        b.reload_tls(tls(&authority.certificate(Request::node(2))))
            .expect("good keys");
        arrives(&mut got, number).await;
        send(&a, &b, number + 1);
        arrives(&mut got, number + 1).await;
        assert_eq!(b.stats().inbound.missing, 0);
        end([a, b]).await;
    });
}

#[test]
fn that_the_own_certificate_expires_soon_is_told() {
    run(async {
        let authority = Authority::new("kv");
        let (recipient, mut events) = observer();
        let soon = Request {
            not_before: SystemTime::now() - Duration::from_secs(360 * 24 * 3600),
            not_after: SystemTime::now() + Duration::from_secs(13 * 24 * 3600),
            ..Request::node(1)
        };
        let a = Transport::builder()
            .identity(identity(1))
            .tls(tls(&authority.certificate(soon)))
            .subscribe(recipient)
            .bind("127.0.0.1:0")
            .expect("free port");
        let told = |event: &PeerEvent| matches!(event, PeerEvent::CertificateExpires { .. });
        let told = events.until(told).await.to_string();
        assert!(told.contains("node-1.test"), "{told}");
        a.stop(Shutdown::Now).await;
    });
}

// ---- with and without ----------------------------------------------------------------------------------

/// The three kinds of nodes while a cluster changes to TLS.
fn kinds(authority: &Authority, node: u64) -> [Box<dyn Fn(u64) -> Transport>; 3] {
    let keys = authority.certificate(Request::node(node));
    let [plain, optional, required] = [
        None,
        Some(tls(&keys).mode(TlsMode::Optional)),
        Some(tls(&keys)),
    ]
    .map(|tls| -> Box<dyn Fn(u64) -> Transport> {
        Box::new(move |life| {
            let builder = Transport::builder()
                .config(quick(Config::default()))
                .identity(identity(node).incarnation(life));
            let builder = match tls.clone() {
                Some(tls) => builder.tls(tls),
                None => builder,
            };
            builder.bind("127.0.0.1:0").expect("free port")
        })
    });
    [plain, optional, required]
}

#[test]
fn where_tls_is_optional_nodes_with_and_without_it_talk() {
    let authority = Authority::new("kv");
    let [one, two] = [1, 2].map(|node| kinds(&authority, node));
    for (n, a) in one.iter().enumerate() {
        for (m, b) in two.iter().enumerate() {
            if n.abs_diff(m) > 1 {
                continue;
            }
            run(async {
                let [a, b] = [a(7), b(7)];
                let mut got = serve(&b, [1]);
                send(&a, &b, 1);
                arrives(&mut got, 1).await;
                let encrypted = n > 0 && m > 0;
                let certificate = a.peers()[0].certificate.is_some();
                assert_eq!(certificate, encrypted, "{n} {m}");
                assert_eq!(b.stats().tls.accepted, u64::from(encrypted));
                end([a, b]).await;
            });
        }
    }
}

#[test]
fn when_tls_becomes_required_links_without_it_end() {
    run(async {
        let authority = Authority::new("kv");
        let [plain, ..] = kinds(&authority, 1);
        let a = plain(7);
        let keys = authority.certificate(Request::node(2));
        let b = node_with(&Config::default(), 2, tls(&keys).mode(TlsMode::Optional));
        let mut events = watch(&a);
        let mut got = serve(&b, [1]);
        send(&a, &b, 1);
        arrives(&mut got, 1).await;
        b.reload_tls(tls(&keys)).expect("good keys");
        assert_eq!(down(&mut events).await, DownReason::Closed);
        send(&a, &b, 2);
        until("it is refused", || failed(&b, HandshakeFailure::NotTls) > 0).await;
        assert_eq!(b.stats().inbound.received.frames, 1);
        end([a, b]).await;
        got.end().await;
    });
}

// ---- what is refused at the start ----------------------------------------------------------------------

#[test]
fn datagrams_are_off_unless_they_are_allowed() {
    run(async {
        let authority = Authority::new("kv");
        let keys = authority.certificate(Request::node(1));
        let without = node_with(&Config::default(), 1, tls(&keys));
        assert!(without.datagram_buffers().is_none());
        let to = without.local_addr();
        assert!(without.send_datagram(to, group(1), &b"x"[..]).is_err());
        let with = node_with(&Config::default(), 1, tls(&keys).allow_datagrams());
        assert!(with.datagram_buffers().is_some());
        end([without, with]).await;
    });
}

#[test]
fn what_cannot_work_is_told_before_the_port_is_open() {
    run(async {
        let authority = Authority::new("kv");
        let keys = authority.certificate(Request::node(1));
        let other = authority.certificate(Request::node(1));
        let from = |ca: &str, cert: &str, key: &str| {
            Tls::from_pem(ca.as_bytes(), cert.as_bytes(), key.as_bytes())
        };
        let (ca, cert, key) = (&keys.ca_pem, &keys.cert_pem, &keys.key_pem);
        assert!(matches!(
            from(ca, cert, &other.key_pem),
            Err(TlsError::KeyMismatch)
        ));
        for bad in [
            from("", cert, key),
            from(ca, "", key),
            from(ca, cert, ""),
            from(ca, cert, cert),
            from(&ca[..ca.len() / 2], cert, key),
        ] {
            assert!(bad.is_err());
        }
        let expired = authority.certificate(Request::node(1).expired());
        let expired = from(ca, &expired.cert_pem, &expired.key_pem);
        assert!(matches!(expired, Err(TlsError::Expired(_))));
        let too_early = authority.certificate(Request::node(1).not_yet_valid());
        let too_early = from(ca, &too_early.cert_pem, &too_early.key_pem);
        assert!(matches!(too_early, Err(TlsError::NotYetValid(_))));
        let gone = Tls::from_pem_files("/nowhere/ca.pem", "b.pem", "b.key");
        let gone = gone.expect_err("no file").to_string();
        assert!(gone.contains("/nowhere/ca.pem"), "{gone}");

        let bind = |builder: actix_transport::Builder| match builder.bind("127.0.0.1:0") {
            Err(BindError::Tls(err)) => err,
            other => panic!("{other:?}"),
        };
        let builder = || Transport::builder().tls(tls(&keys));
        assert!(matches!(bind(builder()), TlsError::NeedsSessions));
        let optional = Config::default().sessions(actix_transport::Sessions::Optional);
        let optional = builder().identity(identity(1)).config(optional);
        assert!(matches!(bind(optional), TlsError::NeedsSessions));
        let as_2 = builder().identity(Identity::new(NodeId::new(2)));
        assert!(matches!(bind(as_2), TlsError::NotOurs { .. }));
        let nobody = Transport::builder().tls(tls_of_all(&keys));
        let nobody = nobody.identity(identity(1));
        assert!(matches!(bind(nobody), TlsError::NobodyAllowed));
        let long = Config::default().max_frame(400 << 20).queue_bytes(1 << 30);
        let long = Transport::builder()
            .config(long.inbound_bytes(1 << 30))
            .identity(identity(1))
            .tls(tls(&keys).mode(TlsMode::Optional));
        assert!(matches!(bind(long), TlsError::FramesTooLong { .. }));
    });
}
