//! How much memory received bytes take, while frames arrive and while payloads are kept. Linux only,
//! where a process can ask how much memory it has.

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_transport::{Config, GroupOverflow, Inbound};
use bytes::Bytes;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(20);

/// Nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes malloc return freed memory to the system, so that `VmRSS` shows it.
const TRIM: &str = "export MALLOC_MMAP_THRESHOLD_=16384 MALLOC_TRIM_THRESHOLD_=16384";

fn one_reader() -> Config {
    let [dedicated, ..] = placements();
    dedicated
}

/// Processor time that this process has used.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("grows")
}

/// A field of /proc/self/status, in bytes.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("in kB").parse::<usize>().expect("a number") << 10
}

#[test]
fn idle_connections_hold_no_buffers() {
    const CONNECTIONS: u64 = 100;

    async fn burst_and_idle() {
        let b = node(one_reader());
        let burst = wire(1, &[7; 1000]).repeat(1000);
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(dial(&b).await);
        }
        until("open", || b.stats().links.connections == CONNECTIONS).await;
        let idle = memory("VmRSS");
        for stream in &mut streams {
            write(stream, &burst).await;
        }
        let frames = 1000 * CONNECTIONS;
        until("read", || b.stats().inbound.received.frames == frames).await;
        until("given back", || memory("VmRSS") < idle + (4 << 20)).await;
        assert_eq!(b.stats().links.connections, CONNECTIONS);
        end([b]).await;
    }

    let name = "memory::idle_connections_hold_no_buffers";
    alone_after(TRIM, name, || run(burst_and_idle()));
}

#[test]
fn a_connection_gives_back_the_large_buffer_of_a_large_frame_even_while_it_is_busy() {
    const CONNECTIONS: usize = 10;
    const LARGE: usize = 8 << 20;

    async fn talk_on() {
        let b = node(one_reader());
        let mut seen = serve(&b, [1]);
        let mut streams = Vec::new();
        let (large, small) = (wire(1, &vec![7; LARGE]), wire(1, b"small"));
        let before = memory("VmRSS");
        for _ in 0..CONNECTIONS {
            let mut stream = dial(&b).await;
            write(&mut stream, &large).await;
            assert_eq!(seen.next().await.payload.len(), LARGE);
            streams.push(stream);
        }
        // No connection is idle long enough to give its buffer back for that reason.
        let deadline = Instant::now() + PATIENCE;
        while memory("VmRSS") > before + 2 * LARGE {
            assert!(
                Instant::now() < deadline,
                "{} kept",
                memory("VmRSS") - before
            );
            for stream in &mut streams {
                write(stream, &small).await;
                assert_eq!(seen.next().await.payload, "small");
            }
            tokio::time::sleep(SHORT).await;
        }
        end([b]).await;
    }

    let name =
        "memory::a_connection_gives_back_the_large_buffer_of_a_large_frame_even_while_it_is_busy";
    alone_after(TRIM, name, || run(talk_on()));
}

/// A byte now and then of a large frame must not make the reader copy what it has of that frame.
#[test]
fn large_frames_that_trickle_in_take_little_memory_and_time() {
    const CONNECTIONS: usize = 10;
    const SENT: usize = 6_000_000;
    const PAUSE: Duration = Duration::from_millis(260);

    async fn trickle() {
        let b = node(one_reader());
        let mut witness = Witness::new(&b).await;
        let bytes = wire(1, &vec![7; (10 << 20) - 8]);
        let before = memory("VmData");
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = dial(&b).await;
            write(&mut stream, &bytes[..SENT]).await;
            streams.push(stream);
        }
        witness.comes_through().await;
        let (began, used) = (Instant::now(), cpu_time());
        for at in SENT..SENT + 8 {
            for stream in &mut streams {
                write(stream, &bytes[at..=at]).await;
            }
            witness.comes_through().await;
            tokio::time::sleep(PAUSE).await;
        }
        let (wall, used) = (began.elapsed(), cpu_time() - used);
        let held = memory("VmData").saturating_sub(before);
        let most = CONNECTIONS * (SENT * 5 / 4 + (64 << 10));
        assert!(held <= most, "{held} bytes");
        assert!(used < wall / 20, "{used:?} of {wall:?}");
        // The frames are intact.
        let mut seen = serve(&b, [1]);
        for stream in &mut streams {
            write(stream, &bytes[SENT + 8..]).await;
            assert!(seen.next().await.payload == bytes[8..]);
        }
        end([b]).await;
    }

    let name = "memory::large_frames_that_trickle_in_take_little_memory_and_time";
    alone_after(TRIM, name, || run(trickle()));
}

