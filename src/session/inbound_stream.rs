//! [`InboundStream`]: what one queue of another node sends to this one, over one link after the other.
//!
//! The sender numbers the frames of the queue, so this knows which are missing. Links take turns: a later
//! one waits until the one before it has been read to its end, or has given way. So frames are delivered in
//! the order of their numbers, and what is missing is known exactly. Uses no socket and no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::ids::GroupId;

/// The most groups of a stream of which it is known whether they were told of the last gap. Where an actor
/// serves all groups, a sender can address any number.
const MAX_GROUPS: usize = 16 << 10;

/// The most of all streams together: some 32 MiB. Each stream may always remember [`FEW_GROUPS`], so that
/// others, who may have made up many nodes, cannot take these from it.
const MAX_ALL_GROUPS: usize = 1 << 20;
const FEW_GROUPS: usize = 64;

/// How many groups all streams of a transport remember. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct RememberedGroups(Arc<AtomicUsize>);

/// The frames of one queue of one incarnation of a node.
#[derive(Debug)]
pub(crate) struct InboundStream {
    /// Locked by the link whose turn it is.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Tells the link that asked last that a later one waits for its turn.
    newest: Mutex<Wanted>,
    /// The number of the next frame. Changed only by the link whose turn it is.
    next: Arc<AtomicU64>,
    gaps: Mutex<Gaps>,
    /// The numbers with which links begin that wait for their turn, and how many wait with each.
    waiting: Mutex<BTreeMap<u64, usize>>,
    all: RememberedGroups,
}

/// A link that waits for its turn, until this is dropped.
pub(crate) struct Waiting {
    stream: Arc<InboundStream>,
    next: u64,
}

impl Waiting {
    /// Returns whether another link that waits begins with a lower number.
    pub(crate) fn is_behind_another(&self) -> bool {
        let waiting = self.stream.waiting.lock();
        waiting
            .first_key_value()
            .is_some_and(|(first, _)| *first < self.next)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.stream.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.next) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.next);
            }
        }
    }
}

/// Which frames are missing before the ones that come now.
#[derive(Debug, Default)]
struct Gaps {
    /// Whether a link has begun at all.
    begun: bool,
    /// How many gaps there were.
    number: u64,
    /// Which of them each group was told of last. A group that is not here is told of the first contact.
    told: HashMap<GroupId, u64>,
}

/// Why a batch does not follow the one before it.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Gap {
    /// These are the first frames for this group from this life of the sender. What it sent in former lives,
    /// and whether all of that came, is not known.
    FirstContact,
    /// The sender accepted frames before these that have not come and will not come: they went stale, had to
    /// make room, or were lost with a connection. They may have been for this group or for others;
    /// [`PeerEvent::Gap`](crate::PeerEvent::Gap) says how many they were.
    Lost,
}

/// The highest number that a frame can have. A node that sends ten million frames a second needs thirty years
/// to get there, and the counters that add up what is missing do not overflow.
const MAX_NUMBER: u64 = 1 << 53;

/// The numbers of a link cannot be those of frames.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadNumber {
    #[error("frame {next} was announced, but the frames before {expected} have come already")]
    GoesBack { next: u64, expected: u64 },
    #[error("frame {0} was announced, and no frame has such a number")]
    TooHigh(u64),
}

/// Whether a later link waits for the turn of one.
#[derive(Debug, Clone, Default)]
struct Wanted {
    wanted: Arc<AtomicBool>,
    stirs: CancellationToken,
}

/// A link's turn. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    stream: Arc<InboundStream>,
    wanted: Wanted,
    _turn: OwnedMutexGuard<()>,
}

impl InboundStream {
    pub(crate) fn new(all: RememberedGroups) -> Self {
        InboundStream {
            turn: Arc::default(),
            newest: Mutex::default(),
            next: Arc::default(),
            gaps: Mutex::default(),
            waiting: Mutex::default(),
            all,
        }
    }

    /// Notes that a link waits for its turn whose first frame has this number.
    pub(crate) fn waiting(self: Arc<Self>, next: u64) -> Waiting {
        *self.waiting.lock().entry(next).or_default() += 1;
        Waiting { stream: self, next }
    }

