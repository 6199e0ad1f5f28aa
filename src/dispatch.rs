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
    inbound::{Charge, Delivery, Frames, Inbound, Via},
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
    /// The run of frames that the part begins with, from here
    first: usize,
    /// to here.
    end: usize,
    /// Where its frames behind that run are, others' between them.
    offsets: Vec<u32>,
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

    /// Gathers the frames at the front of `buffer` by group.
    fn split(&mut self, table: &Table, buffer: &[u8], limit: usize) -> Split {
        let mut whole = 0;
        let mut last = usize::MAX;
        let done = loop {
            let head = match frame::peek(&buffer[whole..], limit) {
                Ok(Some(head)) => head,
                Ok(None) => break Ok(true),
                Err(malformed) => break Err(malformed),
            };
            // Most frames are of the same group as the one before.
            if self
                .parts
                .get(last)
                .is_none_or(|part| part.group != head.group)
            {
                if self.parts.len() == ROUND_GROUPS && !self.by_group.contains_key(&head.group) {
                    break Ok(false);
                }
                last = self.part_of(table, head.group, whole);
            }
            self.parts[last].add(whole, head.len);
            whole += head.len;
        };
        Split { whole, done }
    }

    fn part_of(&mut self, table: &Table, group: GroupId, first: usize) -> usize {
        *self.by_group.entry(group).or_insert_with(|| {
            let row = match group {
                GroupId::RESERVED => None,
                _ => table.groups.get(&group).or(table.catch_all.as_ref()),
            };
            self.parts.push(Part {
                group,
                row: row.cloned(),
                count: Count::ZERO,
                first,
                end: first,
                offsets: Vec::new(),
            });
            self.parts.len() - 1
        })
    }

    /// Puts each part into its actor's mailbox, then waits for those that are to be waited for.
    async fn hand_over(&mut self, shared: &Shared, from: SocketAddr, via: Via, frames: Bytes) {
        self.by_group.clear();
        let mut handled = Vec::new();
        for part in self.parts.drain(..) {
            let mut delivery = shared.ledger.receive(part.count);
            let Some(row) = part.row.clone() else {
                delivery.discard(DropReason::NoGroup);
                continue;
            };
            if !row.actor.connected() {
                delivery.discard(DropReason::NodeGone);
                continue;
            }
            match row.overflow {
                GroupOverflow::Wait => {
                    let inbound = part.inbound(from, via, frames.clone(), delivery);
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
                    let own = part.copy(&frames);
                    let inbound = Inbound::new(part.group, from, via, Frames::Run(own), delivery);
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

impl Part {
    #[inline]
    fn add(&mut self, at: usize, len: usize) {
        self.count += Count::one(len);
        if at == self.end && self.offsets.is_empty() {
            self.end += len;
            return;
        }
        self.offsets.push(to_offset(at));
    }

    /// Makes the message; `frames` is the buffer the part was found in.
    fn inbound(self, from: SocketAddr, via: Via, frames: Bytes, delivery: Delivery) -> Inbound {
        let frames = match self.offsets.is_empty() {
            true => Frames::Run(frames.slice(self.first..self.end)),
            false => {
                let mut offsets: Vec<u32> = self.offsets(&frames).collect();
                offsets.reverse();
                Frames::Among(frames, offsets)
            }
        };
        Inbound::new(self.group, from, via, frames, delivery)
    }

    /// The frames alone, behind one another.
    fn copy(&self, frames: &[u8]) -> Bytes {
        if self.offsets.is_empty() {
            return Bytes::copy_from_slice(&frames[self.first..self.end]);
        }
        let mut own = Vec::with_capacity(self.count.bytes as usize);
        for at in self.offsets(frames) {
            let at = at as usize;
            own.extend_from_slice(&frames[at..at + frame::len_at(frames, at)]);
        }
        own.into()
    }

    /// Where each frame is, those of the run included.
    fn offsets(&self, frames: &[u8]) -> impl Iterator<Item = u32> {
        let mut at = self.first;
        let run = std::iter::from_fn(move || {
            let here = at;
            (here < self.end).then(|| {
                at += frame::len_at(frames, here);
                to_offset(here)
            })
        });
        run.chain(self.offsets.iter().copied())
    }
}

/// Buffers are shorter than 2³²: two frames at most, and the frame limit is 2³⁰.
fn to_offset(at: usize) -> u32 {
    u32::try_from(at).expect("buffers are shorter than 4 GiB")
}
