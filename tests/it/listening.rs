//! Which connections are accepted, when the port is taken and free, and what happens when
//! descriptors or readers are missing.

use std::{
    io::{Read, Seek},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    time::Duration,
};

use actix_transport::{BindError, Config, GroupOverflow, Placement, Shutdown, Transport};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use crate::support::*;

/// Asserts that the transport reads a connection.
async fn talks(stream: &mut TcpStream, seen: &mut Seen<Got>) {
    write_frames(stream, &[(1, b"talks")]).await;
    assert_eq!(seen.next().await.payload, "talks");
}

/// Opens a connection from this ip, another one of this machine.
#[cfg(target_os = "linux")]
async fn dial_from(ip: Ipv4Addr, transport: &Transport) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((ip, 0).into()).expect("on loopback");
    let stream = socket.connect(transport.local_addr()).await;
    stream.expect("listening")
}

#[test]
fn a_connection_beyond_the_cap_is_closed_and_counted() {
    for config in placements() {
        run(async {
            let b = node(config.max_connections(2));
            let mut seen = serve(&b, [1]);
            let (mut first, mut second) = (dial(&b).await, dial(&b).await);
            for turned_away in 1..=3 {
                expect_close(dial(&b).await).await;
                until("counted", || b.stats().links.turned_away == turned_away).await;
            }
            talks(&mut first, &mut seen).await;
            talks(&mut second, &mut seen).await;
            let links = b.stats().links;
            assert_eq!((links.connections, links.accepted), (2, 2));
            end([b]).await;
        });
    }
}

#[test]
fn a_connection_that_ends_makes_room_for_another() {
    for config in placements() {
        run(async {
            let b = node(config.max_connections(1));
            let mut seen = serve(&b, [1]);
            // However the connection ends: in order, in the middle of a frame, or because of a
            // malformed length.
            let endings: [&[u8]; 3] = [b"", b"\0\0", b"\0\0\0\0"];
            for ending in endings {
                let mut stream = dial(&b).await;
                talks(&mut stream, &mut seen).await;
                write(&mut stream, ending).await;
                drop(stream);
                until("room", || b.stats().links.connections == 0).await;
            }
            talks(&mut dial(&b).await, &mut seen).await;
            assert_eq!(b.stats().links.turned_away, 0);
            end([b]).await;
        });
    }
}

/// A handler may take for ever. That must not cost places, whose number is limited.
#[test]
fn a_connection_that_its_peer_closes_frees_its_place_while_a_handler_is_busy() {
    for config in placements() {
        run(async {
            let b = node(config.max_connections(2));
            let mut seen = serve(&b, [1]);
            let (gate, mut slow) = hold(&b, 2, GroupOverflow::Wait);
            let mut healthy = dial(&b).await;
            talks(&mut healthy, &mut seen).await;
            for number in 1..=20u32 {
                let mut stream = dial(&b).await;
                write_frames(&mut stream, &[(2, &number.to_be_bytes())]).await;
                let read = || b.stats().inbound.in_delivery.frames == u64::from(number);
                until("read", read).await;
                // By its end only. The socket is closed on our side, too.
                stream.shutdown().await.expect("open");
                expect_close(stream).await;
                until("noticed", || b.stats().links.connections == 1).await;
            }
            talks(&mut healthy, &mut seen).await;
            talks(&mut dial(&b).await, &mut seen).await;
            assert_eq!(b.stats().links.turned_away, 0);
            // What was delivered stays delivered.
            assert_eq!(b.stats().inbound.in_delivery.frames, 20);
            gate.open();
            let mut numbers: Vec<_> = Vec::new();
            for _ in 1..=20 {
                numbers.push(slow.next().await.payload[3]);
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=20).collect::<Vec<u8>>());
            end([b]).await;
        });
    }
}

