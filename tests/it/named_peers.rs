//! Peers that are called by a name: it is resolved at each dial, all its addresses are tried, and whatever
//! is wrong with it costs nobody else anything.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix_transport::{
    BindError, Config, DownReason, Identity, LinkState, NameError, NodeId, PeerAddr, PeerError,
    PeerEvent, Placement, RefusedReason, SendFrame, Shutdown, Transport,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// How long a dial waits for an address before it tries the next one, too.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Redials at once, and lets nothing go stale.
fn configs() -> [Config; 3] {
    placements().map(|config| {
        let config = config.redial_first(MS).redial_max(10 * MS);
        config.stale_after(NEVER).udp(false)
    })
}

fn name(text: &str) -> PeerAddr {
    text.parse().expect("a name")
}

/// Waits until dialling this peer has failed. Returns what was wrong with its name, if that was it, and the
/// line for the log.
async fn unreachable(
    events: &mut Seen<PeerEvent>,
    to: &PeerAddr,
) -> (Option<NameError>, ErrorKind, String) {
    let about =
        |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { peer, .. } if peer == to);
    let event = events.until(about).await;
    let text = event.to_string();
    match event {
        PeerEvent::Unreachable { name, error, .. } => (name, error, text),
        _ => unreachable!("it was waited for"),
    }
}

// ---- where a name leads ----------------------------------------------------------------------------

#[test]
fn a_name_is_resolved_at_each_dial_and_the_frames_that_wait_for_it_go_where_it_leads_by_then() {
    for config in configs() {
        run(async {
            let (names, to) = (NameBook::default(), name("node-3.svc:7000"));
            let a = names.node(config);
            let mut events = watch(&a);
            let [(one, first), (other, second)] = [listener(), listener()];
            names.set("node-3.svc", [first]);
            let peer = a.peer("Node-3.svc:7000").expect("room");
            assert_eq!(peer.addr(), &to);
            assert_eq!((peer.stats().addr, names.asked("node-3.svc")), (None, 0));
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            let mut tap = Tap::accept(&one).await;
            assert_eq!(tap.number().await, 1);
            let up = events.next().await;
            let line = format!("peer node-3.svc:7000 ({first}) is up (connection 1)");
            assert_eq!(up.to_string(), line);
            assert_eq!(a.peer_stats(&to).expect("known").addr, Some(first));

            // The node comes back at another address. Meanwhile its name leads nowhere.
            names.set("node-3.svc", []);
            drop((tap, one));
            until("lost", || peer.state() != LinkState::Up).await;
            for number in 2..=4 {
                peer.try_send(group(1), numbered(number, 10)).expect("room");
            }
            assert_eq!(
                unreachable(&mut events, &to).await.0,
                Some(NameError::NoAddress)
            );
            names.set("node-3.svc", [second]);
            let mut tap = Tap::accept(&other).await;
            for number in 2..=4 {
                assert_eq!(tap.number().await, number);
            }
            until("up", || peer.stats().addr == Some(second)).await;
            assert!(names.asked("node-3.svc") >= 3);
            assert_eq!(a.stats().links.peers, 1);
            end([a]).await;
        });
    }
}

#[test]
fn an_address_as_text_is_the_peer_at_that_address_and_any_other_text_is_an_error_that_names_it() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        let text = b.local_addr().to_string();
        let peer = a.peer(&text).expect("an address");
        peer.try_send(group(1), "as text").expect("room");
        assert_eq!(seen.next().await.payload, "as text");
        assert_eq!(a.peer(b.local_addr()).expect("known").addr(), peer.addr());
        assert_eq!(a.stats().links.peers, 1);

        for bad in ["node-3", "node 3:7000", "10.0.0.256:7000"] {
            let err = a.peer(bad).expect_err("no address");
            assert!(matches!(err, PeerError::Text(_)), "{err:?}");
            assert!(err.to_string().contains(bad), "{err}");
            let builder = Transport::builder().peer(NodeId::new(3), bad);
            let err = builder.bind("127.0.0.1:0").expect_err("no address");
            assert!(
                matches!(err, BindError::Peer(PeerError::Text(_))),
                "{err:?}"
            );
            assert!(err.to_string().contains(bad), "{err}");
        }
        let err = a.peer("0.0.0.0:7000").expect_err("unusable");
        assert!(matches!(err, PeerError::Address(_)), "{err:?}");
        assert_eq!(a.stats().links.peers, 1);
        end([a, b]).await;
    });
}

