//! What a connection may do to its reader: how long a frame may take, and how little other
//! connections notice.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_transport::{Config, GroupOverflow, Transport};
use tokio::io::AsyncWriteExt;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(200);

fn one_reader() -> Config {
    let [dedicated, ..] = placements();
    dedicated
}

#[test]
fn a_frame_that_does_not_complete_in_time_closes_only_its_own_connection() {
    for config in placements() {
        run(async {
            let b = node(config.frame_timeout(SHORT));
            let mut seen = serve(&b, [1]);
            let mut witness = Witness::new(&b).await;
            // Cut inside its length, inside its group and inside its payload.
            for (late, cut) in (1..).zip([1, 6, 10]) {
                let mut stream = dial(&b).await;
                let bytes = [wire(1, b"whole"), wire(1, b"late")[..cut].to_vec()];
                write(&mut stream, &bytes.concat()).await;
                assert_eq!(seen.next().await.payload, "whole");
                expect_close(stream).await;
                until("counted", || b.stats().inbound.timed_out == late).await;
                witness.comes_through().await;
            }
            let inbound = b.stats().inbound;
            assert_eq!((inbound.malformed, inbound.truncated), (0, 0));
            until("closed", || b.stats().links.connections == 1).await;
            end([b]).await;
        });
    }
}

#[test]
fn a_frame_that_trickles_in_gets_no_more_time_than_one_that_stalls() {
    for config in placements() {
        run(async {
            let b = node(config.frame_timeout(SHORT));
            let mut stream = dial(&b).await;
            write(&mut stream, &wire(1, &[0; 10_000])[..8]).await;
            // Each byte comes in time, but never the last one.
            let trickle = async {
                while stream.write_all(&[0]).await.is_ok() {
                    tokio::time::sleep(SHORT / 20).await;
                }
            };
            tokio::select! {
                () = trickle => {}
                () = until("timed out", || b.stats().inbound.timed_out == 1) => {}
            }
            until("closed", || b.stats().links.connections == 0).await;
            assert_eq!(b.stats().inbound.timed_out, 1);
            end([b]).await;
        });
    }
}

#[test]
fn a_large_frame_is_given_the_time_that_its_length_needs() {
    for config in placements() {
        run(async {
            let payload = vec![7; 100_000];
            let bytes = wire(1, &payload);
            let config = config.frame_timeout(SHORT);
            // At this rate, a frame of this length may take more than ten seconds.
            let patient = node(config.clone().frame_floor(10_000));
            let strict = node(config.frame_floor(usize::MAX >> 32));
            let mut seen = serve(&patient, [1]);
            let (mut to_patient, mut to_strict) = (dial(&patient).await, dial(&strict).await);
            for stream in [&mut to_patient, &mut to_strict] {
                write(stream, &bytes[..50_000]).await;
            }
            expect_close(to_strict).await;
            assert_eq!(strict.stats().inbound.timed_out, 1);
            // The patient node has now waited longer than the strict one did.
            tokio::time::sleep(SHORT).await;
            write(&mut to_patient, &bytes[50_000..]).await;
            assert_eq!(seen.next().await.payload, payload);
            assert_eq!(patient.stats().inbound.timed_out, 0);
            end([patient, strict]).await;
        });
    }
}

#[test]
fn an_idle_connection_is_not_closed() {
    for config in placements() {
        run(async {
            let b = node(config.frame_timeout(5 * SHORT));
            let mut seen = serve(&b, [1]);
            let (mut silent, mut spoke) = (dial(&b).await, dial(&b).await);
            // In two parts, so that the connection has begun a frame and completed it.
            let bytes = wire(1, b"spoke");
            write(&mut spoke, &bytes[..5]).await;
            write(&mut spoke, &bytes[5..]).await;
            seen.next().await;
            tokio::time::sleep(6 * SHORT).await;
            for stream in [&mut silent, &mut spoke] {
                write_frames(stream, &[(1, b"again")]).await;
                assert_eq!(seen.next().await.payload, "again");
            }
            assert_eq!(b.stats().inbound.timed_out, 0);
            end([b]).await;
        });
    }
}

#[test]
fn each_frame_has_a_time_limit_of_its_own() {
    const ALLOWED: Duration = Duration::from_secs(1);

    run(async {
        let b = node(one_reader().frame_timeout(ALLOWED));
        let mut seen = serve(&b, [1]);
        let mut stream = dial(&b).await;
        let frame = wire(1, b"in time");
        write(&mut stream, &frame[..9]).await;
        // The connection is always in the middle of a frame, but each time of another one.
        for _ in 0..12 {
            tokio::time::sleep(ALLOWED / 8).await;
            write(&mut stream, &[&frame[9..], &frame[..9]].concat()).await;
            assert_eq!(seen.next().await.payload, "in time");
        }
        assert_eq!(b.stats().inbound.timed_out, 0);
        end([b]).await;
    });
}

#[test]
fn time_spent_waiting_for_a_group_does_not_count_against_the_next_frame() {
    const ALLOWED: Duration = Duration::from_secs(2);

    run(async {
        let b = node(one_reader().frame_timeout(ALLOWED));
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let mut stream = dial(&b).await;
        let second = wire(1, b"second");
        write(&mut stream, &[&wire(1, b"first"), &second[..9]].concat()).await;
        until("read", || b.stats().inbound.in_delivery.frames == 1).await;
        tokio::time::sleep(ALLOWED).await;
        gate.open();
        assert_eq!(seen.next().await.payload, "first");
        // The wait for the second frame begins only now.
        tokio::time::sleep(ALLOWED / 8).await;
        write(&mut stream, &second[9..]).await;
        assert_eq!(seen.next().await.payload, "second");
        assert_eq!(b.stats().inbound.timed_out, 0);
        end([b]).await;
    });
}