#[test]
fn memory_is_allocated_for_the_bytes_that_arrived_and_not_for_the_announced_length() {
    const CONNECTIONS: usize = 100;
    const ANNOUNCED: u32 = 10 << 20;

    async fn announce_and_stop() {
        let b = node(one_reader());
        let mut witness = Witness::new(&b).await;
        let before = memory("VmData");
        let arrives = [&ANNOUNCED.to_be_bytes()[..], &[0; 1000]].concat();
        let (header, more) = arrives.split_at(8);
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = dial(&b).await;
            // In two reads: at the second one, the length is known.
            for part in [header, more] {
                write(&mut stream, part).await;
                witness.comes_through().await;
            }
            streams.push(stream);
        }
        assert_eq!(b.stats().inbound.malformed, 0);
        let given = memory("VmData").saturating_sub(before);
        let arrived = CONNECTIONS * arrives.len();
        assert!(given < ANNOUNCED as usize, "{given} bytes for {arrived}");
        end([b]).await;
    }

    let name =
        "memory::memory_is_allocated_for_the_bytes_that_arrived_and_not_for_the_announced_length";
    alone(name, || run(announce_and_stop()));
}

/// An actor that keeps the payloads it gets.
struct Keeper {
    copied: bool,
    kept: mpsc::UnboundedSender<Bytes>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Keeper {
    type Result = ();

    fn handle(&mut self, mut inbound: Inbound, _: &mut Context<Self>) {
        let next = match self.copied {
            true => Inbound::next_copied,
            false => Inbound::next,
        };
        while let Some(payload) = next(&mut inbound) {
            let _ = self.kept.send(payload);
        }
    }
}

#[test]
fn when_inbound_memory_is_used_up_the_largest_frames_are_given_up_and_short_ones_pass() {
    const BUDGET: usize = 8 << 20;
    const UNIT: usize = 100_000;

    async fn use_up() {
        let config = one_reader().max_frame(BUDGET / 2).inbound_bytes(BUDGET);
        let b = node(config);
        let mut witness = Witness::new(&b).await;
        let frame = wire(1, &vec![7; BUDGET / 2 - 8]);
        let before = memory("VmData");
        // The first connection has the least of its frame, the last one the most: 21 MB in total.
        let mut streams = Vec::new();
        for units in 1..=20 {
            let mut stream = dial(&b).await;
            // The connections whose frames are given up are closed in the middle of this.
            let _ = stream.write_all(&frame[..units * UNIT]).await;
            witness.comes_through().await;
            streams.push(stream);
            let held = memory("VmData").saturating_sub(before);
            assert!(held <= BUDGET * 5 / 4, "{held} bytes of {BUDGET}");
        }
        until("given up", || b.stats().inbound.given_up >= 10).await;
        witness.comes_through().await;
        assert_eq!(b.stats().inbound.truncated, 0);
        // The shortest ones are still there, and can be completed once others are gone.
        streams.truncate(3);
        until("gone", || b.stats().links.connections == 4).await;
        let mut seen = serve(&b, [1]);
        for (stream, units) in streams.iter_mut().zip(1..=3) {
            write(stream, &frame[units * UNIT..]).await;
            assert!(seen.next().await.payload == frame[8..]);
        }
        assert_eq!(b.stats().inbound.timed_out, 0);
        end([b]).await;
    }

    let name = "memory::when_inbound_memory_is_used_up_the_largest_frames_are_given_up_and_short_ones_pass";
    alone_after(TRIM, name, || run(use_up()));
}

/// The memory of a frame that will never be complete must not stay for as long as a handler takes.
#[test]
fn a_connection_that_ends_inside_a_frame_keeps_none_of_it_while_a_handler_is_busy() {
    const CONNECTIONS: usize = 100;
    const PART: usize = 40_000;

    async fn leave() {
        let b = node(one_reader());
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let large = wire(2, &vec![7; 1 << 20]);
        let bytes = [&wire(1, b"held")[..], &large[..100]].concat();
        let before = memory("VmData");
        for number in 1..=CONNECTIONS {
            let mut stream = dial(&b).await;
            write(&mut stream, &bytes).await;
            let read = || b.stats().inbound.in_delivery.frames == number as u64;
            until("read", read).await;
            // This arrives in the kernel's buffer, with the end of the connection.
            write(&mut stream, &large[100..PART]).await;
            drop(stream);
            until("ended", || b.stats().links.connections == 0).await;
        }
        let held = memory("VmData").saturating_sub(before);
        assert!(held < CONNECTIONS * PART / 2, "{held} bytes");
        gate.open();
        for _ in 0..CONNECTIONS {
            assert_eq!(seen.next().await.payload, "held");
        }
        let all = CONNECTIONS as u64;
        until("counted", || b.stats().inbound.truncated == all).await;
        end([b]).await;
    }

    let name =
        "memory::a_connection_that_ends_inside_a_frame_keeps_none_of_it_while_a_handler_is_busy";
    alone_after(TRIM, name, || run(leave()));
}

#[test]
fn while_handlers_hold_the_inbound_memory_new_reads_wait() {
    const FRAME: usize = 1 << 20;

    run(async {
        let b = node(one_reader().max_frame(FRAME).inbound_bytes(4 << 20));
        let (gate, mut seen) = hold(&b, 1, GroupOverflow::Wait);
        let mut witness = Witness::new(&b).await;
        let frame = wire(1, &vec![7; FRAME - 8]);
        let mut streams = Vec::new();
        for held in 1..=3 {
            streams.push(dial(&b).await);
            write(&mut streams[held - 1], &frame).await;
            until("read", || {
                b.stats().inbound.in_delivery.frames == held as u64
            })
            .await;
        }
        // For a fourth frame there is no memory.
        let mut stream = dial(&b).await;
        let writing = async {
            write(&mut stream, &frame).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = writing => {}
            () = async {
                for _ in 0..100 {
                    witness.comes_through().await;
                }
            } => {}
        }
        let inbound = b.stats().inbound;
        assert_eq!((inbound.in_delivery.frames, inbound.given_up), (3, 0));
        gate.open();
        for _ in 0..3 {
            assert_eq!(seen.next().await.payload.len(), FRAME - 8);
        }
        end([b]).await;
    });
}

const KEPT: usize = 30;

/// Keeps `KEPT` short payloads, each of which arrives behind `times` other frames that nobody takes.
/// Returns how much memory they hold.
async fn hold_short_payloads(copied: bool, other: &[u8], times: usize) -> usize {
    let b = node(one_reader());
    let (tell, mut kept) = mpsc::unbounded_channel();
    let keeper = Keeper { copied, kept: tell }.start();
    b.register(group(1), keeper.recipient()).expect("free");
    let mut stream = dial(&b).await;
    let bytes = [&other.repeat(times)[..], &wire(1, b"x")].concat();
    let mut before = 0;
    for sent in 0..=KEPT {
        write(&mut stream, &bytes).await;
        until("handled", || {
            let inbound = b.stats().inbound;
            let all = inbound.received.frames == ((sent + 1) * (times + 1)) as u64;
            all && inbound.in_delivery.is_zero()
        })
        .await;
        if sent == 0 {
            // From here on the buffers have their final sizes.
            before = memory("VmRSS");
        }
    }
    let held = memory("VmRSS").saturating_sub(before);
    for _ in 0..=KEPT {
        assert_eq!(kept.recv().await.expect("kept"), "x");
    }
    end([b]).await;
    held
}

#[test]
fn a_kept_payload_holds_no_more_memory_than_documented() {
    alone_after(
        TRIM,
        "memory::a_kept_payload_holds_no_more_memory_than_documented",
        || {
            run(async {
                let held = hold_short_payloads(false, &wire(2, &vec![7; 8 << 20]), 1).await;
                assert!(held <= KEPT << 20, "{held} bytes behind large frames");
                let small = wire(2, &vec![7; 100_000]);
                let held = hold_short_payloads(false, &small, 80).await;
                assert!(held <= (KEPT + 1) << 20, "{held} bytes behind many frames");
                let held = hold_short_payloads(true, &small, 80).await;
                assert!(held <= 2 << 20, "{held} bytes copied");
            });
        },
    );
}
