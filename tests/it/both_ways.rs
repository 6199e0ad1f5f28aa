//! Frames both ways on one connection, whoever dialled it.

use std::{net::SocketAddr, time::Duration};

use actix::System;
use actix_transport::{
    Config, DownReason, Identity, NodeId, PeerEvent, RefusedReason, Sessions, Shutdown, Transport,
};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Redials at once.
fn quick(config: Config) -> Config {
    config.redial_first(MS).redial_max(10 * MS)
}

fn node_of(config: Config, node: u64) -> Transport {
    let builder = Transport::builder().config(config).identity(identity(node));
    builder.bind("127.0.0.1:0").expect("free port")
}

/// Two nodes that know each other's number and address.
fn pair(config: &Config) -> [Transport; 2] {
    let places = [Vacant::new(), Vacant::new()];
    let addrs = [places[0].addr(), places[1].addr()];
    [(1, 0), (2, 1)].map(|(node, index)| {
        let other = 1 - index;
        let builder = Transport::builder()
            .config(quick(config.clone()))
            .identity(identity(node))
            .peer(NodeId::new(3 - node), addrs[other]);
        builder.bind(addrs[index]).expect("kept for it")
    })
}

fn connections(nodes: &[Transport]) -> u64 {
    nodes
        .iter()
        .map(|node| node.stats().links.connections)
        .sum()
}

fn send(from: &Transport, to: SocketAddr, number: u32) {
    let payload = number.to_be_bytes().to_vec();
    from.try_send(to, group(1), payload).expect("room");
}

