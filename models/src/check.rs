//! What both programs need to use a queue and to check it.

use std::{io::IoSlice, time::Duration};

use crate::{
    net::clock::CoarseInstant,
    config::Overflow,
    ids::GroupId,
    wire::frame::{self, HEADER},
    send::queue::{Batch, LARGE_FROM, Limits, SendQueue},
    observe::stats::{SendStats, Stats},
};

pub(crate) const GROUP: GroupId = GroupId::new(1);

/// Frames are stale from this age on.
pub(crate) const STALE_AFTER: u64 = 100;

pub(crate) fn at(millis: u64) -> CoarseInstant {
    CoarseInstant::from_millis(millis)
}

pub(crate) fn limits(frames: usize, overflow: Overflow) -> Limits {
    Limits {
        frames,
        bytes: 100_000,
        frame: 50_000,
        stale_after: Duration::from_millis(STALE_AFTER),
        overflow,
        large_from: LARGE_FROM,
        share: None,
    }
}

/// Returns the counters. Panics unless every frame is in exactly one place.
pub(crate) fn snapshot(queue: &SendQueue) -> SendStats {
    let udp = queue.stats();
    let stats = Stats {
        udp,
        ..Stats::default()
    };
    if let Err(imbalance) = stats.balance() {
        panic!("{imbalance}: {udp:?}");
    }
    udp
}

/// Returns what the batch would put on the wire next.
pub(crate) fn bytes_of(batch: &Batch) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = batch.slices(&mut slices, usize::MAX);
    let bytes = slices[..filled].iter().map(|slice| &slice[..]);
    bytes.collect::<Vec<_>>().concat()
}

/// Returns the payloads of the whole frames at the front.
pub(crate) fn payloads(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(head) = frame::peek(wire, usize::MAX).expect("no bound") {
        assert_eq!(head.group, GROUP);
        payloads.push(wire[HEADER..head.len].to_vec());
        wire = &wire[head.len..];
    }
    payloads
}
