//! When a link ends, its receipt says how many of the written frames the peer's kernel had acknowledged,
//! and how many are in doubt.
//!
//! The peer is a socket of the test's own, which shows what its kernel holds. The kernel's list of sockets
//! shows when that is also acknowledged: then the bytes that the two ends hold add up to what was written.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use actix_transport::{
    Config, Count, DownReason, Identity, NodeId, PeerEvent, Receipt, Sessions, Shutdown, Transport,
};
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(3600);

/// Room in the peer's kernel. It doubles this, and keeps a part of it for itself.
const ROOM: usize = 64 << 10;

/// The group of control frames.
const CONTROL: u32 = u32::MAX;

/// All placements, with frames that never go stale.
fn configs() -> [Config; 3] {
    placements().map(|config| config.stale_after(NEVER))
}

/// A node that introduces itself if `hello` is set.
fn sender(config: Config, hello: bool) -> Transport {
    if !hello {
        return node(config);
    }
    let identity = Identity::new(NodeId::new(1)).cluster("kv");
    let builder = Transport::builder().identity(identity);
    let config = config.sessions(Sessions::Optional);
    builder
        .config(config)
        .bind("127.0.0.1:0")
        .expect("free port")
}

/// A peer whose kernel takes about [`ROOM`] bytes that nobody reads.
fn small_listener() -> (TcpListener, SocketAddr) {
    let (listener, addr) = listener();
    let room = SockRef::from(&listener).set_recv_buffer_size(ROOM);
    room.expect("open");
    (listener, addr)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.expect("listening");
    stream
}

/// Waits until the link ends. Returns why, and what is known of its frames.
async fn down(events: &mut Seen<PeerEvent>) -> (DownReason, Receipt) {
    let down = |event: &PeerEvent| matches!(event, PeerEvent::Down { .. });
    match events.until(down).await {
        PeerEvent::Down {
            reason, receipt, ..
        } => (reason, receipt.expect("Linux tells")),
        _ => unreachable!("it was waited for"),
    }
}