    /// Waits until it is this link's turn. Links get it in the order in which they ask.
    /// `stirs` is cancelled when a later one asks.
    pub(crate) async fn turn(self: Arc<Self>, stirs: CancellationToken) -> Turn {
        let wanted = Wanted {
            wanted: Arc::default(),
            stirs,
        };
        let mut asking = Box::pin(self.turn.clone().lock_owned());
        let (free, former) = {
            let mut newest = self.newest.lock();
            // The first poll gives it its place in line. Polled under this lock, so that the order is the
            // same here and there.
            let free = asking.as_mut().now_or_never();
            (free, std::mem::replace(&mut *newest, wanted.clone()))
        };
        former.wanted.store(true, Relaxed);
        former.stirs.cancel();
        let turn = match free {
            Some(turn) => turn,
            None => asking.await,
        };
        Turn {
            _turn: turn,
            stream: self,
            wanted,
        }
    }
}

impl Turn {
    /// Returns whether a later link waits for its turn. A link that begins with frames which have come already is no later
    /// one, but one that was replaced before it was looked at.
    pub(crate) fn is_wanted(&self) -> bool {
        if !self.wanted.wanted.load(Relaxed) {
            return false;
        }
        let next = self.stream.next.load(Relaxed);
        let waiting = self.stream.waiting.lock();
        waiting
            .last_key_value()
            .is_some_and(|(last, _)| *last >= next)
    }

    /// Returns whether frames before this number have not come. If no link has begun, they may have been for
    /// a former life of this node.
    pub(crate) fn would_miss(&self, next: u64) -> bool {
        next > self.stream.next.load(Relaxed)
    }

    /// Notes that the next frame has this number. Returns how many are missing: `None` if no link has begun
    /// before, so that nobody knows.
    pub(crate) fn announce(&self, next: u64) -> Result<Option<u64>, BadNumber> {
        if next > MAX_NUMBER {
            return Err(BadNumber::TooHigh(next));
        }
        let mut gaps = self.stream.gaps.lock();
        let expected = match gaps.begun {
            true => self.stream.next.load(Relaxed),
            false => next,
        };
        if next < expected {
            return Err(BadNumber::GoesBack { next, expected });
        }
        let first = !std::mem::replace(&mut gaps.begun, true);
        let lost = next - expected;
        if lost > 0 {
            gaps.number += 1;
        }
        self.stream.next.store(next, Relaxed);
        Ok((!first).then_some(lost))
    }

    /// Returns what must grow by one with each frame that is received.
    pub(crate) fn received(&self) -> Arc<AtomicU64> {
        self.stream.next.clone()
    }

