//! One replica of one group: Multi-Paxos as a plain state machine.
//!
//! No actor, no socket and no clock in here: a message and the time go in, messages come out, and
//! the log grows. A group decides a sequence of slots. One replica leads: it has won phase 1 once,
//! for all slots from the end of its log on, and from then on every value costs one round of
//! phase 2, with many slots under way at a time. The length of the leader's log rides on what it
//! sends anyway, which is how the others learn what was chosen.
//!
//! Any message may be lost. What matters is sent again by [`Replica::tick`]; safety depends on
//! nothing that arrives or fails to. Nothing is written to a disk: a replica that stops is gone,
//! and one that restarted with empty hands would break its promises. `promised`, `votes` and `log`
//! are what would have to survive.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::message::{Ballot, Message, NodeId, REPLICAS, Value, Vote};

/// A leader that has said nothing for this long says that it lives. Under load none of these is
/// ever sent, because an `Accept` says so too: a hundred busy groups cost no heartbeat at all.
const BEAT: Duration = Duration::from_millis(100);

/// How long a follower waits for a word of its leader before it stands itself: between once and
/// twice this, drawn anew each time, so that two rarely stand together. Four lost beats.
const PATIENCE: Duration = Duration::from_millis(400);

/// Whoever has heard its leader within this time promises nothing to others, so that a replica
/// which was cut off cannot depose a leader that everyone else is content with.
const CONTENT: Duration = Duration::from_millis(250);

/// A leader repeats what was not accepted in this time, and a learner what was not answered.
const REPEAT: Duration = Duration::from_millis(200);

/// The most a leader repeats at a time. The oldest are what the log waits for.
const REPEAT_SLOTS: usize = 64;

/// Slots a leader has under way at most. It takes no more proposals then; clients ask again.
pub(crate) const WINDOW: usize = 4096;

/// How far beyond its log an acceptor votes. More than a window, since its log may lag behind its
/// leader's; bounded, since a replica which was away would otherwise fill up with votes for slots
/// it will learn in order anyway.
const HORIZON: u64 = 2 * WINDOW as u64;

/// Bytes of values in one `Promise` or `Learn`. What is left is asked for again, so a big log
/// travels as a dialogue and never blocks a link.
const ANSWER_BYTES: usize = 256 * 1024;

/// What a value costs in an answer on top of its own bytes, about.
const ENTRY_BYTES: usize = 16;

pub(crate) struct Replica {
    me: NodeId,
    rng: Rng,
    /// The chosen values; a slot is an index. A value in here never changes.
    log: Vec<Value>,
    /// As acceptor: no ballot below this one is served any more.
    promised: Ballot,
    /// As acceptor: what was accepted beyond the log. The first entry is for slot `log.len()`.
    votes: VecDeque<Option<Vote>>,
    role: Role,
    /// The highest round seen anywhere, so that the next own ballot is above it.
    round: u32,
    /// As learner: the longest log heard of. A hint what to ask for, nothing more.
    longest: u64,
    /// As learner: when the question was asked that has no answer yet.
    asked: Option<Instant>,
}

enum Role {
    Follower {
        leader: Option<NodeId>,
        heard: Instant,
        patience: Duration,
    },
    Candidate {
        ballot: Ballot,
        stood: Instant,
        patience: Duration,
        promises: Quorum,
        /// The highest vote the promises speak of, slot by slot.
        votes: BTreeMap<u64, Vote>,
    },
    /// Leads with the ballot in `promised`, and has a vote of its own for every flight.
    Leader {
        /// Slots under way. The first is for slot `log.len()`.
        flights: VecDeque<Flight>,
        spoke: Instant,
    },
}

struct Flight {
    accepted: Quorum,
    sent: Instant,
}

impl Replica {
    /// An `eager` replica stands at once, the others only if that comes to nothing.
    pub(crate) fn new(me: NodeId, eager: bool, seed: u64, now: Instant) -> Self {
        let mut replica = Self {
            me,
            rng: Rng::with_seed(seed),
            log: Vec::new(),
            promised: Ballot::ZERO,
            votes: VecDeque::new(),
            role: Role::Follower {
                leader: None,
                heard: now,
                patience: Duration::ZERO,
            },
            round: 0,
            longest: 0,
            asked: None,
        };
        if !eager {
            replica.follow(None, now);
        }
        replica
    }