/// Returns how many bytes wait in the kernel for the socket from `local` to `remote`: to be acknowledged,
/// and to be read. `None` if the kernel left the socket out: others change its list while it is read.
fn held(local: SocketAddr, remote: SocketAddr) -> Option<[usize; 2]> {
    let hex = |addr: SocketAddr| match addr {
        SocketAddr::V4(addr) => {
            let ip = u32::from_ne_bytes(addr.ip().octets());
            format!("{ip:08X}:{:04X}", addr.port())
        }
        SocketAddr::V6(_) => unreachable!("the tests use IPv4"),
    };
    let ends = format!("{} {} ", hex(local), hex(remote));
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let socket = sockets.lines().find(|line| line.contains(&ends));
    let counts = socket?.split_whitespace().nth(4);
    let (out, r#in) = counts.expect("a column").split_once(':').expect("two");
    Some([out, r#in].map(|hex| usize::from_str_radix(hex, 16).expect("a number")))
}

/// Waits until all `bytes` of the link that ends at `stream` are either acknowledged and held by the peer's
/// kernel, or held by ours. Returns what the peer's kernel holds.
async fn settled(stream: &TcpStream, bytes: usize) -> Vec<u8> {
    let (to, from) = (stream.local_addr(), stream.peer_addr());
    let (to, from) = (to.expect("open"), from.expect("open"));
    let mut peeked = Vec::new();
    until("settled", || {
        let (Some([unacknowledged, _]), Some([_, unread])) = (held(from, to), held(to, from))
        else {
            return false;
        };
        // Last, because our kernel may push a few more bytes into the last room at any time.
        peeked = peek(stream);
        unacknowledged + unread == bytes && peeked.len() == unread
    })
    .await;
    peeked
}

/// Returns the bytes that the peer's kernel holds, and leaves them there.
fn peek(stream: &TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4 * ROOM];
    let peeked = recv(stream, &mut bytes[..], RecvFlags::PEEK);
    let (len, _) = peeked.unwrap_or_default();
    assert!(
        len < bytes.len(),
        "the kernel holds more than it was allowed"
    );
    bytes.truncate(len);
    bytes
}

/// Counts the whole frames that are no control frames.
fn frames(mut bytes: &[u8]) -> Count {
    let mut count = Count::default();
    while let Some(length) = bytes.first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((frame, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        if frame[4..8] != CONTROL.to_le_bytes() {
            count.frames += 1;
            count.bytes += length as u64;
        }
        bytes = rest;
    }
    count
}

/// Asserts that the receipt is about everything that was written, and that the counters say the same.
fn is_complete(a: &Transport, to: SocketAddr, receipt: Receipt) {
    for counts in [a.peer_stats(to).expect("known").frames, a.stats().tcp] {
        let sum = receipt.confirmed + receipt.in_doubt;
        assert_eq!(counts.written, sum);
        assert_eq!(counts.confirmed, receipt.confirmed);
        assert_eq!(counts.in_doubt, receipt.in_doubt);
    }
}

// ---- a peer that does not read -------------------------------------------------------------------------

/// How a link ends.
#[derive(Debug, Copy, Clone)]
enum End {
    /// The peer is killed: its kernel resets the link, because bytes are unread.
    Killed,
    /// The peer stays, and our kernel gives up.
    NoRoom,
}

/// What the link begins with.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Beginning {
    /// Sessions are off.
    Nothing,
    /// A `Hello` that the peer does not answer, and a `Start`.
    Unanswered,
    /// A `Hello`, and a `Start` behind the answer.
    Answered,
}

/// Sends payloads of these lengths to a peer that reads nothing, and ends the link.
async fn lose(config: Config, beginning: Beginning, lens: impl Iterator<Item = usize>, end: End) {
    let hello = beginning != Beginning::Nothing;
    let a = sender(config.user_timeout(Duration::from_secs(1)), hello);
    let mut events = watch(&a);
    let (listener, to) = small_listener();
    let mut sent = Count::default();
    for (number, len) in (0..).zip(lens) {
        let payload = numbered(number, len);
        a.try_send(to, group(1), payload).expect("room");
        sent.frames += 1;
        sent.bytes += len as u64 + 8;
    }
    let mut stream = accept(&listener).await;
    if beginning == Beginning::Answered {
        write(&mut stream, &welcome_both_ways(2, 1, 1)).await;
    }
    until("written", || a.stats().tcp.written == sent).await;
    let mut begun = (0, 0);
    until("begun", || {
        begun = controls_of(&peek(&stream));
        begun.0 == 2 * usize::from(hello)
    })
    .await;
    let confirmed = settled(&stream, begun.1 + sent.bytes as usize).await;
    let (expected, (reason, receipt), confirmed) = match end {
        End::Killed => {
            drop(stream);
            (
                ErrorKind::ConnectionReset,
                down(&mut events).await,
                confirmed,
            )
        }
        End::NoRoom => (ErrorKind::TimedOut, down(&mut events).await, peek(&stream)),
    };
    assert_eq!(reason, DownReason::Lost(expected));
    assert_eq!(
        receipt.confirmed,
        frames(&confirmed),
        "{end:?}, {beginning:?}"
    );
    assert!((1..sent.frames).contains(&receipt.confirmed.frames));
    is_complete(&a, to, receipt);
    super::support::end([a]).await;
}

/// Returns the number of the control frames that come first, and how many bytes they take.
fn controls_of(bytes: &[u8]) -> (usize, usize) {
    let (mut count, mut len) = (0, 0);
    while let Some((length, group)) = bytes.get(len..).and_then(|rest| rest.split_at_checked(4))
        && group.starts_with(&CONTROL.to_le_bytes())
    {
        count += 1;
        len += u32::from_be_bytes(length.try_into().expect("four")) as usize;
    }
    (count, len)
}

#[test]
fn what_a_killed_peer_had_no_room_for_is_in_doubt() {
    for config in configs() {
        run(async {
            for beginning in [
                Beginning::Nothing,
                Beginning::Unanswered,
                Beginning::Answered,
            ] {
                // Shorter than a control frame, which must not be taken for some of them.
                let lens = std::iter::repeat_n(16, 9000);
                lose(config.clone(), beginning, lens, End::Killed).await;
            }
        });
    }
}

#[test]
fn frames_of_all_lengths_are_told_apart_to_the_frame() {
    for config in configs() {
        run(async {
            for (step, max) in [(7, 400), (1009, 20_000)] {
                // Up to 700 KB, which our kernel takes at once.
                let lens = (0..1_400_000 / max).map(|number| 4 + number * step % max);
                lose(config.clone(), Beginning::Nothing, lens, End::Killed).await;
            }
        });
    }
}

#[test]
fn what_the_peer_has_had_no_room_for_until_the_user_timeout_is_in_doubt() {
    let [config, ..] = configs();
    run(async {
        let lens = (0..3000).map(|number| 4 + number * 7 % 400);
        lose(config, Beginning::Unanswered, lens, End::NoRoom).await;
    });
}

#[test]
fn a_frame_that_the_link_cuts_is_neither_confirmed_nor_in_doubt_but_sent_again() {
    const BEFORE: u32 = 100;

    for config in configs() {
        let config = config.max_frame(PLUG_BYTES).redial_first(MS);
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            let peer = a.peer(to).expect("room");
            for number in 0..BEFORE {
                let payload = numbered(number, 10);
                peer.try_send(group(1), payload).expect("room");
            }
            peer.try_send(group(1), numbered(BEFORE, PLUG))
                .expect("room");
            let mut tap = Tap::accept(&listener).await;
            // The frames and a part of the long one.
            tap.buffer_bytes(BEFORE as usize * 18 + 1000).await;
            tap.reset();
            let (_, receipt) = down(&mut events).await;
            let Receipt {
                confirmed,
                in_doubt,
                ..
            } = receipt;
            assert_eq!(confirmed.bytes, 18 * confirmed.frames);
            assert_eq!((confirmed.frames, in_doubt.frames), (BEFORE.into(), 0));

            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, BEFORE);
            a.stop(Shutdown::Now).await;
        });
    }
}

