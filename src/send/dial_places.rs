//! The places for dials: how many are made at the same time, and which go first.
//!
//! A dial to a peer that is there holds its place for one round trip. A dial to a peer that does not
//! answer would hold it until it times out, and a few hundred such peers would use up all places. So
//! they are ranked, by how many dials of the same peer in a row got no answer:
//!
//! - A lower rank goes first. Within rank 0, whose peers are new or answered their last dial, the newest
//!   goes first; within the others, the oldest.
//! - A dial that has had no answer for [`UNANSWERED`] ends as soon as one of a lower rank waits. For one
//!   of its own rank it ends later, four times as late with each rank, so that a peer that is far away
//!   gets enough time after a few tries. If nobody waits, it lasts until it times out.
//!
//! So a new peer waits for [`UNANSWERED`] at most, unless as many peers as there are places come after it
//! in that time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::net::time::{sleep, timeout};

/// From then on a dial counts as not answered. Longer than a round trip within a continent, and short
/// enough that a new peer is dialled without a noticeable wait.
pub(super) const UNANSWERED: Duration = Duration::from_millis(50);

/// The highest rank. A dial of this rank has 0.8 s for an answer while others of its rank wait: more than
/// any round trip on Earth takes, and little enough that among 3,000 peers that do not answer, one that
/// comes back is dialled within 40 s.
const MAX_RANK: u32 = 2;

/// The places for the dials of one transport.
#[derive(Debug)]
pub(super) struct DialPlaces(Mutex<State>);

/// The place of one dial, or its place in line.
#[derive(Debug)]
pub(super) struct Place<'p> {
    places: &'p DialPlaces,
    turn: Turn,
}

#[derive(Debug)]
struct State {
    free: usize,
    next_number: u64,
    /// Those who wait for a place. Each is told when it has one.
    waiting: BTreeMap<Turn, oneshot::Sender<()>>,
    /// The dials that have had no answer for so long that they give way, the first of them first.
    overdue: BTreeMap<u64, Overdue>,
    /// The dials that have been told to end and still have their place.
    leaving: BTreeSet<Turn>,
}

/// When it is whose turn: the lowest goes first. No two are equal.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd)]
struct Turn {
    rank: u32,
    order: i64,
}

#[derive(Debug)]
struct Overdue {
    turn: Turn,
    /// It gives way to dials of this rank and of lower ones.
    up_to: u32,
    told: oneshot::Sender<()>,
}

impl DialPlaces {
    pub(super) fn new(number: usize) -> Self {
        DialPlaces(Mutex::new(State {
            free: number,
            next_number: 0,
            waiting: BTreeMap::new(),
            overdue: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }))
    }

    /// Waits for a place, given how many dials of this peer in a row have had no answer.
    pub(super) async fn wait(&self, unanswered: u32) -> Place<'_> {
        let (turn, granted) = self.0.lock().join(unanswered.min(MAX_RANK));
        let place = Place { places: self, turn };
        if let Some(granted) = granted {
            // The sender is dropped only after it has sent.
            let _ = granted.await;
        }
        place
    }
}

impl Place<'_> {
    /// Waits until the dial, which begins now, has had no answer for so long that it must end and leave
    /// its place to one that waits.
    pub(super) async fn until_needed(&self) {
        let rank = self.turn.rank;
        sleep(UNANSWERED).await;
        if let Some(lower) = rank.checked_sub(1) {
            let whole = UNANSWERED * 4u32.pow(rank);
            let needed = self.until_needed_up_to(lower);
            if timeout(whole - UNANSWERED, needed).await.is_ok() {
                return;
            }
        }
        self.until_needed_up_to(rank).await;
    }

    async fn until_needed_up_to(&self, rank: u32) {
        let told = self.places.0.lock().give_way(self.turn, rank);
        if let Some(told) = told {
            // The sender is dropped only after it has sent.
            let _ = told.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.0.lock().leave(self.turn);
    }
}

// What wakes the tasks that wait is tokio's, so it may run under the lock.
impl State {
    /// Takes a free place, or else a place in line: then the receiver is told when there is a place.
    fn join(&mut self, rank: u32) -> (Turn, Option<oneshot::Receiver<()>>) {
        let number = self.next_number as i64;
        let order = if rank == 0 { -number } else { number };
        let turn = Turn { rank, order };
        self.next_number += 1;
        if self.free > 0 {
            self.free -= 1;
            return (turn, None);
        }
        let (sender, granted) = oneshot::channel();
        self.waiting.insert(turn, sender);
        self.make_way();
        (turn, Some(granted))
    }