#[test]
fn a_frame_is_sent_to_a_name_as_to_an_address() {
    run(async {
        let (names, to) = (NameBook::default(), name("node-3.svc:7000"));
        let (a, b) = (names.node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        // A resolver may lead to another port than the name has.
        names.set("node-3.svc", [b.local_addr()]);
        a.try_send(&to, group(1), "tried").expect("room");
        a.send(to.clone(), group(1), "sent").await.expect("room");
        until("started", || a.node().is_some()).await;
        let frame = SendFrame {
            peer: to.clone(),
            group: group(1),
            payload: "as a message".into(),
        };
        let sent = a.node().expect("started").send(frame).await;
        sent.expect("the actor lives").expect("room");
        for expected in ["tried", "sent", "as a message"] {
            assert_eq!(seen.next().await.payload, expected);
        }
        assert_eq!(a.stats().links.peers, 1);
        let written = || a.peer_stats(&to).expect("known").frames.written.frames;
        until("counted", || written() == 3).await;
        end([a, b]).await;
    });
}

/// "localhost" is the only name that each machine knows.
#[test]
fn without_another_resolver_the_system_is_asked() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        let peer = a.peer(format!("localhost:{}", b.local_addr().port()));
        peer.expect("a name")
            .try_send(group(1), "hello")
            .expect("room");
        assert_eq!(seen.next().await.payload, "hello");
        end([a, b]).await;
    });
}

// ---- several addresses -----------------------------------------------------------------------------

/// A dial to an address that does not answer would last for longer than any test.
#[test]
fn the_next_address_is_tried_beside_one_that_does_not_answer() {
    for config in configs() {
        run(async {
            let names = NameBook::default();
            let a = names.node(config.connect_timeout(NEVER).user_timeout(NEVER));
            let mute = Mute::new().await;
            let (listener, to) = listener();
            names.set("node-3.svc", [mute.addr, to]);
            let begun = Instant::now();
            let peer = a.peer("node-3.svc:7000").expect("room");
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            assert!(
                begun.elapsed() >= ATTEMPT_DELAY,
                "the first one has its time"
            );
            let stats = a.stats().links;
            assert_eq!((stats.dials, stats.connects), (2, 1));
            assert_eq!(peer.stats().addr, Some(to));
            end([a]).await;
        });
    }
}

#[test]
fn the_next_address_is_tried_at_once_after_one_that_refuses() {
    for config in configs() {
        run(async {
            let names = NameBook::default();
            let a = names.node(config.connect_timeout(NEVER));
            let away: Vec<_> = (0..15).map(|_| Vacant::new()).collect();
            let (listener, to) = listener();
            let mut addrs: Vec<_> = away.iter().map(Vacant::addr).collect();
            addrs.push(to);
            names.set("node-3.svc", addrs);
            let begun = Instant::now();
            let peer = a.peer("node-3.svc:7000").expect("room");
            peer.try_send(group(1), numbered(1, 10)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 1);
            assert!(begun.elapsed() < 15 * ATTEMPT_DELAY);
            assert_eq!(a.stats().links.dials, 16);
            end([a]).await;
        });
    }
}

