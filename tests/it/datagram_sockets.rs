//! The socket for datagrams: what the system may refuse it, report on it or take from it, and its buffers.

use std::time::Duration;

use actix_transport::{Config, Transport};
use tokio::net::UdpSocket as AsyncUdpSocket;

use crate::{
    datagrams::{addr_of, current, datagram, socket},
    support::*,
};

/// Linux sends nothing from a loopback address to another network.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_the_system_refuses_are_counted_and_those_behind_them_go_out() {
    for config in placements() {
        run(async {
            let (a, b) = (node(config.clone()), node(config));
            let mut seen = serve(&b, [1]);
            let elsewhere = "192.0.2.1:7001".parse().expect("an address");
            for _ in 0..3 {
                a.send_datagram(elsewhere, group(1), "lost").expect("room");
            }
            a.send_datagram(b.local_addr(), group(1), "there")
                .expect("room");
            assert_eq!(seen.next().await.payload, "there");
            until("counted", || a.stats().udp.written.frames == 1).await;
            let stats = a.stats();
            assert_eq!(stats.udp.dropped.failed.frames, 3);
            assert_eq!(stats.links.datagram_stalls, 0, "the socket is fine");
            end([a, b]).await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn while_there_are_no_descriptors_datagrams_wait_or_go_stale_and_then_come_through() {
    let test = "datagram_sockets::while_there_are_no_descriptors_datagrams_wait_or_go_stale_and_then_come_through";
    alone_after("ulimit -n 64", test, || {
        run(async {
            let raw = AsyncUdpSocket::from_std(socket()).expect("a runtime");
            let to = raw.local_addr().expect("bound");
            // The transport runs on this thread. It has its sockets when `bind` returns, but it
            // attaches them to the runtime only when this future waits.
            let a = node(current().stale_after(Duration::from_millis(250)));
            let mut seen = serve(&a, [1]);
            let null = || std::fs::File::open("/dev/null");
            let hoard: Vec<_> = std::iter::from_fn(|| null().ok()).collect();
            a.send_datagram(to, group(1), "stale").expect("room");
            raw.send_to(&datagram(1, b"received"), a.local_addr())
                .await
                .expect("sent");
            // The stalls last 100, 200 and 400 ms.
            until("stalled", || a.stats().links.datagram_stalls == 4).await;
            assert_eq!(a.stats().udp.dropped.stale.frames, 1);
            drop(hoard);

            assert_eq!(seen.next().await.payload, "received");
            a.send_datagram(to, group(1), "sent").expect("room");
            let mut buffer = [0; 100];
            let (len, _) = raw.recv_from(&mut buffer).await.expect("a datagram");
            assert_eq!(&buffer[..len], datagram(1, b"sent"));
            // The actor waited; it did not end and start again.
            assert_eq!(a.stats().links.restarts, 0);
            end([a]).await;
        });
    });
}

#[test]
fn the_system_is_asked_for_buffers_as_large_as_configured_and_what_it_gave_is_told() {
    run(async {
        let given = |config: Config| {
            let a = node(config);
            let given = a.datagram_buffers().expect("switched on");
            (a, given)
        };
        const SMALL: usize = 16 << 10;
        const LARGE: usize = 64 << 10;
        let (a, first) = given(
            Config::default()
                .udp_receive_buffer(SMALL)
                .udp_send_buffer(LARGE),
        );
        let (b, second) = given(
            Config::default()
                .udp_receive_buffer(LARGE)
                .udp_send_buffer(SMALL),
        );
        // Linux gives twice what it was asked for.
        for (told, asked) in [
            (first.receive, SMALL),
            (first.send, LARGE),
            (second.receive, LARGE),
            (second.send, SMALL),
        ] {
            assert!((asked..=2 * asked).contains(&told), "{told} for {asked}");
        }
        // More than the system gives is no error.
        let (c, most) = given(Config::default().udp_receive_buffer(1 << 30));
        let (d, default) = given(Config::default());
        assert!(default.receive > LARGE && default.receive <= most.receive);
        let e = node(Config::default().udp(false));
        assert_eq!(e.datagram_buffers(), None);
        end([a, b, c, d, e]).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_the_kernel_had_no_room_for_are_counted() {
    const SENT: u64 = 1_000;

    run(async {
        // The transport runs on this thread, so it reads nothing while all these are sent.
        let b = node(current().udp_receive_buffer(16 << 10));
        let mut seen = serve(&b, [1]);
        let raw = socket();
        for round in 1..=2 {
            for _ in 0..SENT {
                raw.send_to(&datagram(1, b"x"), b.local_addr())
                    .expect("sent");
            }
            seen.next().await;
            let all = || {
                let stats = b.stats();
                stats.inbound.received.frames + stats.links.datagrams_lost == round * SENT
            };
            until("all counted", all).await;
            assert!(b.stats().links.datagrams_lost > 0);
        }
        assert!(b.stats().inbound.delivered.frames > 0);
        end([b]).await;
    });
}

/// Returns handles to this transport's socket for datagrams, as another process that shares it can have them.
#[cfg(target_os = "linux")]
fn sockets_of(transport: &Transport) -> Vec<socket2::Socket> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let mut found = Vec::new();
    for fd in std::fs::read_dir("/proc/self/fd").expect("linux") {
        let name = fd.expect("linux").file_name();
        let fd = name.to_str().and_then(|name| name.parse().ok());
        let fd = fd.expect("a number");
        // Some are of files, and other tests of this process close some meanwhile.
        let Ok(copy) = pidfd_getfd(&own, fd, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let socket = socket2::Socket::from(copy);
        let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket());
        let is_udp = socket.r#type().ok() == Some(socket2::Type::DGRAM);
        if is_udp && addr == Some(transport.local_addr()) {
            found.push(socket);
        }
    }
    assert!(!found.is_empty());
    found
}

/// The system may report that a datagram was not received when the next one is read. That says nothing of reading.
#[cfg(target_os = "linux")]
#[test]
fn an_error_of_a_datagram_that_was_sent_does_not_end_receiving() {
    let test = "datagram_sockets::an_error_of_a_datagram_that_was_sent_does_not_end_receiving";
    alone(test, || {
        run(async {
            // It runs on this thread, so it reads only when this future waits.
            let a = node(current());
            let mut seen = serve(&a, [1]);
            until("attached", || a.datagram_buffers().is_some()).await;
            for _ in 0..3 {
                let raw = socket();
                // A socket that is connected learns that nobody receives what it sends.
                let sockets = sockets_of(&a);
                for socket in &sockets {
                    socket.connect(&addr_of(&raw).into()).expect("loopback");
                }
                raw.send_to(&datagram(1, b"there"), a.local_addr())
                    .expect("sent");
                drop(raw);
                sockets[0].send(b"lost").expect("sent");
                assert_eq!(seen.next().await.payload, "there");
            }
            let links = a.stats().links;
            assert_eq!((links.datagram_stalls, links.restarts), (0, 0));
            end([a]).await;
        });
    });
}

/// What is wrong may be that they are sent together, or the system reports an error of a datagram before them.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_are_refused_together_are_sent_one_by_one() {
    let test = "datagram_sockets::datagrams_that_are_refused_together_are_sent_one_by_one";
    alone(test, || {
        run(async {
            let raw = AsyncUdpSocket::from_std(socket()).expect("a runtime");
            let to = raw.local_addr().expect("bound");
            // It runs on this thread, so it sends only when this future waits.
            let a = node(current());
            let gone = addr_of(&socket());
            for socket in sockets_of(&a) {
                // A socket that is connected learns that nobody receives what it sends, at its next send.
                socket.connect(&gone.into()).expect("loopback");
                socket.send(b"lost").expect("sent");
                socket.connect(&to.into()).expect("loopback");
            }
            for _ in 0..3 {
                a.send_datagram(to, group(1), "there").expect("room");
            }
            let sent = || a.stats().udp;
            until("sent", || {
                sent().queued.is_zero() && sent().in_flight.is_zero()
            })
            .await;
            assert_eq!(
                (sent().written.frames, sent().dropped.failed.frames),
                (3, 0)
            );
            let mut buffer = [0; 100];
            for _ in 0..3 {
                let (len, _) = raw.recv_from(&mut buffer).await.expect("a datagram");
                assert_eq!(&buffer[..len], datagram(1, b"there"));
            }
            end([a]).await;
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_is_shut_down_from_outside_is_bound_again() {
    use std::net::Shutdown;

    let test = "datagram_sockets::a_socket_that_is_shut_down_from_outside_is_bound_again";
    alone(test, || {
        for (config, how) in placements()
            .into_iter()
            .flat_map(|config| [Shutdown::Read, Shutdown::Write].map(|how| (config.clone(), how)))
        {
            run(async {
                let (a, b) = (node(config.clone()), node(config));
                let (mut at_a, mut at_b) = (serve(&a, [1]), serve(&b, [1]));
                a.send_datagram(b.local_addr(), group(1), "before")
                    .expect("room");
                at_b.next().await;
                for socket in sockets_of(&a) {
                    // The system shuts it down, and says that it is not connected.
                    let _ = socket.shutdown(how);
                }
                // This one finds a socket that cannot send, and is sent by the next one.
                a.send_datagram(b.local_addr(), group(1), "after")
                    .expect("room");
                assert_eq!(at_b.next().await.payload, "after");
                until("counted", || a.stats().links.datagram_stalls == 1).await;
                // What arrives before the new socket is bound is lost.
                until("it receives again", || {
                    b.send_datagram(a.local_addr(), group(1), "back")
                        .expect("room");
                    at_a.try_next().is_some()
                })
                .await;
                assert_eq!(a.stats().links.datagram_stalls, 1);
                assert_eq!(a.stats().links.restarts, 0);
                assert!(a.datagram_buffers().is_some());
                end([a, b]).await;
            });
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn waits_for_a_socket_grow_and_begin_anew_once_it_was_of_use_for_a_while() {
    /// More than the longest wait.
    const A_WHILE: Duration = Duration::from_millis(1050);

    let test =
        "datagram_sockets::waits_for_a_socket_grow_and_begin_anew_once_it_was_of_use_for_a_while";
    alone(test, || {
        run(async {
            // What is logged on this thread, where the transport runs.
            let log = Log::collect();
            let (a, b) = (node(current()), node(current()));
            let mut seen = serve(&b, [1]);
            for used in [Duration::ZERO, Duration::ZERO, A_WHILE] {
                a.send_datagram(b.local_addr(), group(1), "before")
                    .expect("room");
                assert_eq!(seen.next().await.payload, "before");
                tokio::time::sleep(used).await;
                for socket in sockets_of(&a) {
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                }
                a.send_datagram(b.local_addr(), group(1), "after")
                    .expect("room");
                assert_eq!(seen.next().await.payload, "after");
            }
            let lines = log.lines("cannot send or receive datagrams");
            let waits: Vec<_> = lines
                .iter()
                .filter_map(|line| line.split("wait=").nth(1))
                .collect();
            assert_eq!(waits, ["100ms", "200ms", "100ms"], "{lines:?}");
            end([a, b]).await;
        });
    });
}
