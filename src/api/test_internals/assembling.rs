//! Messages in parts, without a connection.

use std::time::Duration;

use crate::{
    GroupId,
    net::time::{self, Instant},
    receive::messages::{Incomplete, Messages, Place},
    wire::{frame::HEADER, part::PartHead},
};

/// A part of a message.
#[derive(Debug, Copy, Clone)]
pub struct Part<'b> {
    /// The number of the message.
    pub message: u64,
    /// Whom it is for.
    pub group: GroupId,
    /// Bytes of the whole message.
    pub total: u64,
    /// How many of them came before.
    pub offset: u64,
    /// Bytes of the message.
    pub bytes: &'b [u8],
}

/// The messages of which parts have come on one connection.
#[derive(Debug)]
pub struct Assembling {
    messages: Messages,
    beginning: Instant,
}

/// A message that was dropped: its group, and how many bytes of it had come.
type Dropped = (GroupId, u64);

impl Assembling {
    /// Takes messages of at most `max` bytes together, which may wait for a part for so many milliseconds.
    pub fn new(max: usize, patience: u64) -> Self {
        Assembling {
            // So slow that the rate does not matter.
            messages: Messages::new(max, Duration::from_millis(patience), 1),
            beginning: time::now(),
        }
    }

    /// Takes a part at the time `now`, in milliseconds. Returns the message if it is whole, and what was dropped.
    pub fn take(&mut self, part: Part<'_>, now: u64) -> (Option<Vec<u8>>, Vec<Dropped>) {
        let head = PartHead {
            message: part.message,
            group: part.group,
            total: part.total,
            offset: part.offset,
        };
        let now = self.at(now);
        let mut dropped: Vec<_> = self
            .messages
            .make_room(&head)
            .into_iter()
            .map(told)
            .collect();
        match self.messages.place(&head, part.bytes, now) {
            Place::Message(index) => {
                let needs = self.messages.needs(index, part.bytes.len());
                let whole = self.messages.append(index, part.bytes, now);
                assert!(whole.is_some() || self.messages.held() == needs);
                (whole.map(|whole| whole[HEADER..].to_vec()), dropped)
            }
            Place::Nowhere(refused) => {
                dropped.extend(refused.map(told));
                (None, dropped)
            }
        }
    }

    /// Drops a message.
    pub fn cancel(&mut self, message: u64) -> Option<Dropped> {
        self.messages.cancel(message).map(told)
    }

    /// Drops the messages that have waited too long at the time `now`.
    pub fn expire(&mut self, now: u64) -> Vec<Dropped> {
        let now = self.at(now);
        self.messages.expire(now).into_iter().map(told).collect()
    }

    /// Returns how many bytes are allocated.
    pub fn held(&self) -> usize {
        self.messages.held()
    }

    fn at(&self, now: u64) -> Instant {
        self.beginning + Duration::from_millis(now)
    }
}

fn told(dropped: Incomplete) -> Dropped {
    (dropped.group, dropped.count.bytes - HEADER as u64)
}
