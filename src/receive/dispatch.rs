//! From a buffer of frames to the mailboxes of their groups' actors.
//!
//! Owns the split of one read by group, the delivery of the parts, and the count of what is left when
//! nobody goes on with it. A read's frames are looked at once, here: lengths are checked, frames of the
//! same group are gathered, and what nobody serves is counted, so that the group's actor gets one
//! message for all of its frames. The frames of a single group stay one run of bytes; where groups
//! alternate, each part keeps the offsets of its frames.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
};

use actix::dev::RecipientRequest;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;

use crate::{
    ids::GroupId,
    observe::receive_accounts::Charge,
    observe::stats::DropReason,
    receive::groups::{Group, GroupOverflow, Table},
    receive::inbound::{Frames, Inbound, Run, Via},
    runtime::shared::Shared,
    wire::count::Count,
    wire::frame::{self, Malformed},
};

/// Groups that one round of delivery reaches, at most: who sends a frame to each of a million groups
/// gets a thousand messages made at a time, not a million.
const ROUND_GROUPS: usize = 1024;

/// Runs that a round gathers, at most. Each costs the place of its offsets, which for the shortest
/// frames in turns is more than they are themselves: so many take less than 64 KiB.
const ROUND_RUNS: usize = 3700;

/// Room for runs is made for so many at first, and for all there may be when those are not enough.
const FEW_RUNS: usize = 64;

/// What a batch in a mailbox costs beside its frames, charged to groups with a bound of their own.
const BATCH_OVERHEAD: usize = 256;

/// Takes the frames of one connection, or one socket, apart. Kept from read to read for its memory.
#[derive(Default)]
pub(crate) struct Splitter {
    parts: Vec<Part>,
    by_group: HashMap<GroupId, usize, Spread>,
    /// The runs of all parts but the first of each, in the order of their bytes.
    runs: Vec<Run>,
    /// Those of the round before, to have their memory back when nobody needs them any more.
    lent: Option<Arc<Vec<Run>>>,
    /// What was handed over last, until it is known to have been handled.
    handed: Vec<Pin<Box<RecipientRequest<Inbound>>>>,
}

/// The frames of one group in the buffer.
#[derive(Debug)]
struct Part {
    group: GroupId,
    /// Who gets them, if anybody.
    row: Option<Arc<Group>>,
    count: Count,
    /// Its first run.
    first: Run,
    /// Its last, among the others; none if the first is the last.
    last: Option<u32>,
}

impl fmt::Debug for Splitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splitter").finish_non_exhaustive()
    }
}

impl Splitter {
    /// Delivers every whole frame at the front of `buffer`, once those before them have been handled.
    /// What is left in the buffer is the beginning of a frame.
    pub(crate) async fn deliver(
        &mut self,
        shared: &Shared,
        from: SocketAddr,
        via: Via,
        buffer: &mut BytesMut,
    ) -> Result<(), Malformed> {
        let unread = Unread { shared, buffer };
        loop {
            self.settle().await;
            let buffer = &mut *unread.buffer;
            let split = self.split(&shared.groups.snapshot(), buffer, shared.config.max_frame);
            if split.whole > 0 {
                let frames = buffer.split_to(split.whole).freeze();
                self.hand_over(shared, from, via, &frames);
            }
            if split.done? {
                return Ok(());
            }
        }
    }

    /// Gives back the memory that is kept for speed. What was delivered is waited for all the same.
    pub(crate) fn trim(&mut self) {
        *self = Splitter {
            handed: std::mem::take(&mut self.handed),
            ..Splitter::default()
        };
    }

    /// Waits until what was delivered has been handled. Asked for as late as can be, by when it often
    /// has been: then nobody needs to be woken for it.
    pub(crate) async fn settle(&mut self) {
        while let Some(handled) = self.handed.last_mut() {
            // What became of a batch is its own to count, so the answer says nothing new.
            let _ = handled.await;
            self.handed.pop();
        }
    }

    /// Whether all that was delivered is known to have been handled.
    pub(crate) fn is_settled(&self) -> bool {
        self.handed.is_empty()
    }

