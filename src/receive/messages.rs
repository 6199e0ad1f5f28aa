//! [`Messages`]: the messages of which parts have come on one connection, until they are whole.
//!
//! Owns which parts belong together, and how much memory they take: never more than the bytes that came and a
//! quarter, or 4 KiB, and never more than the message. Uses no socket and no clock. Which memory there is for them
//! is decided by
//! `budget`.

use std::{mem, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    ids::GroupId,
    net::time::Instant,
    wire::{
        call,
        count::Count,
        frame::{self, HEADER},
        part::PartHead,
    },
};

/// The most messages of which parts may have come on one connection.
const MAX_MESSAGES: usize = 16;

/// The least memory that is added at a time.
const MIN_STEP: usize = 4 << 10;

/// The messages that are not whole.
#[derive(Debug)]
pub(crate) struct Messages {
    /// The longest that is taken.
    max: usize,
    /// How long a message may wait for its next part.
    patience: Duration,
    /// The slowest rate at which one may come, in bytes per second.
    floor: usize,
    open: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    number: u64,
    group: GroupId,
    total: usize,
    /// The header of a frame, and what came.
    bytes: Vec<u8>,
    /// When its first part came, and its last one.
    begun: Instant,
    touched: Instant,
}

/// A message that is dropped, with what came of it.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Incomplete {
    pub(crate) group: GroupId,
    pub(crate) count: Count,
}

/// Where the bytes of a part go.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// To the message at this position.
    Message(usize),
    /// Nowhere: the message was dropped before, or cannot be taken.
    Nowhere(Option<Incomplete>),
}

