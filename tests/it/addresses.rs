//! Addresses that a transport can bind and send to: both ip versions, its own address, and unusable
//! ones.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use actix_transport::{BindError, Config, PeerError, SendError, Transport, Via};
use tokio::net::TcpStream;

use crate::support::*;

/// A transport on all addresses of both ip versions. Where there is no IPv6 it says so and returns
/// `None`.
fn on_all(config: Config) -> Option<Transport> {
    if let Err(err) = TcpListener::bind("[::1]:0") {
        eprintln!("skipped, no IPv6 here: {err}");
        return None;
    }
    let node = Transport::builder().config(config).bind("[::]:0");
    Some(node.expect("free port"))
}

fn at(ip: &str, transport: &Transport) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an ip"), transport.local_addr().port())
}

#[test]
fn ipv6_carries_frames_both_ways() {
    for config in placements() {
        run(async {
            let bind = |addr| Transport::builder().config(config.clone()).bind(addr);
            let (a, b) = match (bind("[::1]:0"), bind("[::1]:0")) {
                (Ok(a), Ok(b)) => (a, b),
                (Err(err), _) | (_, Err(err)) => return eprintln!("skipped, no IPv6 here: {err}"),
            };
            assert!(a.local_addr().is_ipv6());
            let mut seen = serve_from(&b, [1]);
            a.try_send(b.local_addr(), group(1), "stream")
                .expect("room");
            let (from, got) = seen.next().await;
            assert_eq!((&got.payload[..], got.via), (&b"stream"[..], Via::Tcp));
            assert_eq!(from.ip(), a.local_addr().ip());
            a.send_datagram(b.local_addr(), group(1), "datagram")
                .expect("room");
            let (from, got) = seen.next().await;
            assert_eq!((&got.payload[..], got.via), (&b"datagram"[..], Via::Udp));
            assert_eq!(from, a.local_addr());
            end([a, b]).await;
        });
    }
}

#[test]
fn a_node_on_both_ip_versions_sees_each_senders_real_address() {
    for config in placements() {
        run(async {
            let Some(b) = on_all(config) else {
                return;
            };
            let mut seen = serve_from(&b, [1]);
            for ip in ["127.0.0.1", "::1"] {
                let stream = TcpStream::connect(at(ip, &b)).await;
                let mut stream = stream.expect("listening");
                write_frames(&mut stream, &[(1, b"stream")]).await;
                let (from, got) = seen.next().await;
                assert_eq!(from, stream.local_addr().expect("connected"));
                assert_eq!(got.via, Via::Tcp);

                let socket = std::net::UdpSocket::bind((ip, 0)).expect("free port");
                socket
                    .send_to(&wire(1, b"datagram")[4..], at(ip, &b))
                    .expect("sent");
                let (from, got) = seen.next().await;
                assert_eq!(from, socket.local_addr().expect("bound"));
                assert_eq!(got.via, Via::Udp);
            }
            end([b]).await;
        });
    }
}

#[test]
fn a_node_on_both_ip_versions_sends_to_both() {
    for config in placements() {
        run(async {
            let Some(a) = on_all(config.clone()) else {
                return;
            };
            for to in ["127.0.0.1:0", "[::1]:0"] {
                let b = Transport::builder().config(config.clone()).bind(to);
                let b = b.expect("free port");
                let mut seen = serve_from(&b, [1]);
                a.try_send(b.local_addr(), group(1), "stream")
                    .expect("room");
                assert_eq!(seen.next().await.1.via, Via::Tcp);
                a.send_datagram(b.local_addr(), group(1), "datagram")
                    .expect("room");
                let (from, got) = seen.next().await;
                assert_eq!(got.via, Via::Udp);
                assert_eq!(
                    from,
                    SocketAddr::new(b.local_addr().ip(), a.local_addr().port())
                );
                end([b]).await;
            }
            end([a]).await;
        });
    }
}

#[test]
fn an_ip_and_its_mapped_form_share_one_connection_cap() {
    run(async {
        let Some(b) = on_all(Config::default().max_connections_per_ip(1)) else {
            return;
        };
        let v4 = TcpStream::connect(at("127.0.0.1", &b)).await;
        let _v4 = v4.expect("listening");
        until("taken", || b.stats().links.connections == 1).await;
        let v4 = TcpStream::connect(at("::ffff:127.0.0.1", &b)).await;
        expect_close(v4.expect("listening")).await;
        let _v6 = TcpStream::connect(at("::1", &b)).await.expect("listening");
        until("taken", || b.stats().links.connections == 2).await;
        end([b]).await;
    });
}

