//! Checks and helpers that both programs share.

use std::{io::IoSlice, time::Duration};

use crate::{
    net::clock::CoarseInstant,
    config::Overflow,
    ids::GroupId,
    wire::frame::{self, HEADER},
    send::queue::{Batch, CHAIN_FROM, Limits, SendQueue},
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
        chain_from: CHAIN_FROM,
    }
}

/// Returns a snapshot, after checking that its counters balance.
pub(crate) fn snapshot(queue: &SendQueue) -> SendStats {
    let tcp = queue.stats();
    let stats = Stats {
        tcp,
        ..Stats::default()
    };
    if let Err(imbalance) = stats.balance() {
        panic!("{imbalance}: {tcp:?}");
    }
    tcp
}

/// The bytes that the batch would write next.
pub(crate) fn bytes_of(batch: &Batch) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = batch.slices(&mut slices);
    let bytes = slices[..filled].iter().map(|slice| &slice[..]);
    bytes.collect::<Vec<_>>().concat()
}

/// The payloads of the whole frames at the front of these bytes.
pub(crate) fn payloads(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(head) = frame::peek(wire, usize::MAX).expect("no bound") {
        assert_eq!(head.group, GROUP);
        payloads.push(wire[HEADER..head.len].to_vec());
        wire = &wire[head.len..];
    }
    payloads
}
