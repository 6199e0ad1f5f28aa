//! From a buffer of frames to the mailboxes of their groups' actors.
//!
//! Owns the split of one read by group, and the delivery of the parts. A read's frames are looked at
//! once, here: lengths are checked, frames of the same group are gathered, and what nobody serves is
//! counted, so that the group's actor gets one message for all of its frames. The frames of a single
//! group stay one run of bytes; where groups alternate, each part keeps the offsets of its frames.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use crate::{
    frame::{self, GroupId, Malformed},
    groups::{Group, GroupOverflow, Table},
    inbound::{Frames, Inbound, Via},
    ledger::Charge,
    shared::Shared,
    stats::{Count, DropReason},
};

/// Groups that one round of delivery reaches, at most: who sends a frame to each of a million groups
/// gets a thousand messages made at a time, not a million.
const ROUND_GROUPS: usize = 1024;

/// Runs of one group that a round gathers, at most. Each costs the place of its offsets, which for
/// the shortest frames in turns is more than they are themselves; a read of 64-byte ones has fewer.
const ROUND_RUNS: usize = 4096;

/// What a batch in a mailbox costs beside its frames, charged to groups with a bound of their own.
const BATCH_OVERHEAD: usize = 256;

/// Takes the frames of one connection, or one socket, apart. Kept from read to read for its memory.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    parts: Vec<Part>,
    by_group: HashMap<GroupId, usize>,
}

/// The frames of one group in the buffer.
#[derive(Debug)]
struct Part {
    group: GroupId,
    /// Who gets them, if anybody.
    row: Option<Arc<Group>>,
    count: Count,
    frames: Frames,
}

impl Splitter {
    /// Delivers every whole frame at the front of `buffer` and awaits that they were handled. What
    /// is left in the buffer is the beginning of a frame.
    pub(crate) async fn deliver(
        &mut self,
        shared: &Shared,
        from: SocketAddr,
        via: Via,
        buffer: &mut BytesMut,
    ) -> Result<(), Malformed> {
        loop {
            let split = self.split(&shared.groups.snapshot(), buffer, shared.config.max_frame);
            if split.whole > 0 {
                let frames = buffer.split_to(split.whole).freeze();
                self.hand_over(shared, from, via, frames).await;
            }
            if split.done? {
                return Ok(());
            }
        }
    }

    /// Gathers the frames at the front of `buffer` by group, a run of the same group at a time.
    fn split(&mut self, table: &Table, buffer: &[u8], limit: usize) -> Split {
        let (mut whole, mut runs) = (0, 0);
        let mut next = frame::peek(buffer, limit);
        loop {
            let group = match next {
                Ok(Some(head)) => head.group,
                Ok(None) => return Split::new(whole, Ok(true)),
                Err(malformed) => return Split::new(whole, Err(malformed)),
            };
            let one_more = self.parts.len() == ROUND_GROUPS && !self.by_group.contains_key(&group);
            if one_more || runs == ROUND_RUNS {
                return Split::new(whole, Ok(false));
            }
            runs += 1;
            let (start, mut frames) = (whole, 0);
            while let Ok(Some(head)) = next
                && head.group == group
            {
                frames += 1;
                whole += head.len;
                next = frame::peek(&buffer[whole..], limit);
            }
            let part = self.part_of(table, group);
            part.frames.add(start, whole);
            part.count += Count::new(frames, whole - start);
        }
    }

    /// Takes every whole frame at the front of `buffer` as the groups' actors would, those of one
    /// group behind one another.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn take(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
        mut found: impl FnMut(GroupId, Bytes),
    ) -> Result<(), Malformed> {
        let ledger = crate::ledger::Ledger::default();
        loop {
            let split = self.split(&Table::default(), buffer, limit);
            let frames = buffer.split_to(split.whole).freeze();
            self.by_group.clear();
            for part in self.parts.drain(..) {
                let delivery = ledger.receive(part.count);
                let from = ([127, 0, 0, 1], 1).into();
                let own = part.frames.of(frames.clone());
                let inbound = Inbound::new(part.group, from, Via::Tcp, own, delivery);
                inbound.for_each(|payload| found(part.group, payload));
            }
            if split.done? {
                let stats = ledger.stats();
                assert_eq!(stats.received, stats.delivered, "counted by their parts");
                return Ok(());
            }
        }
    }

    /// Splits, and lets go what it found.
    #[cfg(feature = "internals")]
    pub(crate) fn split_for_nobody(&mut self, bytes: &[u8], limit: usize) -> Option<usize> {
        let split = self.split(&Table::default(), bytes, limit);
        self.parts.clear();
        self.by_group.clear();
        split.done.ok().map(|_| split.whole)
    }

    fn part_of(&mut self, table: &Table, group: GroupId) -> &mut Part {
        let parts = &mut self.parts;
        let index = *self.by_group.entry(group).or_insert_with(|| {
            let row = match group {
                GroupId::RESERVED => None,
                _ => table.groups.get(&group).or(table.catch_all.as_ref()),
            };
            parts.push(Part {
                group,
                row: row.cloned(),
                count: Count::ZERO,
                frames: Frames::default(),
            });
            parts.len() - 1
        });
        &mut parts[index]
    }

    /// Puts each part into its actor's mailbox, then waits for those that are to be waited for.
    async fn hand_over(&mut self, shared: &Shared, from: SocketAddr, via: Via, frames: Bytes) {
        self.by_group.clear();
        let mut handled = Vec::new();
        for part in self.parts.drain(..) {
            let mut delivery = shared.ledger.receive(part.count);
            let Some(row) = part.row else {
                delivery.discard(DropReason::NoGroup);
                continue;
            };
            if !row.actor.connected() {
                delivery.discard(DropReason::NodeGone);
                continue;
            }
            match row.overflow {
                GroupOverflow::Wait => {
                    let own = part.frames.of(frames.clone());
                    let inbound = Inbound::new(part.group, from, via, own, delivery);
                    if defect!(PastBound) {
                        row.actor.do_send(inbound);
                        continue;
                    }
                    handled.push(row.actor.send(inbound));
                }
                GroupOverflow::Drop { max_bytes } => {
                    let bytes = part.count.bytes as usize + BATCH_OVERHEAD;
                    let Some(charge) = Charge::take(&row.held, bytes, max_bytes) else {
                        delivery.discard(DropReason::Overflow);
                        continue;
                    };
                    delivery.charge(charge);
                    // A copy of its own, so that a group that lags holds what it is charged for and
                    // not the whole read.
                    let own = part.frames.copied(&frames);
                    let inbound = Inbound::new(part.group, from, via, own, delivery);
                    // Bounded by the charge. A mailbox that closes drops it, which is counted.
                    row.actor.do_send(inbound);
                }
            }
        }
        // What is held by the parts alone can be read into again when they are done with it.
        drop(frames);
        // What became of a batch is its own to count, so the answers say nothing new. A single one
        // is awaited as it is: `join_all` has a price.
        if handled.len() > 1 {
            join_all(handled).await;
        } else if let Some(handled) = handled.pop() {
            let _ = handled.await;
        }
    }
}

/// How far a split came.
struct Split {
    /// Bytes of the frames that were gathered.
    whole: usize,
    /// False when there may be more whole frames behind them.
    done: Result<bool, Malformed>,
}

impl Split {
    fn new(whole: usize, done: Result<bool, Malformed>) -> Self {
        Split { whole, done }
    }
}

#[cfg(test)]
mod tests;