#[test]
fn an_address_and_its_mapped_form_are_one_peer() {
    run(async {
        let (a, b) = (node(Config::default()), node(Config::default()));
        let mut seen = serve(&b, [1]);
        let mapped = at("::ffff:127.0.0.1", &b);
        let peer = a.peer(mapped).expect("usable");
        assert_eq!(peer.addr(), b.local_addr());
        for to in [b.local_addr(), mapped] {
            a.try_send(to, group(1), "same").expect("room");
            seen.next().await;
        }
        assert_eq!((a.stats().links.peers, a.stats().links.dials), (1, 1));
        assert_eq!(peer.stats().frames.accepted.frames, 2);
        assert_eq!(a.peer_stats(mapped), a.peer_stats(b.local_addr()));
        end([a, b]).await;
    });
}

#[test]
fn a_node_sends_to_itself_as_to_any_other() {
    for config in placements() {
        run(async {
            let a = node(config);
            let mut seen = serve(&a, [1]);
            a.try_send(a.local_addr(), group(1), "stream")
                .expect("room");
            assert_eq!(seen.next().await.via, Via::Tcp);
            a.send_datagram(a.local_addr(), group(1), "datagram")
                .expect("room");
            assert_eq!(seen.next().await.via, Via::Udp);
            until("handled", || a.stats().inbound.delivered.frames == 2).await;
            end([a]).await;
        });
    }
}

#[test]
fn transports_in_one_process_share_nothing_but_the_network() {
    for config in placements() {
        run(async {
            let nodes: [Transport; 3] = std::array::from_fn(|_| node(config.clone()));
            // The same group on each transport.
            let mut seen: Vec<_> = nodes.iter().map(|node| serve(node, [1])).collect();
            for sender in &nodes {
                for to in &nodes {
                    let payload = format!("{} {}", sender.local_addr(), to.local_addr());
                    sender
                        .try_send(to.local_addr(), group(1), payload)
                        .expect("room");
                }
            }
            for (to, seen) in nodes.iter().zip(&mut seen) {
                let mut got = Vec::new();
                for _ in &nodes {
                    got.push(seen.next().await.payload);
                }
                for sender in &nodes {
                    let payload = format!("{} {}", sender.local_addr(), to.local_addr());
                    assert!(
                        got.contains(&payload.clone().into()),
                        "{payload} is missing"
                    );
                }
                assert_eq!(seen.try_next(), None);
            }
            for node in &nodes {
                until("all is done", || {
                    let stats = node.stats();
                    (stats.tcp.written.frames, stats.inbound.delivered.frames) == (3, 3)
                })
                .await;
            }
            // The stop of one transport does not affect the others.
            let [first, second, third] = nodes;
            end([first]).await;
            second
                .try_send(third.local_addr(), group(1), "still here")
                .expect("room");
            assert_eq!(seen[2].next().await.payload, "still here");
            end([second, third]).await;
        });
    }
}

#[test]
fn a_frame_to_an_unusable_address_is_refused_and_the_error_names_the_address() {
    run(async {
        let a = node(Config::default());
        let nowhere = [
            "127.0.0.1:0",
            "0.0.0.0:7001",
            "[::]:7001",
            "224.0.0.1:7001",
            "[ff02::1]:7001",
            "255.255.255.255:7001",
            "[::ffff:0.0.0.0]:7001",
        ];
        for (before, addr) in (0..).zip(nowhere) {
            // The error names the address in the form that the transport uses.
            let addr: SocketAddr = addr.parse().expect("an address");
            let known = SocketAddr::new(addr.ip().to_canonical(), addr.port());
            assert_eq!(a.peer(addr).err(), Some(PeerError::Address(known)));
            let refused = a
                .try_send(addr, group(1), "not sent")
                .expect_err("unusable");
            assert!(
                refused.to_string().contains(&known.to_string()),
                "{refused}"
            );
            let SendError::Address {
                addr: told,
                payload,
            } = refused
            else {
                panic!("{refused:?}");
            };
            assert_eq!((told, payload), (known, "not sent"));
            let refused = a.send(addr, group(1), vec![1, 2]).await;
            assert_eq!(refused.expect_err("unusable").into_payload(), [1, 2]);
            assert_eq!(a.stats().tcp.rejected.invalid.frames, 2 * (before + 1));
        }
        assert_eq!(a.stats().links.peers, 0);
        end([a]).await;
    });
}

#[test]
fn the_error_names_an_address_that_cannot_be_bound() {
    run(async {
        // In this order: no port; a name that no host can have, which needs no query over the
        // network; a port above the range; an address reserved for documentation, which no host
        // has.
        for addr in ["nowhere", "no..host:7001", "127.0.0.1:70000", "192.0.2.1:0"] {
            let refused = Transport::builder().bind(addr).expect_err("unusable");
            assert!(matches!(refused, BindError::Bind { .. }), "{refused:?}");
            assert!(refused.to_string().contains(addr), "{refused}");
        }
    });
}

#[test]
fn of_several_addresses_the_first_that_can_be_bound_is_taken() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let taken = listener.local_addr().expect("bound");
        let addrs = [taken, (Ipv4Addr::LOCALHOST, 0).into()];
        let second = Transport::builder().bind(&addrs[..]).expect("the second");
        assert_ne!(second.local_addr(), taken);
        end([second]).await;
    });
}
