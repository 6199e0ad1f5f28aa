//! A draining stop waits until all received frames are handled, however busy their actors are, and until what waits
//! to be sent was sent.

use std::{net::SocketAddr, time::Duration};

use actix::prelude::*;
use actix_transport::{
    Config, DropReason, GroupOverflow, Inbound, PeerEvent, Placement, Shutdown, Transport, Via,
};
use futures::{FutureExt, future::Either};

use crate::support::*;

/// An actor that blocks its thread until the test releases it.
struct Busy(std::sync::mpsc::Receiver<()>);

impl Actor for Busy {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Busy {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let _ = self.0.recv();
        inbound.for_each(drop);
    }
}

#[test]
fn a_drain_waits_for_batches_that_are_still_in_a_mailbox() {
    for via in [Via::Tcp, Via::Udp] {
        run(async {
            // The transport runs on this thread, so it reads everything that is sent here in one
            // go.
            let b = node(Config::default().placement(Placement::Current));
            let (free, busy) = std::sync::mpsc::channel();
            let arbiter = Arbiter::new();
            let actor = Busy::start_in_arbiter(&arbiter.handle(), |_| Busy(busy));
            for index in 0..4 {
                let registered = b.register(group(index), actor.clone().recipient());
                registered.expect("free group");
            }
            let mut stream = dial(&b).await;
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("free port");
            match via {
                Via::Tcp => {
                    let frames = [0, 1, 2, 3].map(|index| (index, &b"whole"[..]));
                    write_frames(&mut stream, &frames).await;
                }
                _ => (0..4u32).for_each(|index| {
                    let datagram = [&index.to_le_bytes()[..], b"whole"].concat();
                    socket.send_to(&datagram, b.local_addr()).expect("sent");
                }),
            }
            // The actor blocks on the first batch, and the others are behind it in its mailbox.
            until("received", || b.stats().inbound.received.frames == 4).await;
            let stop = b.stop(Shutdown::Drain(Duration::from_secs(20)));
            // Long enough for everything else to end, if the stop did not wait for these batches.
            let release = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(free);
            };
            tokio::join!(stop, release);
            let inbound = b.stats().inbound;
            assert_eq!(inbound.delivered, inbound.received, "{via:?}");
            arbiter.stop();
        });
    }
}

/// The connection had ended while a handler was busy, so that its place and its socket were given back, and
/// what it had left was taken out of the kernel.
#[test]
fn a_drain_delivers_what_a_closed_connection_had_left() {
    // More than one read takes, and less than the kernel's receive buffer holds.
    const LEFT: u8 = 20;
    const LEN: usize = 2 << 10;

    for config in placements() {
        run(async {
            let b = node(config);
            let (gate, mut held) = hold(&b, 1, GroupOverflow::Wait);
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"first")]).await;
            until("read", || b.stats().inbound.in_delivery.frames == 1).await;
            for number in 0..LEFT {
                write_frames(&mut stream, &[(1, &[number; LEN])]).await;
            }
            drop(stream);
            until("noticed", || b.stats().links.connections == 0).await;
            drain_behind(&b, &gate).await;
            assert_eq!(held.next().await.payload, "first");
            for number in 0..LEFT {
                assert!(held.next().await.payload == [number; LEN][..]);
            }
            b.stats().balance().expect("nothing is missing");
        });
    }
}

/// A transport that has no descriptor for its UDP socket yet, and a datagram that waits for that.
#[cfg(target_os = "linux")]
async fn with_a_datagram_that_waits(to: SocketAddr) -> (Transport, Vec<std::fs::File>) {
    // The transport runs on this thread. It attaches its sockets to the runtime only when this future waits.
    let a = node(Config::default().placement(Placement::Current));
    let null = || std::fs::File::open("/dev/null");
    let hoard: Vec<_> = std::iter::from_fn(|| null().ok()).collect();
    a.send_datagram(to, group(1), "x").expect("room");
    until("stalled", || a.stats().links.datagram_stalls > 0).await;
    (a, hoard)
}

#[cfg(target_os = "linux")]
#[test]
fn a_drain_waits_for_the_datagrams_that_wait_for_a_socket() {
    let test = "draining::a_drain_waits_for_the_datagrams_that_wait_for_a_socket";
    alone_after("ulimit -n 64", test, || {
        run(async {
            let raw = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
            let raw = raw.expect("free port");
            let to = raw.local_addr().expect("bound");
            let (a, hoard) = with_a_datagram_that_waits(to).await;
            let mut stopping = Box::pin(a.stop(Shutdown::Drain(Duration::from_secs(60))));
            assert!(stopping.as_mut().now_or_never().is_none(), "it waits");
            let stalls = a.stats().links.datagram_stalls;
            let stalled = until("stalled again", || a.stats().links.datagram_stalls > stalls);
            match futures::future::select(stopping, std::pin::pin!(stalled)).await {
                Either::Left((report, _)) => panic!("stopped before it was sent: {report:?}"),
                Either::Right(((), stopping)) => {
                    drop(hoard);
                    assert!(stopping.await.datagrams.is_zero());
                }
            }
            let mut buffer = [0; 100];
            let (len, _) = raw.recv_from(&mut buffer).await.expect("a datagram");
            assert_eq!(&buffer[..len], b"\x01\0\0\0x");
            assert_eq!(a.stats().udp.written.frames, 1);
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_stop_drops_the_datagrams_that_wait_and_reports_them() {
    let test = "draining::a_stop_drops_the_datagrams_that_wait_and_reports_them";
    alone_after("ulimit -n 64", test, || {
        run(async {
            for by_drop in [false, true] {
                let to = Vacant::new().addr();
                let (a, hoard) = with_a_datagram_that_waits(to).await;
                let mut events = watch(&a);
                if by_drop {
                    drop(a);
                } else {
                    let report = a.stop(Shutdown::Now).await;
                    assert_eq!(report.datagrams.frames, 1);
                    assert_eq!(a.stats().udp.dropped.stopped.frames, 1);
                }
                let dropped = |event: &PeerEvent| matches!(event, PeerEvent::Dropped { .. });
                let event = events.until(dropped).await;
                let PeerEvent::Dropped {
                    peer: None,
                    reason: DropReason::Stopped,
                    count,
                    ..
                } = event
                else {
                    panic!("{event:?}");
                };
                assert_eq!(count.frames, 1);
                drop(hoard);
            }
        });
    });
}