// ---- a peer that reads ---------------------------------------------------------------------------------

#[test]
fn everything_is_confirmed_if_the_peer_reads_it_and_then_closes() {
    for config in configs() {
        run(async {
            for hello in [false, true] {
                let a = sender(config.clone(), hello);
                let mut events = watch(&a);
                let (listener, to) = listener();
                let peer = a.peer(to).expect("room");
                for number in 0..5000 {
                    let payload = numbered(number, 4 + number as usize % 50);
                    peer.send(group(1), payload).await.expect("open");
                }
                let mut tap = Tap::accept(&listener).await;
                if hello {
                    tap.frame().await.expect("a Hello");
                    tap.frame().await.expect("a Start");
                }
                for number in 0..5000 {
                    assert_eq!(tap.number().await, number);
                }
                drop(tap);
                let (reason, receipt) = down(&mut events).await;
                assert_eq!(reason, DownReason::Closed);
                assert_eq!(
                    (receipt.confirmed.frames, receipt.in_doubt.frames),
                    (5000, 0)
                );
                is_complete(&a, to, receipt);
                end([a]).await;
            }
        });
    }
}

#[test]
fn frames_that_their_senders_write_are_counted_as_well() {
    for config in configs() {
        run(async {
            let a = node(config);
            let mut events = watch(&a);
            let (listener, to) = listener();
            a.try_send(to, group(1), numbered(0, 10)).expect("room");
            let mut tap = Tap::accept(&listener).await;
            assert_eq!(tap.number().await, 0);
            // After some lone frames, the send itself writes; see `links`.
            for number in 1..=10 {
                tokio::time::sleep(MS).await;
                let payload = numbered(number, 10 * number as usize);
                a.try_send(to, group(1), payload).expect("room");
                assert_eq!(tap.number().await, number);
            }
            drop(tap);
            let (_, receipt) = down(&mut events).await;
            assert_eq!((receipt.confirmed.frames, receipt.in_doubt.frames), (11, 0));
            is_complete(&a, to, receipt);
            end([a]).await;
        });
    }
}

#[test]
fn each_link_has_a_receipt_of_its_own_and_the_counters_add_them_up() {
    let [config, ..] = configs();
    run(async {
        let a = node(config.redial_first(MS));
        let mut events = watch(&a);
        let (listener, to) = listener();
        for round in 1..=3 {
            for number in 0..round {
                let payload = numbered(number, 100);
                a.try_send(to, group(1), payload).expect("room");
            }
            let mut tap = Tap::accept(&listener).await;
            for number in 0..round {
                assert_eq!(tap.number().await, number);
            }
            drop(tap);
            let (_, receipt) = down(&mut events).await;
            assert_eq!(receipt.confirmed.frames, u64::from(round));
        }
        let frames = a.peer_stats(to).expect("known").frames;
        assert_eq!((frames.confirmed.frames, frames.in_doubt.frames), (6, 0));
        end([a]).await;
    });
}