    /// Returns the chosen values so far, one per slot.
    pub(crate) fn log(&self) -> &[Value] {
        &self.log
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Returns how many slots this replica is leading to a decision.
    pub(crate) fn under_way(&self) -> usize {
        match &self.role {
            Role::Leader { flights, .. } => flights.len(),
            _ => 0,
        }
    }

    /// Takes in one message.
    pub(crate) fn on(&mut self, from: NodeId, message: Message, now: Instant, out: &mut Outbox) {
        match message {
            Message::Propose { value } => self.on_propose(from, value, now, out),
            Message::Prepare { ballot, first } => self.on_prepare(from, ballot, first, now, out),
            Message::Promise {
                ballot,
                votes,
                complete,
            } => self.on_promise(from, ballot, votes, complete, now, out),
            Message::Accept {
                ballot,
                commit,
                slot,
                value,
            } => {
                if self.obeys(from, ballot, now, out) {
                    self.vote(from, slot, Vote { ballot, value }, out);
                    self.learn_from(from, ballot, commit, now, out);
                }
            }
            Message::Beat { ballot, commit } => {
                if self.obeys(from, ballot, now, out) {
                    self.learn_from(from, ballot, commit, now, out);
                }
            }
            Message::Accepted {
                ballot,
                first,
                last,
            } => self.on_accepted(from, ballot, first, last),
            Message::Refuse { ballot, commit } => self.on_refuse(from, ballot, commit, now, out),
            Message::Fetch { first } => self.on_fetch(from, first, out),
            Message::Learn { first, values } => self.on_learn(from, first, values, now, out),
            // For clients.
            Message::Redirect { .. } | Message::Decided { .. } => {}
        }
    }

    /// Does what is due: to be called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) {
        match &mut self.role {
            Role::Follower {
                heard: since,
                patience,
                ..
            }
            | Role::Candidate {
                stood: since,
                patience,
                ..
            } => {
                if now.duration_since(*since) >= *patience {
                    self.stand(now, out);
                }
            }
            Role::Leader { flights, spoke } => {
                let commit = self.log.len() as u64;
                let ballot = self.promised;
                let oldest = flights.iter_mut().zip(&self.votes).zip(commit..);
                for ((flight, vote), slot) in oldest.take(REPEAT_SLOTS) {
                    let Some(vote) = vote else { continue };
                    if now.duration_since(flight.sent) < REPEAT {
                        continue;
                    }
                    flight.sent = now;
                    for node in NodeId::replicas().filter(|&node| !flight.accepted.has(node)) {
                        let value = vote.value.clone();
                        let accept = Message::Accept {
                            ballot,
                            commit,
                            slot,
                            value,
                        };
                        out.push(To::One(node), accept);
                    }
                }
                if now.duration_since(*spoke) >= BEAT {
                    *spoke = now;
                    out.push(To::Others, Message::Beat { ballot, commit });
                }
            }
        }
    }

    // Proposer.

    /// Asks to lead. A candidate promises itself nothing before the others have: cut off from them
    /// it may stand for hours, and comes back as the follower it was.
    fn stand(&mut self, now: Instant, out: &mut Outbox) {
        // No ballot may be used twice. Four billion elections are not to be expected.
        let Some(round) = self.round.checked_add(1) else {
            return;
        };
        self.round = round;
        let ballot = Ballot {
            round,
            node: self.me,
        };
        self.role = Role::Candidate {
            ballot,
            stood: now,
            patience: self.patience(),
            promises: Quorum::default(),
            votes: BTreeMap::new(),
        };
        let first = self.log.len() as u64;
        out.push(To::Others, Message::Prepare { ballot, first });
    }

    fn on_promise(
        &mut self,
        from: NodeId,
        promised: Ballot,
        heard: Vec<(u64, Vote)>,
        complete: bool,
        now: Instant,
        out: &mut Outbox,
    ) {
        let Role::Candidate {
            ballot,
            promises,
            votes,
            ..
        } = &mut self.role
        else {
            return;
        };
        let ballot = *ballot;
        if promised != ballot {
            return;
        }
        let last = heard.last().map(|&(slot, _)| slot);
        for (slot, vote) in heard {
            keep_highest(votes, slot, vote);
        }
        if !complete {
            if let Some(last) = last {
                let first = last.saturating_add(1);
                out.push(To::One(from), Message::Prepare { ballot, first });
            }
            return;
        }
        promises.add(from);
        if promises.with(self.me).is_majority() {
            let votes = std::mem::take(votes);
            self.lead(ballot, votes, now, out);
        }
    }