/// A connection that we close ourselves leaves as little behind.
#[test]
fn a_malformed_frame_frees_its_connections_place_while_a_handler_is_busy() {
    for config in placements() {
        run(async {
            let b = node(config.max_connections(1));
            let (_gate, _slow) = hold(&b, 2, GroupOverflow::Wait);
            for malformed in 1..=3 {
                let mut stream = dial(&b).await;
                write(&mut stream, &[&wire(2, b"held")[..], &[0; 4]].concat()).await;
                expect_close(stream).await;
                until("closed", || b.stats().links.connections == 0).await;
                assert_eq!(b.stats().inbound.malformed, malformed);
            }
            assert_eq!(b.stats().inbound.in_delivery.frames, 3);
            end([b]).await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ip_whose_ended_connections_pile_up_is_turned_away_and_others_are_not() {
    run(async {
        let [one_reader, ..] = placements();
        let b = node(one_reader.max_connections(8));
        let mut seen = serve(&b, [1]);
        let (gate, _slow) = hold(&b, 2, GroupOverflow::Wait);
        let hostile = Ipv4Addr::new(127, 0, 0, 2);
        let turned_away = || b.stats().links.turned_away;
        let mut rounds = 0;
        while turned_away() == 0 {
            let mut stream = dial_from(hostile, &b).await;
            // It fails if it was turned away.
            let _ = stream.write_all(&wire(2, b"held")).await;
            drop(stream);
            rounds += 1;
            let handled = || b.stats().links.accepted + turned_away() == rounds;
            until("looked at", || {
                handled() && b.stats().links.connections == 0
            })
            .await;
            assert!(rounds <= 1100, "not bounded");
        }
        let mut healthy = dial(&b).await;
        talks(&mut healthy, &mut seen).await;
        expect_close(dial_from(hostile, &b).await).await;
        gate.open();
        until("handled", || b.stats().inbound.in_delivery.is_zero()).await;
        talks(&mut dial_from(hostile, &b).await, &mut seen).await;
        end([b]).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn each_ip_has_a_connection_cap_of_its_own() {
    for config in placements() {
        run(async {
            let b = node(config.max_connections_per_ip(1));
            let mut seen = serve(&b, [1]);
            let other = Ipv4Addr::new(127, 0, 0, 2);
            let mut first = dial(&b).await;
            expect_close(dial(&b).await).await;
            let mut second = dial_from(other, &b).await;
            expect_close(dial_from(other, &b).await).await;
            talks(&mut first, &mut seen).await;
            talks(&mut second, &mut seen).await;
            assert_eq!(b.stats().links.turned_away, 2);
            drop(second);
            until("room", || b.stats().links.connections == 1).await;
            talks(&mut dial_from(other, &b).await, &mut seen).await;
            end([b]).await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn connections_leave_a_quarter_of_the_descriptors_to_the_rest_of_the_process() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    // Less than what the test itself needs for the other ends of the connections.
    alone_after(
        "ulimit -Sn 256",
        "listening::connections_leave_a_quarter_of_the_descriptors_to_the_rest_of_the_process",
        || {
            run(async {
                let b = node(Config::default());
                assert_eq!(b.stats().links.connection_limit, 192);
                let mut limit = getrlimit(Resource::Nofile);
                limit.current = Some(1_000);
                setrlimit(Resource::Nofile, limit).expect("below the hard limit");
                let mut streams = Vec::new();
                for (ip, open) in [(1, 96), (2, 192), (3, 192)] {
                    let before = b.stats().links;
                    for _ in 0..100 {
                        streams.push(dial_from(Ipv4Addr::new(127, 0, 0, ip), &b).await);
                    }
                    until("looked at", || {
                        let now = b.stats().links;
                        now.accepted + now.turned_away == before.accepted + before.turned_away + 100
                    })
                    .await;
                    assert_eq!(b.stats().links.connections, open);
                }
                let mut seen = serve(&b, [1]);
                talks(&mut streams[0], &mut seen).await;
                end([b]).await;
            });
        },
    );
}

#[test]
fn a_connection_made_as_soon_as_the_port_is_bound_is_read() {
    let many = Placement::Dedicated {
        readers: 8,
        writers: 1,
    };
    for config in [many, Placement::Current].map(|place| Config::default().placement(place)) {
        run(async {
            for _ in 0..10 {
                let b = node(config.clone());
                let mut streams = Vec::new();
                for _ in 0..8 {
                    let stream = std::net::TcpStream::connect(b.local_addr());
                    let stream = stream.expect("listening");
                    stream.set_nonblocking(true).expect("open");
                    streams.push(TcpStream::from_std(stream).expect("a runtime"));
                }
                let mut seen = serve(&b, [1]);
                for stream in &mut streams {
                    talks(stream, &mut seen).await;
                }
                end([b]).await;
            }
        });
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    run(async {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("free port");
        let taken = tcp.local_addr().expect("bound");
        let refused = Transport::builder().bind(taken).expect_err("taken");
        assert!(matches!(refused, BindError::Bind { .. }), "{refused:?}");
        assert!(
            refused.to_string().contains(&taken.to_string()),
            "{refused}"
        );
        // A port taken by another transport gives the same error.
        let transport = node(Config::default());
        let taken = transport.local_addr();
        let refused = Transport::builder().bind(taken).expect_err("taken");
        assert!(
            refused.to_string().contains(&taken.to_string()),
            "{refused}"
        );
        end([transport]).await;
    });
}

#[test]
fn a_port_taken_only_for_udp_is_in_use_unless_udp_is_switched_off() {
    run(async {
        let udp = UdpSocket::bind((OWN_IP, 0)).expect("free port");
        let taken = udp.local_addr().expect("bound");
        let refused = Transport::builder().bind(taken).expect_err("taken");
        assert!(
            refused.to_string().contains(&taken.to_string()),
            "{refused}"
        );
        let without = Transport::builder()
            .config(Config::default().udp(false))
            .bind(taken);
        end([without.expect("free for connections")]).await;
    });
}

#[test]
fn the_port_is_free_when_stop_returns() {
    for config in placements() {
        run(async {
            let b = Transport::builder().config(config.clone());
            let b = b.bind((OWN_IP, 0)).expect("free port");
            let addr = b.local_addr();
            let mut seen = serve(&b, [1]);
            // With connections open, while the handle still exists.
            let mut streams = [dial(&b).await, dial(&b).await];
            for stream in &mut streams {
                talks(stream, &mut seen).await;
            }
            b.stop(Shutdown::Now).await;
            UdpSocket::bind(addr).expect("free for datagrams");
            let next = Transport::builder().config(config).bind(addr);
            let next = next.expect("free for both");
            let mut seen = serve(&next, [1]);
            talks(&mut dial(&next).await, &mut seen).await;
            for stream in streams {
                expect_close(stream).await;
            }
            end([next]).await;
        });
    }
}

#[test]
fn the_port_is_free_soon_after_the_last_handle_is_dropped() {
    for config in placements() {
        run(async {
            let b = Transport::builder().config(config).bind((OWN_IP, 0));
            let b = b.expect("free port");
            let (addr, other) = (b.local_addr(), b.clone());
            let mut seen = serve(&b, [1]);
            let mut stream = dial(&b).await;
            drop(b);
            talks(&mut stream, &mut seen).await;
            drop(other);
            expect_close(stream).await;
            until("free", || {
                TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok()
            })
            .await;
        });
    }
}

/// Processor time this process has used, in hundredths of a second.
#[cfg(target_os = "linux")]
fn cpu_time(stat: &mut std::fs::File) -> u64 {
    let mut text = String::new();
    stat.rewind().expect("procfs");
    stat.read_to_string(&mut text).expect("procfs");
    // The numbers follow the program's name, which may contain any character.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
    next().expect("utime") + next().expect("stime")
}

/// When the system's table of descriptors is full, `accept` waits until the system has made a larger one, and
/// all links of the arbiter wait with it.
#[cfg(target_os = "linux")]
#[test]
fn there_is_room_for_the_descriptors_of_all_connections_before_they_come() {
    let test = "listening::there_is_room_for_the_descriptors_of_all_connections_before_they_come";
    alone(test, || {
        let room = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("linux");
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            let size = size.and_then(|size| size.trim().parse::<u64>().ok());
            size.expect("a number of descriptors")
        };
        // A table begins with 64 to 256.
        for places in [300, 700] {
            run(async {
                let running = threads().len();
                let b = node(Config::default().max_connections(places));
                let wanted = b.stats().links.connection_limit * 5 / 4;
                assert!(wanted > 256, "`ulimit -n` is too low");
                until("there is room", || room() >= wanted).await;
                end([b]).await;
                until("the threads ended", || threads().len() == running).await;
            });
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_listener_waits_while_there_are_no_descriptors_and_then_accepts_again() {
    let test =
        "listening::the_listener_waits_while_there_are_no_descriptors_and_then_accepts_again";
    alone_after("ulimit -n 64", test, || {
        run(async {
            let b = node(Config::default());
            let mut seen = serve(&b, [1]);
            // By now everything that is opened only once is open, and the first connection's
            // descriptor is closed.
            talks(&mut dial(&b).await, &mut seen).await;
            until("closed", || b.stats().links.connections == 0).await;
            let mut stat = std::fs::File::open("/proc/self/stat").expect("linux");

            // Takes all descriptors, except one for a socket to dial with.
            let null = || std::fs::File::open("/dev/null");
            let mut hoard: Vec<_> = std::iter::from_fn(|| null().ok()).collect();
            hoard.pop();
            let (began, used) = (std::time::Instant::now(), cpu_time(&mut stat));
            let mut waiting = dial(&b).await;
            write_frames(&mut waiting, &[(1, b"waited")]).await;
            until("stalled", || b.stats().links.accept_stalls == 4).await;
            let (wall, used) = (began.elapsed(), cpu_time(&mut stat) - used);
            // The stalls last 100, 200 and 400 ms.
            assert!(wall >= Duration::from_millis(700), "{wall:?}");
            // The listener slept meanwhile. A busy loop would have used the whole time.
            assert!(
                u128::from(used) * 10 < wall.as_millis() / 4,
                "{used} of {wall:?}"
            );
            assert_eq!(seen.try_next(), None);

            hoard.clear();
            assert_eq!(seen.next().await.payload, "waited");
            talks(&mut waiting, &mut seen).await;
            talks(&mut dial(&b).await, &mut seen).await;
            end([b]).await;
        });
    });
}

/// Another descriptor of the transport's listening socket.
#[cfg(target_os = "linux")]
fn listening_socket(transport: &Transport) -> socket2::Socket {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("linux");
    let open = std::fs::read_dir("/proc/self/fd").expect("linux");
    let found = open.filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let descriptor = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
        let socket = socket2::Socket::from(descriptor);
        let addr = socket.local_addr().ok()?.as_socket()?;
        let listens = socket.is_listener().ok()? && addr == transport.local_addr();
        listens.then_some(socket)
    });
    found.last().expect("it listens")
}

#[cfg(target_os = "linux")]
#[test]
fn a_listening_socket_that_is_shut_down_from_outside_is_bound_again() {
    use actix_transport::PeerEvent;

    let test = "listening::a_listening_socket_that_is_shut_down_from_outside_is_bound_again";
    alone(test, || {
        for config in placements() {
            run(async {
                let b = node(config);
                let mut seen = serve(&b, [1]);
                let (mut before, mut events) = (dial(&b).await, watch(&b));
                talks(&mut before, &mut seen).await;
                let mut stat = std::fs::File::open("/proc/self/stat").expect("linux");
                let (began, used) = (std::time::Instant::now(), cpu_time(&mut stat));
                for times in 1..=2 {
                    let socket = listening_socket(&b);
                    socket.shutdown(std::net::Shutdown::Both).expect("open");
                    drop(socket);
                    let told = events.next().await;
                    assert!(
                        matches!(told, PeerEvent::NotAccepting { addr, .. } if addr == b.local_addr()),
                        "{told:?}"
                    );
                    let told = events.next().await;
                    assert!(
                        matches!(told, PeerEvent::Rebound { addr } if addr == b.local_addr()),
                        "{told:?}"
                    );
                    assert_eq!(b.stats().links.rebinds, times);
                    talks(&mut dial(&b).await, &mut seen).await;
                }
                // Connections that were open are not affected.
                talks(&mut before, &mut seen).await;
                // The listener slept meanwhile.
                let (wall, used) = (began.elapsed(), cpu_time(&mut stat) - used);
                assert!(
                    u128::from(used) * 10 < wall.as_millis() / 2,
                    "{used} of {wall:?}"
                );
                end([b]).await;
            });
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_listening_socket_whose_port_is_taken_meanwhile_is_bound_again_when_the_port_is_free() {
    use actix_transport::PeerEvent;

    run(async {
        let b = node(Config::default().udp(false));
        let mut events = watch(&b);
        let broken = listening_socket(&b);
        let thief = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let thief = thief.expect("a socket");
        thief.set_reuse_address(true).expect("open");
        broken.shutdown(std::net::Shutdown::Both).expect("open");
        thief.bind(&b.local_addr().into()).expect("nobody listens");
        thief.listen(1).expect("nobody listens");
        drop(broken);
        let in_use = |event: &PeerEvent| {
            let error = std::io::ErrorKind::AddrInUse;
            matches!(event, PeerEvent::NotAccepting { error: told, .. } if *told == error)
        };
        events.until(in_use).await;
        assert_eq!(b.stats().links.rebinds, 0);
        drop(thief);
        let rebound = |event: &PeerEvent| matches!(event, PeerEvent::Rebound { .. });
        events.until(rebound).await;
        let mut seen = serve(&b, [1]);
        talks(&mut dial(&b).await, &mut seen).await;
        end([b]).await;
    });
}

/// A reader that ended has the lowest load of all. It must not be given connections for that
/// reason.
#[cfg(feature = "failpoints")]
#[test]
fn while_a_failed_reader_pauses_new_connections_go_to_the_others() {
    use actix_transport::{Failpoint, Failpoints, PeerEvent};

    run(async {
        let faults = Failpoints::default();
        let config = Config::default()
            .placement(Placement::Dedicated {
                readers: 2,
                writers: 1,
            })
            .restart_limit(0)
            .failed_retry(Duration::from_secs(3600));
        let b = Transport::builder()
            .config(config)
            .failpoints(faults.clone())
            .bind("127.0.0.1:0")
            .expect("free port");
        let mut seen = serve(&b, [1]);
        // One connection on each reader, so that the test sees when one reader has ended.
        let mut before = [dial(&b).await, dial(&b).await];
        for stream in &mut before {
            talks(stream, &mut seen).await;
        }
        let mut events = watch(&b);
        faults.arm(Failpoint::Reader);
        // The event comes when nothing is left of the reader, not even its mailbox.
        let failed = |event: &PeerEvent| matches!(event, PeerEvent::Failed { .. });
        events.until(failed).await;
        until("ended", || b.stats().links.connections == 1).await;
        let mut streams = Vec::new();
        for _ in 0..4 {
            let mut stream = dial(&b).await;
            talks(&mut stream, &mut seen).await;
            streams.push(stream);
        }
        assert_eq!(b.stats().links.connections, 1 + 4);
        end([b]).await;
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn while_the_only_reader_pauses_new_connections_wait() {
    use actix_transport::{Failpoint, Failpoints};

    for config in placements() {
        run(async {
            let faults = Failpoints::default();
            let config = config
                .restart_limit(0)
                .failed_retry(Duration::from_millis(500));
            let b = Transport::builder()
                .config(config)
                .failpoints(faults.clone())
                .bind("127.0.0.1:0")
                .expect("free port");
            let mut seen = serve(&b, [1]);
            let mut before = dial(&b).await;
            talks(&mut before, &mut seen).await;
            faults.arm(Failpoint::Reader);
            expect_close(before).await;
            // Nobody reads now. If these connections were accepted already, nobody would ever read
            // them.
            let mut streams = [dial(&b).await, dial(&b).await];
            for stream in &mut streams {
                talks(stream, &mut seen).await;
            }
            assert_eq!(b.stats().links.restarts, 1);
            end([b]).await;
        });
    }
}
