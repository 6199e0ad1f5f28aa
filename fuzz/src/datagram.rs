//! Any datagrams from two senders. Valid frames are delivered, those of each sender in order; the
//! other datagrams are counted.

use std::net::UdpSocket;

use actix::SystemRunner;
use actix_transport::{Config, GroupId};
use tokio::{task::yield_now, time::Instant};

use super::node::{Got, Node};
use super::script::Script;

const LIMIT: usize = 300;

/// No more than the system buffers for a socket that is not read.
const DATAGRAMS: usize = 64;

thread_local! {
    static BENCH: (SystemRunner, Node, [UdpSocket; 2]) = {
        let (system, node) = Node::start(Config::default().max_frame(LIMIT));
        let senders = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("free port"));
        (system, node, senders)
    };
}

pub fn run(data: &[u8]) {
    BENCH.with(|(system, node, senders)| system.block_on(datagrams(node, senders, Script(data))));
}

async fn datagrams(node: &Node, senders: &[UdpSocket; 2], mut script: Script<'_>) {
    let before = node.received();
    let (mut expected, mut sent, mut malformed) = (Vec::new(), 0, 0);
    while let Some(step) = script.step()
        && sent < DATAGRAMS
    {
        let sender = &senders[usize::from(step & 1)];
        let len = usize::from(step >> 1).min(script.0.len());
        let (head, rest) = script.0.split_at(len);
        script.0 = rest;
        // Now and then a datagram longer than the script has bytes, up to just beyond the limit.
        let mut datagram = head.to_vec();
        if step >> 1 == 127 {
            datagram.resize(LIMIT - 8 + script.number() % 8, 7);
        }
        let to = node.transport.local_addr();
        sender.send_to(&datagram, to).expect("takes any length");
        sent += 1;
        match datagram.split_first_chunk::<4>() {
            Some((group, payload)) if 8 + payload.len() <= LIMIT => expected.push(Got {
                from: sender.local_addr().expect("bound"),
                group: u32::from_le_bytes(*group),
                payload: payload.to_vec(),
            }),
            _ => malformed += 1,
        }
        if step & 2 == 0 {
            yield_now().await;
        }
    }
    let began = Instant::now();
    let received = || {
        let now = node.received();
        let frames = now.received.frames - before.received.frames - now.in_delivery.frames;
        (frames, now.malformed - before.malformed)
    };
    while received() != (expected.len() as u64, malformed) {
        assert!(began.elapsed().as_secs() < 5, "{:?} of {sent}", received());
        yield_now().await;
    }
    expected.retain(|got| got.group != GroupId::RESERVED.get());
    assert_eq!(in_order(node.take()), in_order(expected));
}

/// Sorted by sender and group. The frames of one sender and group stay in order.
fn in_order(mut frames: Vec<Got>) -> Vec<Got> {
    frames.sort_by_key(|got| (got.from, got.group));
    frames
}