    /// Starts to lead by finishing what others may have begun: a slot somebody voted for gets the
    /// value of its highest vote, since that may be chosen already; one between them that nobody
    /// voted for gets nothing, so that the log has no hole.
    fn lead(
        &mut self,
        ballot: Ballot,
        mut votes: BTreeMap<u64, Vote>,
        now: Instant,
        out: &mut Outbox,
    ) {
        self.promised = ballot;
        let first = self.log.len() as u64;
        for (slot, vote) in (first..).zip(self.votes.drain(..)) {
            if let Some(vote) = vote {
                keep_highest(&mut votes, slot, vote);
            }
        }
        self.role = Role::Leader {
            flights: VecDeque::new(),
            spoke: now,
        };
        let commit = first;
        out.push(To::Others, Message::Beat { ballot, commit });
        // An honest vote lies below the horizon; bytes from a wire may say anything.
        let end = votes
            .range(first..first + HORIZON)
            .next_back()
            .map_or(first, |(&slot, _)| slot + 1);
        for slot in first..end {
            let vote = votes.remove(&slot);
            self.put(
                vote.map_or_else(Value::nothing, |vote| vote.value),
                now,
                out,
            );
        }
    }

    fn on_propose(&mut self, from: NodeId, value: Value, now: Instant, out: &mut Outbox) {
        match &self.role {
            Role::Leader { flights, .. } if flights.len() < WINDOW => self.put(value, now, out),
            // Lost, as on the way here. The client asks again.
            Role::Leader { .. } => {}
            _ => {
                let leader = self.content_with(now);
                out.push(To::One(from), Message::Redirect { leader });
            }
        }
    }

    /// Sends a value on its way in the next free slot. Only for a leader.
    fn put(&mut self, value: Value, now: Instant, out: &mut Outbox) {
        let Role::Leader { flights, spoke } = &mut self.role else {
            return;
        };
        let ballot = self.promised;
        let commit = self.log.len() as u64;
        let slot = commit + flights.len() as u64;
        flights.push_back(Flight {
            accepted: Quorum::default().with(self.me),
            sent: now,
        });
        *spoke = now;
        self.votes.push_back(Some(Vote {
            ballot,
            value: value.clone(),
        }));
        let accept = Message::Accept {
            ballot,
            commit,
            slot,
            value,
        };
        out.push(To::Others, accept);
    }

    fn on_accepted(&mut self, from: NodeId, ballot: Ballot, first: u64, last: u64) {
        let Role::Leader { flights, .. } = &mut self.role else {
            return;
        };
        if ballot != self.promised {
            return;
        }
        // Slots below the log are decided, without this vote: a third replica is often late.
        let base = self.log.len() as u64;
        let ahead = |slot: u64| slot.saturating_sub(base).min(flights.len() as u64) as usize;
        let (begin, end) = (ahead(first), ahead(last.saturating_add(1)));
        for flight in flights.range_mut(begin.min(end)..end) {
            flight.accepted.add(from);
        }
        while let Some(flight) = flights.front()
            && flight.accepted.is_majority()
        {
            flights.pop_front();
            let vote = self.votes.pop_front().flatten();
            let vote = vote.expect("a leader has voted for all it has under way");
            self.log.push(vote.value);
        }
    }

    /// A refusal is no harm to safety whatever it says, so any of them may end a candidacy or a
    /// lead that has been overtaken.
    fn on_refuse(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        commit: u64,
        now: Instant,
        out: &mut Outbox,
    ) {
        self.round = self.round.max(ballot.round);
        let mine = match &self.role {
            Role::Follower { .. } => None,
            Role::Candidate { ballot, .. } => Some(*ballot),
            Role::Leader { .. } => Some(self.promised),
        };
        if mine.is_some_and(|mine| ballot > mine) {
            self.follow(None, now);
        }
        if !self.leads() {
            self.catch_up(from, commit, now, out);
        }
    }

    // Acceptor.