    /// Gathers the frames at the front of `buffer` by group, a run of the same group at a time.
    fn split(&mut self, table: &Table, buffer: &[u8], limit: usize) -> Split {
        if let Some(Ok(runs)) = self.lent.take().map(Arc::try_unwrap) {
            self.runs = runs;
            self.runs.clear();
        }
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
            let run = Run::new(start, whole);
            self.add(table, group, run, Count::new(frames, whole - start));
        }
    }

    /// Takes every whole frame at the front of `buffer` as the groups' actors would, those of one
    /// group behind one another.
    #[cfg(any(test, feature = "test-internals"))]
    pub(crate) fn take(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
        mut found: impl FnMut(GroupId, Bytes),
    ) -> Result<(), Malformed> {
        let accounts = crate::observe::receive_accounts::ReceiveAccounts::default();
        loop {
            let split = self.split(&Table::default(), buffer, limit);
            let frames = buffer.split_to(split.whole).freeze();
            let runs = self.share_runs();
            for part in self.parts.drain(..) {
                let delivery = accounts.receive(part.count);
                let from = ([127, 0, 0, 1], 1).into();
                let own = Frames::new(frames.clone(), part.first, runs.as_ref());
                let inbound = Inbound::new(part.group, from, Via::Tcp, own, delivery);
                inbound.for_each(|payload| found(part.group, payload));
            }
            if split.done? {
                let stats = accounts.stats();
                assert_eq!(stats.received, stats.delivered, "counted by their parts");
                return Ok(());
            }
        }
    }

    /// Splits, and lets go what it found.
    #[cfg(feature = "test-internals")]
    pub(crate) fn split_for_nobody(&mut self, bytes: &mut BytesMut, limit: usize) -> bool {
        loop {
            let split = self.split(&Table::default(), bytes, limit);
            let frames = bytes.split_to(split.whole).freeze();
            let runs = self.share_runs();
            for part in self.parts.drain(..) {
                let own = Frames::new(frames.clone(), part.first, runs.as_ref());
                std::hint::black_box(own);
            }
            match split.done {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// Notes a run of a group's frames.
    fn add(&mut self, table: &Table, group: GroupId, run: Run, count: Count) {
        let new = self.parts.len();
        let index = *self.by_group.entry(group).or_insert(new);
        if index == new {
            let row = match group {
                GroupId::RESERVED => None,
                _ => table.groups.get(&group).or(table.catch_all.as_ref()),
            };
            self.parts.push(Part {
                group,
                row: row.cloned(),
                count,
                first: run,
                last: None,
            });
            return;
        }
        let part = &mut self.parts[index];
        part.count += count;
        let next = self.runs.len();
        if next == self.runs.capacity() {
            let room = match next {
                0 => FEW_RUNS,
                _ => ROUND_RUNS - next,
            };
            self.runs.reserve_exact(room);
        }
        self.runs.push(run);
        let next = next as u32;
        match part.last.replace(next) {
            None => part.first.set_next(next),
            Some(last) => self.runs[last as usize].set_next(next),
        }
    }

    /// Ends a round: gives the runs that were noted in it to all who have a part in them. None if
    /// each of them has but one.
    fn share_runs(&mut self) -> Option<Arc<Vec<Run>>> {
        self.by_group.clear();
        if self.runs.is_empty() {
            return None;
        }
        let runs = Arc::new(std::mem::take(&mut self.runs));
        self.lent = Some(runs.clone());
        Some(runs)
    }

    /// Puts each part into its actor's mailbox.
    fn hand_over(&mut self, shared: &Shared, from: SocketAddr, via: Via, frames: &Bytes) {
        let runs = self.share_runs();
        for part in self.parts.drain(..) {
            let mut delivery = shared.accounts.receive(part.count);
            let Some(row) = part.row else {
                delivery.discard(DropReason::NoGroup);
                continue;
            };
            if !row.actor.connected() {
                delivery.discard(DropReason::ActorGone);
                continue;
            }
            match row.overflow {
                GroupOverflow::Wait => {
                    let own = Frames::new(frames.clone(), part.first, runs.as_ref());
                    let inbound = Inbound::new(part.group, from, via, own, delivery);
                    let mut handled = Box::pin(row.actor.send(inbound));
                    // A mailbox that is full takes it when it is asked for the first time.
                    if handled.as_mut().now_or_never().is_none() {
                        self.handed.push(handled);
                    }
                }
                GroupOverflow::Drop { max_bytes } => {
                    let own = Frames::new(frames.clone(), part.first, runs.as_ref());
                    let mut fitting = Count::ZERO;
                    let charge = Charge::take(&row.held, max_bytes, |room| {
                        fitting = own.fitting(part.count, room.saturating_sub(BATCH_OVERHEAD));
                        match fitting.frames {
                            0 => 0,
                            _ => fitting.bytes as usize + BATCH_OVERHEAD,
                        }
                    });
                    let mut beyond = part.count;
                    beyond -= fitting;
                    if !beyond.is_zero() {
                        delivery.split_off(beyond).discard(DropReason::Overflow);
                    }
                    if fitting.is_zero() {
                        continue;
                    }
                    delivery.charge(charge);
                    // A copy of its own, so that a group that lags holds what it is charged for and
                    // not the whole read.
                    let own = own.copied(fitting.bytes as usize);
                    let inbound = Inbound::new(part.group, from, via, own, delivery);
                    // Bounded by the charge. A mailbox that closes drops it, which is counted.
                    row.actor.do_send(inbound);
                }
            }
        }
    }
}

/// Spreads group indexes over a table, by a factor that is drawn for each table: a tenth of the cost
/// of the standard library's, and still nobody can choose groups that fall together.
#[derive(Clone)]
struct Spread(u64);

impl Default for Spread {
    fn default() -> Self {
        Spread(fastrand::u64(..) | 1)
    }
}

impl BuildHasher for Spread {
    type Hasher = Product;

    fn build_hasher(&self) -> Product {
        Product(self.0)
    }
}

struct Product(u64);

impl Hasher for Product {
    fn write_u32(&mut self, index: u32) {
        // The upper half depends on all bits of the index.
        self.0 = self.0.wrapping_mul(u64::from(index) + 1).rotate_left(32);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a group index is one word");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is not delivered yet of what was read. Whole frames that are here when nobody goes on with
/// their delivery, because its connection or the transport ended, are counted as what they are: taken
/// by nobody.
struct Unread<'b> {
    shared: &'b Shared,
    buffer: &'b mut BytesMut,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        let whole = frame::whole(self.buffer, self.shared.config.max_frame);
        if !whole.is_zero() {
            drop(self.shared.accounts.receive(whole));
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