impl Messages {
    pub(crate) fn new(max: usize, patience: Duration, floor: usize) -> Self {
        Messages {
            max,
            patience,
            floor,
            open: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns how many bytes are allocated.
    pub(crate) fn held(&self) -> usize {
        let held = self.open.iter().map(|message| message.bytes.capacity());
        held.sum()
    }

    /// Returns how long all are together when they are whole.
    pub(crate) fn total(&self) -> usize {
        self.open.iter().map(|message| message.total).sum()
    }

    /// Drops messages for one that begins with this part, those first that have waited longest for a part: all
    /// together may be as long as one may be. A sender that gave a message up may not have been able to say so.
    pub(crate) fn make_room(&mut self, part: &PartHead) -> Vec<Incomplete> {
        let mut dropped = Vec::new();
        let is_known = self.open.iter().any(|it| it.number == part.message);
        if is_known || part.offset > 0 || part.total > self.max as u64 {
            return dropped;
        }
        let longest = self.max - part.total as usize;
        while self.open.len() >= MAX_MESSAGES || self.total() > longest {
            let open = self.open.iter().enumerate();
            let Some((oldest, _)) = open.min_by_key(|(_, message)| message.touched) else {
                break;
            };
            dropped.push(self.remove(oldest));
        }
        dropped
    }

    /// Finds the place of a part with these bytes. A message whose part does not follow the one before is dropped.
    pub(crate) fn place(&mut self, part: &PartHead, bytes: &[u8], now: Instant) -> Place {
        let len = bytes.len();
        let known = self.open.iter().position(|it| it.number == part.message);
        if let Some(index) = known {
            let message = &self.open[index];
            if message.continues_with(part, len) {
                return Place::Message(index);
            }
            return Place::Nowhere(Some(self.remove(index)));
        }
        if part.offset > 0 {
            // Dropped before, or its first parts came on another link.
            return Place::Nowhere(None);
        }
        let total = usize::try_from(part.total).ok();
        let total = total.filter(|&total| total <= self.max && (1..=total).contains(&len));
        match total {
            // Of the reserved group only what is about a call may come.
            Some(total) if part.group != GroupId::RESERVED || call::begins(bytes) => {
                self.open.push(Message {
                    number: part.message,
                    group: part.group,
                    total,
                    bytes: Vec::new(),
                    begun: now,
                    touched: now,
                });
                Place::Message(self.open.len() - 1)
            }
            _ => Place::Nowhere(Some(Incomplete {
                group: part.group,
                count: Count::one(HEADER + len),
            })),
        }
    }

    /// Returns how many bytes will be allocated once this message has grown by `len` bytes.
    pub(crate) fn needs(&self, index: usize, len: usize) -> usize {
        let message = &self.open[index];
        self.held() - message.bytes.capacity() + message.capacity_for(len)
    }

    /// Appends what came. Returns the message, in the form of a frame, if it is whole.
    pub(crate) fn append(&mut self, index: usize, bytes: &[u8], now: Instant) -> Option<BytesMut> {
        let message = &mut self.open[index];
        let capacity = message.capacity_for(bytes.len());
        let missing = capacity - message.bytes.len();
        message.bytes.reserve_exact(missing);
        if message.bytes.is_empty() {
            let header = frame::header(message.group, message.total);
            message.bytes.extend_from_slice(&header);
        }
        message.bytes.extend_from_slice(bytes);
        message.touched = now;
        if message.bytes.len() < HEADER + message.total {
            return None;
        }
        let whole = self.open.swap_remove(index);
        Some(BytesMut::from(Bytes::from(whole.bytes)))
    }

    /// Drops the message of this number, if parts of it have come.
    pub(crate) fn cancel(&mut self, number: u64) -> Option<Incomplete> {
        let index = self.open.iter().position(|it| it.number == number)?;
        Some(self.remove(index))
    }

    /// Drops the message at this position.
    pub(crate) fn remove(&mut self, index: usize) -> Incomplete {
        self.open.swap_remove(index).incomplete()
    }

    /// Drops all but the one at this position, which is the first then.
    pub(crate) fn keep_only(&mut self, index: usize) -> Vec<Incomplete> {
        let kept = self.open.swap_remove(index);
        let dropped = self.clear();
        self.open.push(kept);
        dropped
    }

    /// Drops all.
    pub(crate) fn clear(&mut self) -> Vec<Incomplete> {
        let all = mem::take(&mut self.open).into_iter();
        all.map(Message::incomplete).collect()
    }

    /// Returns when the first message has waited too long, or takes too long in all.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|message| self.due_of(message)).min()
    }

    fn due_of(&self, message: &Message) -> Instant {
        let time = Duration::from_secs((message.total / self.floor) as u64);
        (message.touched + self.patience).min(message.begun + self.patience + time)
    }

    /// Drops the messages that are due.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Incomplete> {
        let (late, open) = mem::take(&mut self.open)
            .into_iter()
            .partition(|message| self.due_of(message) <= now);
        self.open = open;
        let late: Vec<Message> = late;
        late.into_iter().map(Message::incomplete).collect()
    }

    /// Gives the messages their full time again, because the sender is not at fault for what has passed.
    pub(crate) fn restart(&mut self, now: Instant) {
        for message in &mut self.open {
            (message.begun, message.touched) = (now, now);
        }
    }
}

impl Message {
    fn received(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER)
    }

    fn continues_with(&self, part: &PartHead, len: usize) -> bool {
        part.group == self.group
            && part.total == self.total as u64
            && part.offset == self.received() as u64
            && self.received() + len <= self.total
            && len > 0
    }

    /// Returns the capacity once `len` more bytes have come. The memory follows what came, and not what was
    /// announced.
    fn capacity_for(&self, len: usize) -> usize {
        let filled = self.bytes.len().max(HEADER) + len;
        match filled <= self.bytes.capacity() {
            true => self.bytes.capacity(),
            false => (filled + (filled / 4).max(MIN_STEP)).min(HEADER + self.total),
        }
    }

    fn incomplete(self) -> Incomplete {
        Incomplete {
            group: self.group,
            count: Count::one(HEADER + self.received()),
        }
    }
}

#[cfg(test)]
mod tests;