    /// Promises `ballot` to a candidate, unless there is a reason not to. Refusing is always safe.
    fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first: u64,
        now: Instant,
        out: &mut Outbox,
    ) {
        let taken = match &self.role {
            Role::Follower { .. } => self.content_with(now).is_some(),
            Role::Candidate { ballot: mine, .. } => ballot < *mine,
            Role::Leader { .. } => true,
        };
        // Slots below the log are no longer open: the candidate can learn them, and is better off
        // asking for them than proposing.
        let base = self.log.len() as u64;
        if taken || ballot < self.promised || first < base {
            self.refuse(from, out);
            return;
        }
        self.promise(ballot);
        self.follow(None, now);

        let mut votes = Vec::new();
        let mut room = ANSWER_BYTES;
        let mut complete = true;
        let asked = (base..).zip(&self.votes).filter(|&(slot, _)| slot >= first);
        for (slot, vote) in asked {
            let Some(vote) = vote else { continue };
            if room == 0 {
                complete = false;
                break;
            }
            room = room.saturating_sub(vote.value.len() + ENTRY_BYTES);
            votes.push((slot, vote.clone()));
        }
        let promise = Message::Promise {
            ballot,
            votes,
            complete,
        };
        out.push(To::One(from), promise);
    }

    /// Returns whether `from` leads with a ballot that is to be served, and takes note if so.
    fn obeys(&mut self, from: NodeId, ballot: Ballot, now: Instant, out: &mut Outbox) -> bool {
        if ballot < self.promised {
            self.refuse(from, out);
            return false;
        }
        self.promise(ballot);
        match &mut self.role {
            Role::Follower {
                leader: Some(leader),
                heard,
                ..
            } if *leader == from => *heard = now,
            _ => self.follow(Some(from), now),
        }
        true
    }

    fn vote(&mut self, from: NodeId, slot: u64, vote: Vote, out: &mut Outbox) {
        let ballot = vote.ballot;
        match slot.checked_sub(self.log.len() as u64) {
            Some(ahead) if ahead < HORIZON => {
                let ahead = ahead as usize;
                if self.votes.len() <= ahead {
                    self.votes.resize(ahead + 1, None);
                }
                self.votes[ahead] = Some(vote);
            }
            // A slot that is closed: voting for what was chosen adds nothing, so it can be said
            // to a leader who does not know it is chosen; voting for anything else is over.
            None if self.log[slot as usize] == vote.value => {}
            _ => return,
        }
        let accepted = Message::Accepted {
            ballot,
            first: slot,
            last: slot,
        };
        out.push(To::One(from), accepted);
    }

    fn refuse(&self, to: NodeId, out: &mut Outbox) {
        let ballot = match &self.role {
            Role::Candidate { ballot, .. } => self.promised.max(*ballot),
            _ => self.promised,
        };
        let commit = self.log.len() as u64;
        out.push(To::One(to), Message::Refuse { ballot, commit });
    }

    fn promise(&mut self, ballot: Ballot) {
        self.promised = ballot;
        self.round = self.round.max(ballot.round);
    }

    // Learner.

    /// Learns that the first `commit` slots are chosen, from the leader of `ballot`. What it
    /// proposed for those slots is then what was chosen, and what was voted for under this very
    /// ballot is what it proposed. Any other vote proves nothing.
    fn learn_from(
        &mut self,
        leader: NodeId,
        ballot: Ballot,
        commit: u64,
        now: Instant,
        out: &mut Outbox,
    ) {
        while (self.log.len() as u64) < commit
            && let Some(Some(vote)) = self.votes.front()
            && vote.ballot == ballot
        {
            self.log.push(vote.value.clone());
            self.votes.pop_front();
        }
        self.catch_up(leader, commit, now, out);
    }

    /// Asks `from` for what is missing of `commit` slots, if anything is.
    fn catch_up(&mut self, from: NodeId, commit: u64, now: Instant, out: &mut Outbox) {
        self.longest = self.longest.max(commit);
        let first = self.log.len() as u64;
        let waits = |asked| now.duration_since(asked) < REPEAT;
        if first >= self.longest || self.asked.is_some_and(waits) {
            return;
        }
        self.asked = Some(now);
        out.push(To::One(from), Message::Fetch { first });
    }

    fn on_fetch(&self, from: NodeId, first: u64, out: &mut Outbox) {
        let mut room = ANSWER_BYTES;
        let values: Vec<_> = self
            .log
            .iter()
            .skip(first.min(self.log.len() as u64) as usize)
            .take_while(|value| {
                let fits = room > 0;
                room = room.saturating_sub(value.len() + ENTRY_BYTES);
                fits
            })
            .cloned()
            .collect();
        if !values.is_empty() {
            out.push(To::One(from), Message::Learn { first, values });
        }
    }

    /// A leader learns from nobody: all below its log it knew before it led, or has counted the
    /// votes for. That is what its `commit` says to those who voted under its ballot.
    fn on_learn(
        &mut self,
        from: NodeId,
        first: u64,
        values: Vec<Value>,
        now: Instant,
        out: &mut Outbox,
    ) {
        let Some(known) = (self.log.len() as u64).checked_sub(first) else {
            return;
        };
        if self.leads() {
            return;
        }
        for value in values.into_iter().skip(known as usize) {
            self.log.push(value);
            self.votes.pop_front();
        }
        self.asked = None;
        self.catch_up(from, self.longest, now, out);
    }

    fn follow(&mut self, leader: Option<NodeId>, now: Instant) {
        self.role = Role::Follower {
            leader,
            heard: now,
            patience: self.patience(),
        };
    }

    /// Returns the leader, if there is one that has been heard lately.
    fn content_with(&self, now: Instant) -> Option<NodeId> {
        match &self.role {
            Role::Follower { leader, heard, .. } if now.duration_since(*heard) < CONTENT => *leader,
            _ => None,
        }
    }

    fn patience(&mut self) -> Duration {
        PATIENCE.mul_f64(1.0 + self.rng.f64())
    }
}

