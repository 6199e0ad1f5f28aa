//! Any parts in any order, and the same parts in a simple table of messages. What is whole, what is dropped, and how
//! much of it had come, must be the same; and no more memory may be taken than a quarter beyond what came.

use std::collections::BTreeMap;

use actix_transport::{
    GroupId,
    test_internals::{Assembling, Part},
};

use super::script::Script;

const MAX: usize = 2_000;
const PATIENCE: u64 = 100;
const MAX_MESSAGES: usize = 16;

/// What may be allocated for a message beside what came.
const SLACK: usize = (4 << 10) + 8;

pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let (mut parts, mut table) = (Assembling::new(MAX, PATIENCE), Table::default());
    let mut now = 0;
    while let Some(step) = script.step() {
        let message = u64::from(step) / 8 % 20;
        match step % 8 {
            0..5 => {
                let (shape, len) = (script.number(), script.number() * 4);
                let part = table.part(message, shape, len);
                let bytes = vec![now as u8; len];
                // So that no two have waited equally long.
                now += 1;
                let taken = parts.take(part.with(&bytes), now);
                assert_eq!(taken, table.take(part, &bytes, now));
            }
            5 => now += script.number() as u64 / 4,
            6 => assert_eq!(parts.cancel(message), table.cancel(message)),
            _ => {
                let mut expired = parts.expire(now);
                expired.sort_unstable();
                assert_eq!(expired, table.expire(now));
            }
        }
        let most: usize = table.open.values().map(|open| open.most()).sum();
        assert!(parts.held() <= most, "{} of {most}", parts.held());
    }
}

/// The messages that are not whole, by their numbers.
#[derive(Default)]
struct Table {
    open: BTreeMap<u64, Open>,
}

struct Open {
    group: u32,
    total: u64,
    bytes: Vec<u8>,
    touched: u64,
}

/// A part without its bytes.
#[derive(Copy, Clone)]
struct Head {
    message: u64,
    group: u32,
    total: u64,
    offset: u64,
}

impl Head {
    fn with(self, bytes: &[u8]) -> Part<'_> {
        Part {
            message: self.message,
            group: GroupId::new(self.group),
            total: self.total,
            offset: self.offset,
            bytes,
        }
    }
}

type Dropped = Option<(GroupId, u64)>;

impl Table {
    /// Returns a part that mostly follows the one before.
    fn part(&self, message: u64, shape: usize, len: usize) -> Head {
        let totals = [len, len + 1, 2 * len, 700, MAX, MAX + 1];
        let mut head = match self.open.get(&message) {
            Some(open) => Head {
                message,
                group: open.group,
                total: open.total,
                offset: open.bytes.len() as u64,
            },
            None => Head {
                message,
                group: shape as u32 % 3,
                total: totals[shape % 6] as u64,
                offset: 0,
            },
        };
        match shape {
            240 => head.offset += 1,
            241 => head.offset = 0,
            242 => head.total += 1,
            243 => head.total = 1 << 63,
            244 => head.group += 1,
            245 => head.group = u32::MAX,
            246 => head.offset = u64::MAX,
            _ => {}
        }
        head
    }

    fn take(
        &mut self,
        head: Head,
        bytes: &[u8],
        now: u64,
    ) -> (Option<Vec<u8>>, Vec<(GroupId, u64)>) {
        let Some(open) = self.open.get(&head.message) else {
            if head.offset > 0 {
                return (None, Vec::new());
            }
            let mut dropped = self.make_room(head.total);
            let fits =
                head.total <= MAX as u64 && bytes.len() as u64 <= head.total && !bytes.is_empty();
            if !fits || head.group == u32::MAX {
                dropped.push((GroupId::new(head.group), bytes.len() as u64));
                return (None, dropped);
            }
            let open = Open {
                group: head.group,
                total: head.total,
                bytes: Vec::new(),
                touched: now,
            };
            self.open.insert(head.message, open);
            return (self.append(head.message, bytes, now), dropped);
        };
        let follows = open.bytes.len() as u64 == head.offset
            && open.total == head.total
            && open.group == head.group
            && !bytes.is_empty()
            && head.offset + bytes.len() as u64 <= open.total;
        match follows {
            true => (self.append(head.message, bytes, now), Vec::new()),
            false => (None, self.cancel(head.message).into_iter().collect()),
        }
    }

    /// Drops those that have waited longest for a part. No two have waited equally long, because the clock goes
    /// on with each part.
    fn make_room(&mut self, total: u64) -> Vec<(GroupId, u64)> {
        let mut dropped = Vec::new();
        if total > MAX as u64 {
            return dropped;
        }
        let sum = |open: &BTreeMap<u64, Open>| open.values().map(|open| open.total).sum::<u64>();
        while self.open.len() >= MAX_MESSAGES || sum(&self.open) + total > MAX as u64 {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.touched);
            let Some((&oldest, _)) = oldest else { break };
            dropped.extend(self.cancel(oldest));
        }
        dropped
    }

    fn append(&mut self, message: u64, bytes: &[u8], now: u64) -> Option<Vec<u8>> {
        let open = self.open.get_mut(&message).expect("it is there");
        open.bytes.extend_from_slice(bytes);
        open.touched = now;
        if (open.bytes.len() as u64) < open.total {
            return None;
        }
        let whole = self.open.remove(&message).expect("it is there");
        Some(whole.bytes)
    }

    fn cancel(&mut self, message: u64) -> Dropped {
        let open = self.open.remove(&message)?;
        Some((GroupId::new(open.group), open.bytes.len() as u64))
    }

    fn expire(&mut self, now: u64) -> Vec<(GroupId, u64)> {
        let late = |open: &Open| now - open.touched >= PATIENCE;
        let late: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| late(open))
            .map(|(&number, _)| number)
            .collect();
        let mut expired: Vec<_> = late
            .into_iter()
            .filter_map(|number| self.cancel(number))
            .collect();
        expired.sort_unstable();
        expired
    }
}

impl Open {
    fn most(&self) -> usize {
        self.bytes.len() + self.bytes.len() / 4 + SLACK
    }
}
