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
        let mut whole = 0;
        let mut next = frame::peek(buffer, limit);
        loop {
            let group = match next {
                Ok(Some(head)) => head.group,
                Ok(None) => return Split::new(whole, Ok(true)),
                Err(malformed) => return Split::new(whole, Err(malformed)),
            };
            if self.parts.len() == ROUND_GROUPS && !self.by_group.contains_key(&group) {
                return Split::new(whole, Ok(false));
            }
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
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const LIMIT: usize = 64;

    fn wire(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (group, payload) in frames {
            bytes.extend_from_slice(&frame::header(GroupId::new(*group), payload.len()));
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    /// The payloads by group, in the order of the groups' first frames; how far the split came; and
    /// whether that is where the sense ended.
    type Found = (Vec<(u32, Vec<Vec<u8>>)>, usize, bool);

    fn split(bytes: &[u8]) -> Found {
        let mut splitter = Splitter::default();
        let split = splitter.split(&Table::default(), bytes, LIMIT);
        let parts = splitter.parts.into_iter().map(|part| {
            let frames = part.frames.copied(bytes);
            let shared = Shared::new(
                crate::Config::default(),
                ([127, 0, 0, 1], 1).into(),
                crate::fault::Faults::default(),
            );
            let delivery = shared.ledger.receive(part.count);
            let from = ([127, 0, 0, 1], 1).into();
            let inbound = Inbound::new(part.group, from, Via::Tcp, frames, delivery);
            let payloads = inbound.map(|payload| payload.to_vec()).collect();
            (part.group.get(), payloads)
        });
        (parts.collect(), split.whole, split.done.is_err())
    }

    /// The same, as plainly as it can be said.
    fn reference(mut bytes: &[u8]) -> Found {
        let mut parts: Vec<(u32, Vec<Vec<u8>>)> = Vec::new();
        let mut whole = 0;
        while bytes.len() >= 4 {
            let len = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
            if !(8..=LIMIT).contains(&len) {
                return (parts, whole, true);
            }
            if bytes.len() < len {
                break;
            }
            let group = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let payload = bytes[8..len].to_vec();
            match parts.iter_mut().find(|part| part.0 == group) {
                Some(part) => part.1.push(payload),
                None => parts.push((group, vec![payload])),
            }
            bytes = &bytes[len..];
            whole += len;
        }
        (parts, whole, false)
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_as_the_reference_splits_them(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(split(&bytes), reference(&bytes));
        }

        #[test]
        fn frames_cut_anywhere_and_with_anything_behind_are_split_as_the_reference_splits_them(
            frames in vec((0u32..4, vec(any::<u8>(), 0..20)), 0..40),
            cut in any::<prop::sample::Index>(),
            behind in vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = wire(&frames);
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(split(&bytes), reference(&bytes));
        }
    }

    #[test]
    fn a_round_reaches_a_thousand_groups_and_leaves_the_rest_for_the_next() {
        let frames: Vec<_> = (0..2000).map(|group| (group, vec![1])).collect();
        let bytes = wire(&frames);
        let mut splitter = Splitter::default();
        let split = splitter.split(&Table::default(), &bytes, LIMIT);
        assert_eq!(split.whole, ROUND_GROUPS * 9);
        assert!(matches!(split.done, Ok(false)));
    }
}