/// A transport that shares its thread with its users may read late what arrived in time.
#[test]
fn time_for_which_its_thread_was_busy_does_not_count_against_a_frame() {
    const ALLOWED: Duration = Duration::from_secs(1);

    run(async {
        let [.., current] = placements();
        let b = node(current.frame_timeout(ALLOWED));
        let mut seen = serve(&b, [1]);
        let mut witness = Witness::new(&b).await;
        let mut stream = dial(&b).await;
        // More than one read takes.
        let frame = wire(1, &[7; 40_000]);
        write(&mut stream, &frame[..9]).await;
        witness.comes_through().await;
        let rest = stream.try_write(&frame[9..]).expect("room");
        assert_eq!(rest, frame.len() - 9);
        std::thread::sleep(ALLOWED + ALLOWED / 10);
        assert_eq!(seen.next().await.payload, frame[8..]);
        assert_eq!(b.stats().inbound.timed_out, 0);
        end([b]).await;
    });
}

/// A transport with three readers, and the means to make its actors panic.
#[cfg(feature = "failpoints")]
fn three_readers() -> (Transport, actix_transport::Failpoints) {
    use actix_transport::{Failpoints, Placement};

    let faults = Failpoints::default();
    let config = Config::default().placement(Placement::Dedicated {
        readers: 3,
        writers: 1,
    });
    let transport = Transport::builder()
        .config(config)
        .failpoints(faults.clone())
        .bind("127.0.0.1:0")
        .expect("free port");
    (transport, faults)
}

/// When one of three readers ends, a third of the connections end with it.
#[cfg(feature = "failpoints")]
#[test]
fn connections_are_spread_evenly_over_readers() {
    use actix_transport::Failpoint;

    run(async {
        let (b, faults) = three_readers();
        let mut seen = serve(&b, [1]);
        let mut streams = Vec::new();
        for _ in 0..9 {
            let mut stream = dial(&b).await;
            write_frames(&mut stream, &[(1, b"here")]).await;
            seen.next().await;
            streams.push(stream);
        }
        faults.arm(Failpoint::Reader);
        until("restarted", || b.stats().links.restarts == 1).await;
        until("a third", || b.stats().links.connections == 6).await;
        for stream in &mut streams {
            // The first write to a connection that has ended may still succeed.
            let _ = stream.write_all(&wire(1, b"still here")).await;
        }
        for _ in 0..6 {
            assert_eq!(seen.next().await.payload, "still here");
        }
        assert_eq!(b.stats().inbound.received.frames, 9 + 6);
        end([b]).await;
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_burst_of_connections_is_spread_evenly_over_readers() {
    use actix_transport::Failpoint;

    run(async {
        let (b, faults) = three_readers();
        // The connections wait in the backlog until the listener is restarted, and are then accepted
        // one right after another.
        faults.arm(Failpoint::Listener);
        until("panicked", || faults.spent()).await;
        let mut streams = Vec::new();
        for _ in 0..9 {
            streams.push(dial(&b).await);
        }
        until("accepted", || b.stats().links.connections == 9).await;
        faults.arm(Failpoint::Reader);
        until("restarted", || b.stats().links.restarts == 2).await;
        until("a third", || b.stats().links.connections == 6).await;
        end([b]).await;
    });
}

/// Writes frames in a thread until the returned value is dropped.
fn flood(transport: &Transport, index: u32) -> impl Drop {
    struct Flood(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

    impl Drop for Flood {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
            self.1.take().map(std::thread::JoinHandle::join);
        }
    }

    let over = Arc::new(AtomicBool::new(false));
    let (stop, to) = (over.clone(), transport.local_addr());
    // As small as frames can be, so that they are written faster than the reader reads them.
    let bytes = wire(index, b"").repeat(32 << 10);
    let writer = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(to).expect("listening");
        while !stop.load(Relaxed) {
            stream.write_all(&bytes).expect("open");
        }
    });
    Flood(over, Some(writer))
}

#[test]
fn a_connection_that_floods_does_not_starve_the_others() {
    run(async {
        let b = node(one_reader());
        let mut witness = Witness::new(&b).await;
        let _bounded = hold(&b, 2, GroupOverflow::Drop { max_bytes: 0 });
        // A group that nobody serves, and one that is always full: the reader drops the flood's
        // frames without ever having to wait.
        for index in [1, 2] {
            let _flood = flood(&b, index);
            let flooded = || b.stats().inbound.received.bytes;
            let before = flooded();
            until("flooded", || flooded() > before + (1 << 20)).await;
            let mut meanwhile = Vec::new();
            for _ in 0..20 {
                let before = flooded();
                witness.comes_through().await;
                meanwhile.push(flooded() - before);
            }
            // The reader takes some hundred KiB of the flood in one turn, and the witness needs a
            // few turns.
            meanwhile.sort_unstable();
            assert!(meanwhile[10] < 16 << 20, "{meanwhile:?} bytes");
        }
        end([b]).await;
    });
}