async fn down_of(events: &mut Seen<PeerEvent>) -> DownReason {
    let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(down).await {
        PeerEvent::Down { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn an_answer_comes_back_on_the_connection_of_the_question() {
    for config in placements() {
        run(async {
            let [a, b] = [1, 2].map(|node| node_of(quick(config.clone()), node));
            let mut questions = serve_known(&b, 1);
            let mut answers = serve_known(&a, 1);
            for number in 0..100 {
                send(&a, b.local_addr(), number);
                let (sender, _) = questions.next().await;
                let peer = sender.expect("introduced").peer().expect("usable");
                peer.try_send(group(1), number.to_be_bytes().to_vec())
                    .expect("room");
                let (sender, got) = answers.next().await;
                assert_eq!(sender.expect("introduced").node(), NodeId::new(2));
                assert_eq!(
                    u32::from_be_bytes(got.payload[..].try_into().expect("4")),
                    number
                );
            }
            let dials = [&a, &b].map(|node| node.stats().links.dials);
            assert_eq!(dials, [1, 0]);
            assert_eq!(connections(&[a.clone(), b.clone()]), 1);
            assert_eq!(b.peers()[0].state, actix_transport::LinkState::Up);
            end([a, b]).await;
        });
    }
}

#[test]
fn of_two_nodes_that_dial_each_other_at_once_one_connection_remains_and_nothing_is_lost() {
    const ROUNDS: u32 = 20;

    for config in placements() {
        run(async {
            for round in 0..ROUNDS {
                let nodes = pair(&config);
                let [a, b] = &nodes;
                let mut seen = [serve(a, [1]), serve(b, [1])];
                let sent = 50;
                for number in 0..sent {
                    send(a, b.local_addr(), number);
                    send(b, a.local_addr(), number);
                    if number % 10 == round % 10 {
                        tokio::task::yield_now().await;
                    }
                }
                for seen in &mut seen {
                    for number in 0..sent {
                        let got = seen.next().await.payload;
                        assert_eq!(u32::from_be_bytes(got[..].try_into().expect("4")), number);
                    }
                }
                until("one connection", || connections(&nodes) == 1).await;
                for node in &nodes {
                    assert_eq!(node.stats().inbound.missing, 0);
                }
                // It is one for both.
                let dials = || nodes.each_ref().map(|node| node.stats().links.dials);
                let before = dials();
                send(a, b.local_addr(), 77);
                send(b, a.local_addr(), 77);
                for seen in &mut seen {
                    seen.next().await;
                }
                assert_eq!(dials(), before);
                // What is left of a dial that was given up may have been accepted meanwhile.
                until("one connection", || connections(&nodes) == 1).await;
                end(nodes).await;
            }
        });
    }
}

#[test]
fn a_connection_is_idle_only_if_it_is_in_both_directions_and_the_end_that_dialled_ends_it() {
    for config in placements() {
        run(async {
            let config = quick(config).idle_timeout(300 * MS);
            let [a, b] = [1, 2].map(|node| node_of(config.clone(), node));
            let (mut questions, _answers) = (serve_known(&b, 1), serve(&a, [1]));
            let mut events = watch(&a);
            send(&a, b.local_addr(), 0);
            let sender = questions.next().await.0.expect("introduced");
            let peer = sender.peer().expect("usable");
            // Only one direction is in use, for far longer than the limit.
            for number in 0..100_u32 {
                peer.try_send(group(1), number.to_be_bytes().to_vec())
                    .expect("room");
                tokio::time::sleep(10 * MS).await;
            }
            assert_eq!(a.stats().links.disconnects, 0);
            assert_eq!(down_of(&mut events).await, DownReason::Idle);
            until("closed", || connections(&[a.clone(), b.clone()]) == 0).await;
            assert_eq!(b.stats().inbound.missing + a.stats().inbound.missing, 0);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_node_that_stops_says_goodbye_and_its_connections_end_as_left() {
    for config in placements() {
        for how in [Shutdown::Now, Shutdown::Drain(NEVER)] {
            run(async {
                let [a, b] = [1, 2].map(|node| node_of(quick(config.clone()), node));
                let (mut questions, mut answers) = (serve_known(&b, 1), serve(&a, [1]));
                let mut events = [watch(&a), watch(&b)];
                send(&a, b.local_addr(), 0);
                let sender = questions.next().await.0.expect("introduced");
                let peer = sender.peer().expect("usable");
                peer.try_send(group(1), vec![0; 4]).expect("room");
                answers.next().await;
                b.stop(how).await;
                assert_eq!(down_of(&mut events[0]).await, DownReason::Left);
                assert_eq!(a.stats().links.goodbyes, 1);
                assert_eq!(down_of(&mut events[1]).await, DownReason::Ended);
                end([a]).await;
            });
        }
    }
}

#[test]
fn a_peer_that_is_heard_of_is_reached_at_once_however_long_the_back_off() {
    for config in placements() {
        run(async {
            let place = Vacant::new();
            let addr = place.addr();
            let patient = config.clone().redial_first(NEVER).redial_max(NEVER);
            let a = Transport::builder()
                .config(patient.stale_after(NEVER))
                .identity(identity(1))
                .bind("127.0.0.1:0")
                .expect("free port");
            let mut events = watch(&a);
            send(&a, addr, 5);
            let failed = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { .. });
            events.until(failed).await;
            // It comes up, and has something to say.
            let b = Transport::builder()
                .config(quick(config))
                .identity(identity(2));
            let b = b.bind(addr).expect("kept for it");
            let mut seen = serve(&b, [1]);
            send(&b, a.local_addr(), 6);
            assert_eq!(seen.next().await.payload[3], 5);
            assert_eq!(a.stats().links.connects, 1);
            end([a, b]).await;
        });
    }
}

#[test]
fn a_node_that_listens_nowhere_asks_and_gets_its_answers() {
    for config in placements() {
        run(async {
            let server = node_of(quick(config.clone()), 2);
            let mut questions = serve_known(&server, 1);
            let clients: Vec<_> = (10..13)
                .map(|node| {
                    let builder = Transport::builder().config(quick(config.clone()));
                    let client = builder.identity(identity(node)).connect_only();
                    client.expect("nothing to bind")
                })
                .collect();
            let mut answers: Vec<_> = clients.iter().map(|client| serve(client, [1])).collect();
            for number in 0..20 {
                let which = number as usize % clients.len();
                assert_eq!(clients[which].local_addr().port(), 0);
                send(&clients[which], server.local_addr(), number);
                let sender = questions.next().await.0.expect("introduced");
                assert_eq!(sender.node(), NodeId::new(10 + which as u64));
                assert_eq!(sender.addr().node(), Some(sender.node()));
                let peer = sender.peer().expect("on its own link");
                peer.try_send(group(1), vec![which as u8]).expect("room");
                assert_eq!(answers[which].next().await.payload, vec![which as u8]);
            }
            let stats = server.stats().links;
            assert_eq!((stats.dials, stats.connections), (0, clients.len() as u64));
            // A node without a connection is not there. What is sent to it waits, and goes stale.
            let [first, ..] = &clients[..] else {
                unreachable!()
            };
            first.stop(Shutdown::Now).await;
            let gone = server.peer(actix_transport::PeerAddr::from(first.local_addr()));
            assert!(gone.is_err(), "that is no address");
            for client in clients {
                end([client]).await;
            }
            end([server]).await;
        });
    }
}

#[test]
fn frames_for_a_node_that_listens_nowhere_wait_until_it_is_there_again() {
    for config in placements() {
        run(async {
            let server = node_of(quick(config), 2);
            let mut questions = serve(&server, [1]);
            let mut said = [hello_both_ways(9, 1, 0), start_at(0, 0), wire(1, b"one")];
            let mut raw = Raw::saying(&server, &said.concat()).await;
            raw.read_control(WELCOME).await;
            questions.next().await;
            // A peer of that node, as it is called in an event.
            let mut events = watch(&server);
            said[1] = start_at(0, 1);
            let mut raw = Raw::saying(&server, &said.concat()).await;
            raw.read_control(WELCOME).await;
            let heard = events.until(|event| matches!(event, PeerEvent::Heard { .. }));
            let PeerEvent::Heard { addr, .. } = heard.await else {
                unreachable!()
            };
            assert_eq!(addr.to_string(), "node 9");
            let peer = server.peer(&addr).expect("a peer");
            peer.try_send(group(3), "answer").expect("room");
            raw.read_control(START).await;
            drop(raw);
            // It may have begun on the first connection.
            until("down", || !peer.stats().connected).await;
            peer.try_send(group(3), "late").expect("room");
            said[1] = start_at(0, 2);
            let mut raw = Raw::saying(&server, &said.concat()).await;
            raw.read_control(WELCOME).await;
            raw.read_control(START).await;
            end([server]).await;
        });
    }
}

/// The node that is meant moved, or cannot be dialled: frames for it leave on the connection that it makes.
#[test]
fn a_peer_that_was_never_reached_uses_the_connection_of_the_node_that_is_meant() {
    for config in placements() {
        run(async {
            let nobody = Vacant::new();
            let a = Transport::builder()
                .config(quick(config.clone()).stale_after(NEVER))
                .identity(identity(1))
                .peer(NodeId::new(2), nobody.addr())
                .bind("127.0.0.1:0")
                .expect("free port");
            let mut events = watch(&a);
            send(&a, nobody.addr(), 5);
            let failed = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable { .. });
            events.until(failed).await;
            let b = node_of(quick(config), 2);
            let mut seen = serve(&b, [1]);
            send(&b, a.local_addr(), 6);
            assert_eq!(seen.next().await.payload[3], 5);
            end([a, b]).await;
        });
    }
}

#[test]
fn where_sessions_are_optional_a_node_that_listens_nowhere_gets_its_answers_too() {
    for config in placements() {
        run(async {
            let optional = quick(config).sessions(Sessions::Optional);
            let of = |node| {
                let builder = Transport::builder().config(optional.clone());
                builder.identity(Identity::new(NodeId::new(node)))
            };
            let server = of(2).bind("127.0.0.1:0").expect("free port");
            let client = of(9).connect_only().expect("nothing to bind");
            let (mut questions, mut answers) = (serve_known(&server, 1), serve(&client, [1]));
            send(&client, server.local_addr(), 0);
            let sender = questions.next().await.0.expect("introduced");
            let peer = sender.peer().expect("on its own link");
            peer.try_send(group(1), "answer").expect("room");
            assert_eq!(answers.next().await.payload, "answer");
            end([server, client]).await;
        });
    }
}

/// The node that dialled does not like the answer, and this node has begun to send by then.
#[test]
fn a_late_refusal_by_the_node_that_dialled_says_why_the_link_ended() {
    run(async {
        let [config, ..] = placements();
        let b = node_of(quick(config), 2);
        let mut seen = serve_known(&b, 1);
        let said = [hello_both_ways(9, 1, 0), start_at(0, 0), wire(1, b"one")];
        let mut raw = Raw::saying(&b, &said.concat()).await;
        raw.read_control(WELCOME).await;
        let mut events = watch(&b);
        let peer = seen.next().await.0.expect("introduced").peer();
        let peer = peer.expect("on its own link");
        peer.try_send(group(1), "answer").expect("room");
        raw.read_control(START).await;
        write(&mut raw.0, &refused(2, None)).await;
        let cluster = DownReason::Refused(RefusedReason::Cluster);
        assert_eq!(down_of(&mut events).await, cluster);
        end([b]).await;
    });
}

/// Otherwise the system of the node that stops would answer with a reset, which overtakes its last frames.
#[test]
fn a_node_that_drains_loses_nothing_although_the_other_one_never_stops_sending() {
    for config in placements() {
        for _ in 0..5 {
            run(async {
                let [a, b] = [1, 2].map(|node| node_of(quick(config.clone()), node));
                let (mut questions, mut answers) = (serve_known(&b, 1), serve(&a, [1]));
                send(&a, b.local_addr(), 0);
                let sender = questions.next().await.0.expect("introduced");
                let back = sender.peer().expect("usable");
                back.try_send(group(1), vec![0; 4]).expect("room");
                answers.next().await;
                let chatter = async {
                    while back.send(group(9), vec![0; 20_000]).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                };
                let draining = async {
                    for number in 0..400_u32 {
                        let mut payload = vec![0; 16_384];
                        payload[..4].copy_from_slice(&number.to_be_bytes());
                        a.send(b.local_addr(), group(1), payload)
                            .await
                            .expect("room");
                    }
                    a.stop(Shutdown::Drain(NEVER)).await;
                };
                let receiving = async {
                    for number in 0..400_u32 {
                        let (_, got) = questions.next().await;
                        assert_eq!(&got.payload[..4], number.to_be_bytes());
                    }
                };
                tokio::select! {
                    () = chatter => panic!("the queue ended"),
                    ((), ()) = async { tokio::join!(draining, receiving) } => {}
                }
                balanced([&a, &b]);
                b.stop(Shutdown::Now).await;
            });
        }
    }
}

/// With the default waits, after twenty seconds away. Run by hand, because it needs four minutes, with
/// `cargo test --test it -- --ignored --nocapture a_peer_that_comes_back`; RELIABILITY.md has what it printed.
#[test]
#[ignore = "takes four minutes"]
fn a_peer_that_comes_back_is_reached_within_fifty_milliseconds_after_it_was_heard() {
    const TIMES: usize = 12;

    let mut took = Vec::new();
    for _ in 0..TIMES {
        System::new().block_on(async {
            let place = Vacant::new();
            let addr = place.addr();
            let config = Config::default().stale_after(Duration::from_secs(60));
            let a = Transport::builder()
                .config(config)
                .identity(identity(1))
                .peer(NodeId::new(2), addr)
                .bind("127.0.0.1:0")
                .expect("free port");
            let mut events = watch(&a);
            send(&a, addr, 5);
            tokio::time::sleep(Duration::from_secs(20)).await;
            let b = node_at(addr, 2);
            let mut seen = serve(&b, [1]);
            send(&b, a.local_addr(), 6);
            let heard = |event: &PeerEvent| matches!(event, PeerEvent::Heard { .. });
            events.until(heard).await;
            let heard = std::time::Instant::now();
            assert_eq!(seen.next().await.payload[3], 5);
            took.push(heard.elapsed());
            end([a, b]).await;
        });
    }
    took.sort();
    println!("{took:?}");
    assert!(took[TIMES / 2] <= 50 * MS, "{took:?}");
}

fn node_at(addr: SocketAddr, node: u64) -> Transport {
    let builder = Transport::builder().identity(identity(node));
    builder.bind(addr).expect("kept for it")
}

/// The connection ends in both directions, although somebody else writes to it.
#[cfg(feature = "failpoints")]
#[test]
fn a_reader_that_panics_takes_its_links_with_it_and_both_nodes_connect_again() {
    use actix_transport::{Failpoint, Failpoints};

    for config in placements() {
        run(async {
            let faults = Failpoints::default();
            let config = quick(config).restart_first(MS);
            let a = node_of(config.clone(), 1);
            let b = Transport::builder().config(config).identity(identity(2));
            let b = b
                .failpoints(faults.clone())
                .bind("127.0.0.1:0")
                .expect("free port");
            let (mut questions, mut answers) = (serve_known(&b, 1), serve(&a, [1]));
            let mut events = [watch(&a), watch(&b)];
            for number in 0..3 {
                send(&a, b.local_addr(), number);
                let sender = questions.next().await.0.expect("introduced");
                let peer = sender.peer().expect("usable");
                peer.try_send(group(1), vec![7]).expect("room");
                answers.next().await;
                faults.arm(Failpoint::Reader);
                down_of(&mut events[0]).await;
                down_of(&mut events[1]).await;
            }
            until("places are free", || b.stats().links.connections == 0).await;
            end([a, b]).await;
        });
    }
}