    /// Notes that a dial gives way to those up to this rank. Returns what tells it to, or `None` if it
    /// has been told already.
    fn give_way(&mut self, turn: Turn, up_to: u32) -> Option<oneshot::Receiver<()>> {
        if self.leaving.contains(&turn) {
            return None;
        }
        let (told, receiver) = oneshot::channel();
        self.overdue.retain(|_, overdue| overdue.turn != turn);
        self.overdue
            .insert(self.next_number, Overdue { turn, up_to, told });
        self.next_number += 1;
        self.make_way();
        Some(receiver)
    }

    /// Tells dials to end: for each dial that waits, the first that gives way to it.
    fn make_way(&mut self) {
        // The first in line get the places of those that are leaving already.
        while let Some(next) = self.waiting.keys().nth(self.leaving.len()) {
            let gives_way = |(_, overdue): &(&u64, &Overdue)| next.rank <= overdue.up_to;
            let found = self.overdue.iter().find(gives_way);
            let Some(number) = found.map(|(number, _)| *number) else {
                return;
            };
            if let Some(overdue) = self.overdue.remove(&number) {
                self.leaving.insert(overdue.turn);
                // If it is not there to be told, it has ended and is about to leave.
                let _ = overdue.told.send(());
            }
        }
    }

    /// Gives up a place in line, or hands a place on to the first in line.
    fn leave(&mut self, turn: Turn) {
        if self.waiting.remove(&turn).is_some() {
            return;
        }
        self.leaving.remove(&turn);
        self.overdue.retain(|_, overdue| overdue.turn != turn);
        match self.waiting.pop_first() {
            // If it is gone by now, it leaves the place in its turn.
            Some((_, granted)) => drop(granted.send(())),
            None => self.free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;
    use crate::net::time;

    const MS: Duration = Duration::from_millis(1);

    fn free(places: &DialPlaces) -> usize {
        places.0.lock().free
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_of_a_dial_without_an_answer_and_nobody_else_loses_one() {
        let places = DialPlaces::new(2);
        let dials = [places.wait(0).await, places.wait(0).await];
        let mut needed = dials.iter().map(|dial| Box::pin(dial.until_needed()));
        let (mut one, mut other) = (needed.next().unwrap(), needed.next().unwrap());
        assert!((&mut one).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        // Nobody waits, so both go on.
        sleep(10 * UNANSWERED).await;
        assert!((&mut one).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        let mut waits = pin!(places.wait(0));
        assert!((&mut waits).now_or_never().is_none());
        assert!((&mut one).now_or_never().is_some(), "the longest one");
        assert!((&mut other).now_or_never().is_none());
        drop((one, other));
        let [first, second] = dials;
        drop(first);
        let third = (&mut waits).now_or_never().expect("a place");
        drop((second, third));
        assert_eq!(free(&places), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_gives_way_to_a_lower_rank_first_and_never_to_a_higher_one() {
        for (rank, waiting, after) in [(0, 0, 50), (1, 0, 50), (1, 1, 200), (2, 9, 800)] {
            let places = DialPlaces::new(1);
            let dial = places.wait(rank).await;
            let began = time::now();
            let mut waits = pin!(places.wait(waiting));
            assert!((&mut waits).now_or_never().is_none());
            dial.until_needed().await;
            let took = began.elapsed();
            assert!(took >= after * MS && took < (after + 2) * MS, "{took:?}");
        }
        let places = DialPlaces::new(1);
        let dial = places.wait(0).await;
        let mut waits = pin!(places.wait(1));
        assert!((&mut waits).now_or_never().is_none());
        let never = timeout(Duration::from_secs(3600), dial.until_needed()).await;
        assert!(never.is_err());
    }

    #[tokio::test]
    async fn the_newest_of_rank_0_goes_first_and_then_the_oldest_of_the_others() {
        let places = DialPlaces::new(1);
        let mut holder = places.wait(0).await;
        let mut waiting: Vec<_> = [2, 1, 1, 0, 0]
            .map(|rank| Box::pin(places.wait(rank)))
            .into();
        for waits in &mut waiting {
            assert!(waits.now_or_never().is_none());
        }
        for expected in [4, 3, 1, 1, 0] {
            drop(holder);
            let granted = waiting.iter_mut().enumerate();
            let mut granted =
                granted.filter_map(|(index, waits)| Some((index, waits.now_or_never()?)));
            let (index, place) = granted.next().expect("a place");
            assert_eq!(index, expected);
            drop(granted);
            drop(waiting.remove(index));
            holder = place;
        }
    }

    #[tokio::test]
    async fn a_place_goes_on_when_whoever_waits_for_it_gives_up_before_or_after_it_is_granted() {
        let places = DialPlaces::new(1);
        let holder = places.wait(0).await;
        let mut before = Box::pin(places.wait(0));
        let mut after = Box::pin(places.wait(0));
        assert!((&mut before).now_or_never().is_none());
        assert!((&mut after).now_or_never().is_none());
        drop(before);
        drop(holder);
        assert_eq!(free(&places), 0, "granted");
        drop(after);
        assert_eq!(free(&places), 1);
    }
}