    /// Returns what a batch for this group must be told, once.
    pub(crate) fn gap_for(&self, group: GroupId) -> Option<Gap> {
        let mut gaps = self.stream.gaps.lock();
        let (number, known) = (gaps.number, gaps.told.len());
        if let Some(told) = gaps.told.get_mut(&group) {
            let told = std::mem::replace(told, number);
            return (told < number).then_some(Gap::Lost);
        }
        let RememberedGroups(all) = &self.stream.all;
        let all_full = known >= FEW_GROUPS && all.load(Relaxed) >= MAX_ALL_GROUPS;
        if all_full || known >= MAX_GROUPS {
            // Some groups are told once more than needed then.
            gaps.told = HashMap::new();
            all.fetch_sub(known, Relaxed);
        }
        all.fetch_add(1, Relaxed);
        gaps.told.insert(group, number);
        Some(Gap::FirstContact)
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        let RememberedGroups(all) = &self.all;
        all.fetch_sub(self.gaps.get_mut().told.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Arc<InboundStream> {
        Arc::new(InboundStream::new(RememberedGroups::default()))
    }

    fn turn(stream: &Arc<InboundStream>) -> Option<Turn> {
        stream.clone().turn(CancellationToken::new()).now_or_never()
    }

    #[test]
    fn what_is_missing_is_known_exactly_from_the_second_announcement_on() {
        let stream = new();
        let first = turn(&stream).expect("free");
        assert_eq!(first.announce(7), Ok(None), "first contact");
        first.received().fetch_add(3, Relaxed);
        assert_eq!(first.announce(12), Ok(Some(2)), "10 and 11");
        drop(first);
        let second = turn(&stream).expect("free");
        assert_eq!(second.announce(12), Ok(Some(0)));
        let back = BadNumber::GoesBack {
            next: 11,
            expected: 12,
        };
        assert_eq!(second.announce(11), Err(back));
        let high = second.announce(MAX_NUMBER + 1);
        assert_eq!(high, Err(BadNumber::TooHigh(MAX_NUMBER + 1)));
    }

    #[test]
    fn a_link_is_not_wanted_by_one_that_has_gone_or_brings_what_has_come() {
        let stream = new();
        let first = turn(&stream).expect("free");
        first.announce(7).expect("the first");
        let waiting = stream.clone().waiting(7);
        assert!(turn(&stream).is_none());
        assert!(first.is_wanted());
        first.received().fetch_add(1, Relaxed);
        assert!(!first.is_wanted(), "frame 7 has come");
        let later = stream.clone().waiting(8);
        assert!(first.is_wanted());
        drop(later);
        assert!(!first.is_wanted());
        drop(waiting);
    }

    #[tokio::test]
    async fn links_take_turns_in_the_order_of_asking_and_each_learns_that_another_waits() {
        let stream = new();
        let first = turn(&stream).expect("free");
        let waiting = stream.clone().waiting(0);
        let stirs = first.wanted.stirs.clone();
        assert!(!first.is_wanted() && !stirs.is_cancelled());
        let mut second = Box::pin(stream.clone().turn(CancellationToken::new()));
        assert!((&mut second).now_or_never().is_none());
        assert!(first.is_wanted() && stirs.is_cancelled());
        let mut third = Box::pin(stream.clone().turn(CancellationToken::new()));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        let second = second.await;
        assert!(second.is_wanted(), "the third waits");
        drop(second);
        let third = third.await;
        drop(waiting);
        assert!(!third.is_wanted());
    }

    #[test]
    fn each_group_is_told_once_of_the_first_contact_and_of_each_gap() {
        let (one, two) = (GroupId::new(1), GroupId::new(2));
        let turn = turn(&new()).expect("free");
        turn.announce(0).expect("the first");
        assert_eq!(turn.gap_for(one), Some(Gap::FirstContact));
        assert_eq!(turn.gap_for(one), None);
        turn.announce(5).expect("later");
        assert_eq!(turn.gap_for(one), Some(Gap::Lost));
        assert_eq!(turn.gap_for(one), None);
        assert_eq!(turn.gap_for(two), Some(Gap::FirstContact), "not of more");
        assert_eq!(turn.gap_for(two), None);
        turn.announce(5).expect("nothing is missing");
        assert_eq!(turn.gap_for(one), None);
    }

    #[test]
    fn the_groups_that_are_remembered_are_bounded() {
        let turn = turn(&new()).expect("free");
        for group in 0..3 * MAX_GROUPS as u32 {
            assert_eq!(turn.gap_for(GroupId::new(group)), Some(Gap::FirstContact));
            assert!(turn.stream.gaps.lock().told.len() <= MAX_GROUPS);
        }
    }

    #[test]
    fn all_streams_together_remember_a_bounded_number_and_each_may_remember_a_few() {
        let all = RememberedGroups::default();
        // What other streams remember.
        all.0.store(MAX_ALL_GROUPS, Relaxed);
        let turn = turn(&Arc::new(InboundStream::new(all.clone()))).expect("free");
        for round in 0..2 {
            for group in 0..FEW_GROUPS as u32 {
                let told = turn.gap_for(GroupId::new(group));
                assert_eq!(told.is_some(), round == 0);
            }
        }
        for group in 0..100 * FEW_GROUPS as u32 {
            turn.gap_for(GroupId::new(group));
            assert!(all.0.load(Relaxed) <= MAX_ALL_GROUPS + FEW_GROUPS);
        }
        drop(turn);
        assert_eq!(all.0.load(Relaxed), MAX_ALL_GROUPS);
    }
}