fn keep_highest(votes: &mut BTreeMap<u64, Vote>, slot: u64, vote: Vote) {
    let highest = votes.entry(slot).or_insert_with(|| vote.clone());
    if highest.ballot < vote.ballot {
        *highest = vote;
    }
}

/// Which replicas have agreed to something.
#[derive(Copy, Clone, Default)]
struct Quorum(u8);

impl Quorum {
    fn add(&mut self, node: NodeId) {
        self.0 |= 1 << node.index();
    }

    fn with(mut self, node: NodeId) -> Self {
        self.add(node);
        self
    }

    fn has(self, node: NodeId) -> bool {
        self.0 & 1 << node.index() != 0
    }

    fn is_majority(self) -> bool {
        self.0.count_ones() as usize > REPLICAS / 2
    }
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum To {
    One(NodeId),
    /// All replicas but the sender.
    Others,
}

/// What a replica wants sent, in order.
#[derive(Default)]
pub(crate) struct Outbox(Vec<(To, Message)>);

impl Outbox {
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (To, Message)> {
        self.0.drain(..)
    }

    /// Adds a message, or adds it to the last one: votes for slots in a row are one message, and
    /// so are answers that say the same. A batch of frames in makes few frames out.
    fn push(&mut self, to: To, message: Message) {
        match (self.0.last_mut(), &message) {
            (
                Some((
                    last_to,
                    Message::Accepted {
                        ballot: last_ballot,
                        last,
                        ..
                    },
                )),
                Message::Accepted {
                    ballot,
                    first,
                    last: new_last,
                },
            ) if *last_to == to && last_ballot == ballot && last.checked_add(1) == Some(*first) => {
                *last = *new_last;
            }
            (Some((last_to, last)), Message::Redirect { .. } | Message::Refuse { .. })
                if *last_to == to && *last == message => {}
            _ => self.0.push((to, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;

    const STEP: Duration = Duration::from_millis(20);

    /// Three replicas and the messages between them, in a world without threads and clocks.
    struct World {
        replicas: Vec<Replica>,
        away: [bool; REPLICAS],
        post: Vec<Letter>,
        now: Instant,
        rng: Rng,
        /// Of a hundred messages, so many are lost, and as many come late.
        chaos: u32,
        proposed: u32,
    }

    struct Letter {
        from: NodeId,
        to: NodeId,
        message: Message,
        due: Instant,
    }

    impl World {
        fn new(seed: u64, chaos: u32) -> Self {
            let now = Instant::now();
            let replicas = NodeId::replicas()
                .map(|node| Replica::new(node, node.index() == 0, seed ^ node.index() as u64, now))
                .collect();
            Self {
                replicas,
                away: [false; REPLICAS],
                post: Vec::new(),
                now,
                rng: Rng::with_seed(seed),
                chaos,
                proposed: 0,
            }
        }

        fn propose(&mut self, at: usize) -> Value {
            self.proposed += 1;
            let request = Request {
                session: 0,
                number: self.proposed,
            };
            let value = Value::new(request, 32);
            let propose = Message::Propose {
                value: value.clone(),
            };
            self.hand(at, NodeId::CLIENTS, propose);
            value
        }

        fn hand(&mut self, at: usize, from: NodeId, message: Message) {
            let mut out = Outbox::default();
            self.replicas[at].on(from, message, self.now, &mut out);
            self.collect(at, &mut out);
        }

        fn collect(&mut self, at: usize, out: &mut Outbox) {
            let me = NodeId::replica(at);
            for (to, message) in out.drain() {
                for node in NodeId::replicas().filter(|&node| match to {
                    To::One(one) => node == one,
                    To::Others => node != me,
                }) {
                    let late = self.rng.u32(..100) < self.chaos;
                    let delay = if late { self.rng.u32(..100) } else { 0 };
                    self.post.push(Letter {
                        from: me,
                        to: node,
                        message: message.clone(),
                        due: self.now + delay * STEP,
                    });
                }
            }
        }

        fn deliver_all_due(&mut self) {
            let now = self.now;
            let due = |letter: &Letter| letter.due <= now;
            while let Some(next) = self.post.iter().position(due) {
                let Letter {
                    from, to, message, ..
                } = self.post.remove(next);
                let lost = self.rng.u32(..100) < self.chaos;
                if !lost && !self.away[from.index()] && !self.away[to.index()] {
                    self.hand(to.index(), from, message);
                }
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += STEP;
                for at in 0..REPLICAS {
                    let mut out = Outbox::default();
                    self.replicas[at].tick(self.now, &mut out);
                    self.collect(at, &mut out);
                }
                self.deliver_all_due();
            }
        }

        fn leader(&self) -> Option<usize> {
            let ballot = |&at: &usize| self.replicas[at].promised;
            let leads = |&at: &usize| self.replicas[at].leads();
            (0..REPLICAS).filter(leads).max_by_key(ballot)
        }

        fn assert_no_log_contradicts_another(&self) {
            for pair in [(0, 1), (1, 2), (0, 2)] {
                let (one, other) = (&self.replicas[pair.0].log, &self.replicas[pair.1].log);
                let common = one.len().min(other.len());
                assert!(one[..common] == other[..common]);
            }
        }
    }

    #[test]
    fn a_vote_for_a_dead_leader_is_honoured_by_the_next() {
        let mut world = World::new(1, 0);
        world.pass(STEP);
        let value = world.propose(0);
        // One follower votes, nobody hears of it, and the leader is gone.
        world.post.retain(|letter| letter.to.index() == 1);
        let accept = world.post.remove(0);
        world.hand(1, accept.from, accept.message);
        world.post.clear();
        world.away[0] = true;
        world.pass(4 * PATIENCE);

        let leader = world.leader();
        assert!(matches!(leader, Some(1 | 2)));
        assert!(world.replicas[1].log == [value.clone()]);
        assert!(world.replicas[2].log == [value]);
    }

    #[test]
    fn who_was_away_catches_up_and_deposes_nobody() {
        let mut world = World::new(2, 0);
        world.pass(STEP);
        world.away[2] = true;
        // Enough that one answer cannot hold it, and long enough to lose all patience.
        for _ in 0..40 {
            for _ in 0..500 {
                world.propose(0);
            }
            world.pass(5 * STEP);
        }
        assert_eq!(world.replicas[0].log.len(), 20_000);
        assert!(world.replicas[2].log.is_empty());
        let ballot = world.replicas[0].promised;

        world.away[2] = false;
        world.pass(2 * PATIENCE);
        assert_eq!(world.replicas[2].log.len(), 20_000);
        assert!(world.replicas[0].leads() && world.replicas[0].promised == ballot);
        world.assert_no_log_contradicts_another();
    }

    #[test]
    fn no_log_ever_contradicts_another() {
        for seed in 0..200 {
            let mut world = World::new(seed, 10 + (seed % 30) as u32);
            for _ in 0..60 {
                let at = world.rng.usize(..REPLICAS);
                world.away[at] = world.rng.u32(..100) < 30;
                for _ in 0..world.rng.u32(..20) {
                    let at = world.rng.usize(..REPLICAS);
                    world.propose(at);
                }
                let time = world.rng.u32(1..30) * STEP;
                world.pass(time);
                world.assert_no_log_contradicts_another();
            }
            // Peace returns: all come to the same log, and it can grow.
            world.chaos = 0;
            world.away = [false; REPLICAS];
            world.pass(10 * PATIENCE);
            let leader = world.leader().expect("a leader in times of peace");
            let value = world.propose(leader);
            world.pass(PATIENCE);
            world.assert_no_log_contradicts_another();
            for replica in &world.replicas {
                assert!(replica.log.last() == Some(&value), "seed {seed}");
            }
        }
    }
}