#[test]
fn if_no_address_answers_the_log_has_each_with_its_error_and_the_name() {
    run(async {
        let (log, names) = (Log::collect(), NameBook::default());
        let config = Config::default().placement(Placement::Current);
        let config = config.redial_first(NEVER).redial_max(NEVER);
        let a = names.node(config.connect_timeout(10 * MS));
        let mut events = watch(&a);
        let (away, mute) = (Vacant::new(), Mute::new().await);
        let addrs = [away.addr(), mute.addr];
        names.set("node-3.svc", addrs);
        let to = name("node-3.svc:7000");
        a.try_send(&to, group(1), "hello").expect("room");
        let (name, error, text) = unreachable(&mut events, &to).await;
        assert_eq!((name, error), (None, ErrorKind::TimedOut));
        assert!(
            text.starts_with("peer node-3.svc:7000 is unreachable since "),
            "{text}"
        );
        let [line] = &log.lines("unreachable")[..] else {
            panic!("{:?}", log.lines("unreachable"));
        };
        let [refused, silent] = addrs.map(|addr| addr.to_string());
        for part in ["node-3.svc:7000", &refused, "refused", &silent, "timed out"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        end([a]).await;
    });
}

/// The number of connections to this port that wait for an answer.
#[cfg(target_os = "linux")]
fn unanswered(port: u16) -> usize {
    let to = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("linux");
    let connections = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 02 is SYN_SENT.
    let waiting =
        |words: &Vec<&str>| words.len() > 3 && words[2].ends_with(&to) && words[3] == "02";
    connections.filter(waiting).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_with_many_dead_addresses_makes_no_more_connections_at_a_time_than_are_allowed() {
    use socket2::{Domain, Socket, Type};

    const PLACES: usize = 2;

    for config in configs() {
        run(async {
            let names = NameBook::default();
            let a = names.node(config.connect_timeout(NEVER).max_dials(PLACES));
            // Answers on no address of this machine: its backlog is full.
            let hole = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            hole.bind(&any.into()).expect("free port");
            hole.listen(0).expect("nobody else listens");
            let addr = hole.local_addr().expect("bound").as_socket();
            let port = addr.expect("an ip address").port();
            let waiting = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            let addrs: Vec<_> = (1..=16)
                .map(|last| SocketAddr::from((Ipv4Addr::new(127, 1, 0, last), port)))
                .collect();
            names.set("node-3.svc", addrs);
            let peer = a.peer("node-3.svc:7000").expect("room");
            peer.try_send(group(1), "anybody there?").expect("room");
            until("all tried", || a.stats().links.dials >= 16).await;
            // Nothing but the need for a place ends a dial, so those without one have ended.
            assert_eq!(unanswered(port), PLACES);
            // And a healthy peer does not wait for them.
            let (listener, to) = listener();
            a.try_send(to, group(1), numbered(1, 10)).expect("room");
            assert_eq!(Tap::accept(&listener).await.number().await, 1);
            drop(waiting);
            end([a]).await;
        });
    }
}

// ---- what can be wrong with a name -----------------------------------------------------------------

#[test]
fn a_resolver_that_does_not_answer_holds_up_no_other_peer() {
    for config in configs() {
        run(async {
            let names = NameBook::default();
            let a = names.node(config.connect_timeout(NEVER).max_dials(1));
            let b = node(Config::default());
            let mut seen = serve(&b, [1]);
            names.put("slow.svc", Entry::Hangs);
            names.set("node-3.svc", [b.local_addr()]);
            let slow = a.peer("slow.svc:7000").expect("room");
            slow.try_send(group(1), "late").expect("room");
            until("asked", || names.asked("slow.svc") > 0).await;
            a.try_send(b.local_addr(), group(1), "by ip").expect("room");
            assert_eq!(seen.next().await.payload, "by ip");
            let peer = a.peer("node-3.svc:7000").expect("room");
            peer.try_send(group(1), "by name").expect("room");
            assert_eq!(seen.next().await.payload, "by name");
            assert_eq!(slow.stats().frames.queued.frames, 1);
            // Nor does a stop wait for it.
            let report = a.stop(Shutdown::Now).await;
            assert_eq!(report.undelivered[0].0, name("slow.svc:7000"));
            end([a, b]).await;
        });
    }
}

#[test]
fn a_resolver_that_fails_panics_or_takes_too_long_fails_one_dial_and_may_work_at_the_next() {
    for config in configs() {
        run(async {
            let (names, to) = (NameBook::default(), name("node-3.svc:7000"));
            let a = names.node(config.connect_timeout(50 * MS));
            let b = node(Config::default());
            let (mut events, mut seen) = (watch(&a), serve(&b, [1]));
            names.put("node-3.svc", Entry::Fails);
            a.try_send(&to, group(1), "at last").expect("room");
            let problem = Some(NameError::Unresolved);
            for (entry, kind) in [
                (Entry::Fails, ErrorKind::ConnectionReset),
                (Entry::Panics, ErrorKind::Other),
                (Entry::Hangs, ErrorKind::TimedOut),
            ] {
                names.put("node-3.svc", entry);
                loop {
                    let (name, error, text) = unreachable(&mut events, &to).await;
                    assert_eq!(name, problem);
                    assert!(text.ends_with("the name cannot be resolved"), "{text}");
                    if error == kind {
                        break;
                    }
                }
            }
            names.set("node-3.svc", [b.local_addr()]);
            assert_eq!(seen.next().await.payload, "at last");
            assert_eq!(a.stats().links.restarts, 0);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_name_that_leads_nowhere_or_to_this_node_is_unreachable_and_says_why() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        run(async {
            let (log, names) = (Log::collect(), NameBook::default());
            let config = Config::default().placement(Placement::Current);
            let config = config.redial_first(NEVER).redial_max(NEVER);
            let builder = Transport::builder().config(config).resolver(names.clone());
            let a = builder.bind(listen).expect("free port");
            let mut events = watch(&a);
            let own = SocketAddr::from((Ipv4Addr::LOCALHOST, a.local_addr().port()));
            let cases = [
                (
                    "nothing.svc",
                    vec![],
                    NameError::NoAddress,
                    "has no address",
                ),
                (
                    "port.svc",
                    vec![at("10.0.0.1:0")],
                    NameError::Unusable(at("10.0.0.1:0")),
                    "10.0.0.1:0",
                ),
                (
                    "any.svc",
                    vec![at("[::]:1")],
                    NameError::Unusable(at("[::]:1")),
                    "[::]:1",
                ),
                (
                    "many.svc",
                    vec![at("224.0.0.1:1")],
                    NameError::Unusable(at("224.0.0.1:1")),
                    "224.0.0.1:1",
                ),
                (
                    "me.svc",
                    vec![own],
                    NameError::ThisNode(own),
                    "this node itself",
                ),
            ];
            for (host, addrs, expected, words) in cases {
                names.set(host, addrs);
                let to = name(&format!("{host}:7000"));
                a.try_send(&to, group(1), "hello").expect("room");
                let (problem, _, text) = unreachable(&mut events, &to).await;
                assert_eq!(problem, Some(expected));
                let [line] = &log.lines(host)[..] else {
                    panic!("{:?}", log.lines(host));
                };
                for text in [&text, line] {
                    assert!(text.contains(host) && text.contains(words), "{text}");
                }
            }
            assert_eq!((a.stats().links.dials, a.stats().links.accepted), (0, 0));
            end([a]).await;
        });
    }
}

/// Returns an address of this machine that is not loopback, if it has one.
fn own_ip() -> Option<IpAddr> {
    // Sends nothing, but lets the system choose the ip that it would send from.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn a_node_that_listens_on_all_addresses_notices_each_of_its_own() {
    let Some(ip) = own_ip() else {
        return; // There is only loopback, which it knows without connecting.
    };
    run(async {
        let names = NameBook::default();
        let config = Config::default().stale_after(NEVER).redial_max(NEVER);
        let builder = Transport::builder().config(config).resolver(names.clone());
        let a = builder.bind("0.0.0.0:0").expect("free port");
        let b = node(Config::default());
        let (mut events, mut seen) = (watch(&a), serve(&b, [1]));
        let (own, to) = (
            SocketAddr::from((ip, a.local_addr().port())),
            name("node-3.svc:7000"),
        );
        names.set("node-3.svc", [own]);
        let peer = a.peer(&to).expect("room");
        peer.try_send(group(1), "not to myself").expect("room");
        let (problem, _, _) = unreachable(&mut events, &to).await;
        assert_eq!(problem, Some(NameError::ThisNode(own)));
        // Another address beside it is used.
        names.set("node-3.svc", [own, b.local_addr()]);
        peer.connect();
        assert_eq!(seen.next().await.payload, "not to myself");
        assert_eq!(a.stats().inbound.received.frames, 0);
        end([a, b]).await;
    });
}

fn at(addr: &str) -> SocketAddr {
    addr.parse().expect("an address")
}

#[test]
fn of_several_addresses_those_that_no_peer_can_have_are_left_out() {
    run(async {
        let names = NameBook::default();
        let (a, b) = (names.node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        names.set(
            "node-3.svc",
            [a.local_addr(), at("0.0.0.0:7"), b.local_addr()],
        );
        a.try_send(name("node-3.svc:7000"), group(1), "hello")
            .expect("room");
        assert_eq!(seen.next().await.payload, "hello");
        assert_eq!(a.stats().links.dials, 1);
        end([a, b]).await;
    });
}

// ---- which node a name leads to --------------------------------------------------------------------

/// A node of this cluster that means node 2 at `node-2.svc:7000`. It redials late after a refusal.
fn meaning(names: &NameBook, cluster: &str, number: u64) -> Transport {
    let config = Config::default().stale_after(NEVER).redial_max(NEVER);
    let identity = Identity::new(NodeId::new(number)).cluster(cluster);
    let builder = Transport::builder().config(config).identity(identity);
    let builder = builder.resolver(names.clone());
    let builder = builder.peer(NodeId::new(2), "node-2.svc:7000");
    builder.bind("127.0.0.1:0").expect("free port")
}

#[test]
fn a_name_that_leads_to_another_cluster_or_node_is_refused_and_no_frame_is_lost() {
    for wrong in [
        ("kw", 2, RefusedReason::Cluster),
        ("kv", 3, RefusedReason::Node),
    ] {
        run(async {
            let (cluster, number, expected) = wrong;
            let names = NameBook::default();
            let a = meaning(&names, "kv", 1);
            let [wrong, right] = [meaning(&names, cluster, number), meaning(&names, "kv", 2)];
            let (mut at_wrong, mut at_right) = (serve(&wrong, [1]), serve(&right, [1]));
            let mut events = watch(&a);
            names.set("node-2.svc", [wrong.local_addr()]);
            let peer = a.peer_of(NodeId::new(2)).expect("given to the builder");
            peer.try_send(group(1), "for node 2").expect("room");
            let down = events.next().await;
            assert!(
                matches!(down, PeerEvent::Down { addr, reason: DownReason::Refused(reason), .. }
                    if addr == wrong.local_addr() && reason == expected),
                "{down}"
            );
            assert_eq!(peer.stats().frames.queued.frames, 1);
            assert_eq!(peer.stats().node, Some(NodeId::new(2)), "it is meant");

            // The next dial resolves anew.
            names.set("node-2.svc", [right.local_addr()]);
            peer.connect();
            assert_eq!(at_right.next().await.payload, "for node 2");
            let up = events.next().await;
            let line = format!(
                "peer node-2.svc:7000 ({}, node 2) is up",
                right.local_addr()
            );
            assert!(up.to_string().starts_with(&line), "{up}");
            assert!(at_wrong.try_next().is_none());
            assert_eq!(wrong.stats().inbound.received.frames, 0);
            end([a, wrong, right]).await;
        });
    }
}

#[test]
fn a_peer_is_found_by_its_number_only_if_the_builder_was_given_its_address() {
    run(async {
        let names = NameBook::default();
        let a = meaning(&names, "kv", 1);
        let peer = a.peer_of(NodeId::new(2)).expect("given");
        assert_eq!(peer.addr(), &name("node-2.svc:7000"));
        for (transport, node) in [(&a, 3), (&self::node(Config::default()), 2)] {
            let err = transport.peer_of(NodeId::new(node)).expect_err("unknown");
            assert_eq!(err, PeerError::UnknownNode(NodeId::new(node)));
            assert!(err.to_string().contains(&format!("node {node}")), "{err}");
        }
        end([a]).await;
    });
}

#[test]
fn a_node_sends_to_itself_by_name_if_it_is_said_that_the_name_is_its_own() {
    run(async {
        let names = NameBook::default();
        let a = meaning(&names, "kv", 2);
        let mut seen = serve(&a, [1]);
        names.set("node-2.svc", [a.local_addr()]);
        let peer = a.peer_of(NodeId::new(2)).expect("given");
        peer.try_send(group(1), "to myself").expect("room");
        assert_eq!(seen.next().await.payload, "to myself");
        end([a]).await;
    });
}
