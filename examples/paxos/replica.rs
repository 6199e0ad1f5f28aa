//! One replica of one group: Multi-Paxos as a plain state machine.
//!
//! There is no actor, socket or clock in here. The caller passes in a message and the time; the
//! replica returns messages to send and extends the log. The log is a sequence of instances. One
//! replica leads: it runs phase 1 once, for all instances after the end of its log. After that each
//! value costs one round of phase 2, and many instances are in progress at a time. The leader puts
//! the length of its log into its `Accept` and `Heartbeat` messages, and the other replicas learn
//! from this which instances are chosen.
//!
//! Any message may be lost. [`Replica::tick`] repeats the messages that matter; safety does not
//! depend on delivery. Nothing is written to a disk, so a replica that stops must never come back:
//! with an empty state it would break its promises. To survive a restart, `promised`, `votes` and
//! `log` would have to be stored.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    message::{Ballot, Message, NodeId, REPLICAS, Vote},
    value::{Value, repeat_after},
};

/// A leader that has sent nothing for this long sends a heartbeat. A busy leader never does,
/// because an `Accept` has the same effect: a hundred busy groups cost no heartbeat at all. An
/// `Accept` with a long value has not: nobody knows when it will arrive.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A follower that hears nothing from its leader for this long starts an election. The actual
/// timeout is between once and twice this value, chosen at random each time, so that two replicas
/// rarely start at the same time. It allows for four lost heartbeats.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(400);

/// A follower that has heard its leader within this time rejects every `Prepare`, so that a
/// replica which was cut off cannot replace a leader that works for all the others.
const TRUST_LEADER: Duration = Duration::from_millis(250);

/// The most `Accept` messages that a leader repeats at a time: the oldest, because the log cannot
/// grow before them.
const REPEAT_INSTANCES: usize = 64;

/// The most instances that a leader has in progress. It refuses further values; the clients ask
/// again.
pub(crate) const WINDOW: usize = 4096;

/// How far beyond its log an acceptor votes. This is more than a window because its log may lag
/// behind its leader's. It is bounded because a replica that was cut off would otherwise collect
/// votes for instances which it is going to fetch in order anyway.
const HORIZON: u64 = 2 * WINDOW as u64;

/// Bytes of values in one `Promise` or `Learn`, or a single longer value. The receiver asks for the
/// remainder, so a long log travels in several answers and never blocks a link.
const ANSWER_BYTES: usize = 256 * 1024;

/// Approximate size of one value's header in such an answer.
const ENTRY_BYTES: usize = 16;

pub(crate) struct Replica {
    me: NodeId,
    rng: Rng,
    /// The chosen values; the index is the instance. A value in here never changes.
    log: Vec<Value>,
    /// As acceptor: it rejects every ballot below this one.
    promised: Ballot,
    /// As acceptor: what it accepted beyond the log. The first entry is for instance `log.len()`.
    votes: VecDeque<Option<Vote>>,
    role: Role,
    /// The highest round seen in any message, so that the next own ballot is above it.
    round: u32,
    /// As learner: the length of the longest log it has heard of. It only decides what to fetch.
    known_commit: u64,
    /// As learner: when it sent the `Fetch` that has no answer yet.
    fetch_sent: Option<Instant>,
    /// Bytes of the longest value it has received: the answer to a `Fetch` may have one like it.
    longest: usize,
}

enum Role {
    Follower {
        leader: Option<NodeId>,
        heard: Instant,
        election_timeout: Duration,
    },
    Candidate {
        ballot: Ballot,
        since: Instant,
        election_timeout: Duration,
        promises: Quorum,
        /// For each instance the vote with the highest ballot in the promises.
        votes: BTreeMap<u64, Vote>,
    },
    /// Leads with the ballot in `promised`, and has voted for each of its proposals.
    Leader {
        /// Instances in progress. The first is instance `log.len()`.
        proposals: VecDeque<Proposal>,
        last_sent: Instant,
    },
}

struct Proposal {
    accepted: Quorum,
    sent: Instant,
}

impl Replica {
    /// If `stand_at_once`, the replica starts an election on its first tick; otherwise only after
    /// an election timeout.
    pub(crate) fn new(me: NodeId, stand_at_once: bool, seed: u64, now: Instant) -> Self {
        let mut replica = Self {
            me,
            rng: Rng::with_seed(seed),
            log: Vec::new(),
            promised: Ballot::ZERO,
            votes: VecDeque::new(),
            role: Role::Follower {
                leader: None,
                heard: now,
                election_timeout: Duration::ZERO,
            },
            round: 0,
            known_commit: 0,
            fetch_sent: None,
            longest: 0,
        };
        if !stand_at_once {
            replica.become_follower(None, now);
        }
        replica
    }

    /// Returns the chosen values so far, one per instance.
    pub(crate) fn log(&self) -> &[Value] {
        &self.log
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Returns how many instances this replica has proposed that are not chosen yet.
    pub(crate) fn open_proposals(&self) -> usize {
        match &self.role {
            Role::Leader { proposals, .. } => proposals.len(),
            _ => 0,
        }
    }

    /// Processes one message.
    pub(crate) fn on(&mut self, from: NodeId, message: Message, now: Instant, out: &mut Outbox) {
        match message {
            Message::Prepare { ballot, first } => self.on_prepare(from, ballot, first, now, out),
            Message::Promise {
                ballot,
                votes,
                complete,
            } => self.on_promise(from, ballot, votes, complete, now, out),
            Message::Accept {
                ballot,
                commit,
                instance,
                value,
            } => {
                if self.recognise_leader(from, ballot, now, out) {
                    self.vote(from, instance, Vote { ballot, value }, out);
                    self.learn_from(from, ballot, commit, now, out);
                }
            }
            Message::Heartbeat { ballot, commit } => {
                if self.recognise_leader(from, ballot, now, out) {
                    self.learn_from(from, ballot, commit, now, out);
                }
            }
            Message::Accepted {
                ballot,
                first,
                last,
            } => self.on_accepted(from, ballot, first, last),
            Message::Reject { ballot, commit } => self.on_reject(from, ballot, commit, now, out),
            Message::Fetch { first } => self.on_fetch(from, first, out),
            Message::Learn { first, values } => self.on_learn(from, first, values, now, out),
        }
    }

    /// Does what is due. The caller calls it every few tens of milliseconds.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) {
        match &mut self.role {
            Role::Follower {
                heard: since,
                election_timeout,
                ..
            }
            | Role::Candidate {
                since,
                election_timeout,
                ..
            } => {
                if now.duration_since(*since) >= *election_timeout {
                    self.start_election(now, out);
                }
            }
            Role::Leader {
                proposals,
                last_sent,
            } => {
                let commit = self.log.len() as u64;
                let ballot = self.promised;
                let oldest = proposals.iter_mut().zip(&self.votes).zip(commit..);
                for ((proposal, vote), instance) in oldest.take(REPEAT_INSTANCES) {
                    let Some(vote) = vote else { continue };
                    if now.duration_since(proposal.sent) < repeat_after(vote.value.len()) {
                        continue;
                    }
                    proposal.sent = now;
                    for node in NodeId::replicas().filter(|&node| !proposal.accepted.has(node)) {
                        let value = vote.value.clone();
                        let accept = Message::Accept {
                            ballot,
                            commit,
                            instance,
                            value,
                        };
                        out.push(To::One(node), accept);
                    }
                }
                if now.duration_since(*last_sent) >= HEARTBEAT {
                    *last_sent = now;
                    out.push(To::Others, Message::Heartbeat { ballot, commit });
                }
            }
        }
    }

    // Proposer.

    /// Sends `Prepare`. A candidate does not promise its own ballot before it has won. If it is cut
    /// off, it may try for hours and then still follows the leader it had before.
    fn start_election(&mut self, now: Instant, out: &mut Outbox) {
        // No ballot may be used twice. Four billion elections are not expected.
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
            since: now,
            election_timeout: self.election_timeout(),
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
        let last = heard.last().map(|&(instance, _)| instance);
        for (instance, vote) in heard {
            keep_highest(votes, instance, vote);
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
            self.become_leader(ballot, votes, now, out);
        }
    }

    /// Becomes leader and finishes what former leaders may have begun. An instance that a replica
    /// voted for gets the value of the highest vote, because that value may already be chosen. An
    /// instance in between that has no vote gets a no-op, so that the log has no hole.
    fn become_leader(
        &mut self,
        ballot: Ballot,
        mut votes: BTreeMap<u64, Vote>,
        now: Instant,
        out: &mut Outbox,
    ) {
        self.promised = ballot;
        let first = self.log.len() as u64;
        for (instance, vote) in (first..).zip(self.votes.drain(..)) {
            if let Some(vote) = vote {
                keep_highest(&mut votes, instance, vote);
            }
        }
        self.role = Role::Leader {
            proposals: VecDeque::new(),
            last_sent: now,
        };
        let commit = first;
        out.push(To::Others, Message::Heartbeat { ballot, commit });
        // A correct acceptor votes only below the horizon, but a frame may contain anything.
        let end = votes
            .range(first..first + HORIZON)
            .next_back()
            .map_or(first, |(&instance, _)| instance + 1);
        for instance in first..end {
            let vote = votes.remove(&instance);
            self.propose(vote.map_or_else(Value::no_op, |vote| vote.value), now, out);
        }
    }

    /// Takes a value from a client and proposes it.
    ///
    /// # Errors
    ///
    /// If it is not proposed, returns the leader, if that is known. This is the leader itself if it has too many
    /// instances in progress.
    pub(crate) fn on_propose(
        &mut self,
        value: Value,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Option<NodeId>> {
        match &self.role {
            Role::Leader { proposals, .. } if proposals.len() < WINDOW => {
                self.propose(value, now, out);
                Ok(())
            }
            Role::Leader { .. } => Err(Some(self.me)),
            _ => Err(self.trusted_leader(now)),
        }
    }

    /// Proposes a value for the next free instance. Does nothing unless this replica leads.
    fn propose(&mut self, value: Value, now: Instant, out: &mut Outbox) {
        let Role::Leader {
            proposals,
            last_sent,
        } = &mut self.role
        else {
            return;
        };
        let ballot = self.promised;
        let commit = self.log.len() as u64;
        let instance = commit + proposals.len() as u64;
        proposals.push_back(Proposal {
            accepted: Quorum::default().with(self.me),
            sent: now,
        });
        if !value.is_long() {
            *last_sent = now;
        }
        self.votes.push_back(Some(Vote {
            ballot,
            value: value.clone(),
        }));
        let accept = Message::Accept {
            ballot,
            commit,
            instance,
            value,
        };
        out.push(To::Others, accept);
    }

    fn on_accepted(&mut self, from: NodeId, ballot: Ballot, first: u64, last: u64) {
        let Role::Leader { proposals, .. } = &mut self.role else {
            return;
        };
        if ballot != self.promised {
            return;
        }
        // Instances below the log are chosen already; the vote of the third replica is often late.
        let base = self.log.len() as u64;
        let ahead =
            |instance: u64| instance.saturating_sub(base).min(proposals.len() as u64) as usize;
        let (begin, end) = (ahead(first), ahead(last.saturating_add(1)));
        for proposal in proposals.range_mut(begin.min(end)..end) {
            proposal.accepted.add(from);
        }
        while let Some(proposal) = proposals.front()
            && proposal.accepted.is_majority()
        {
            proposals.pop_front();
            let vote = self.votes.pop_front().flatten();
            let vote = vote.expect("a leader has voted for each of its proposals");
            self.log.push(vote.value);
        }
    }

    /// A reject can end a candidacy or the lead of a replica with a lower ballot. Safety does not
    /// depend on what it says.
    fn on_reject(
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
            self.become_follower(None, now);
        }
        if !self.is_leader() {
            self.catch_up(from, commit, now, out);
        }
    }

    // Acceptor.

    /// Promises `ballot` to a candidate or rejects it. To reject is always safe.
    fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first: u64,
        now: Instant,
        out: &mut Outbox,
    ) {
        let must_reject = match &self.role {
            Role::Follower { .. } => self.trusted_leader(now).is_some(),
            Role::Candidate { ballot: mine, .. } => ballot < *mine,
            Role::Leader { .. } => true,
        };
        // Instances below the log are closed: the candidate should fetch their values instead of
        // proposing for them.
        let base = self.log.len() as u64;
        if must_reject || ballot < self.promised || first < base {
            self.reject(from, out);
            return;
        }
        self.promise(ballot);
        self.become_follower(None, now);

        let mut votes = Vec::new();
        let mut room = ANSWER_BYTES;
        let mut complete = true;
        let asked = (base..)
            .zip(&self.votes)
            .filter(|&(instance, _)| instance >= first);
        for (instance, vote) in asked {
            let Some(vote) = vote else { continue };
            if room == 0 {
                complete = false;
                break;
            }
            room = room.saturating_sub(vote.value.len() + ENTRY_BYTES);
            votes.push((instance, vote.clone()));
        }
        let promise = Message::Promise {
            ballot,
            votes,
            complete,
        };
        out.push(To::One(from), promise);
    }

    /// Returns whether `from` leads with a ballot that is not outdated. If so, follows it.
    fn recognise_leader(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        if ballot < self.promised {
            self.reject(from, out);
            return false;
        }
        self.promise(ballot);
        match &mut self.role {
            Role::Follower {
                leader: Some(leader),
                heard,
                ..
            } if *leader == from => *heard = now,
            _ => self.become_follower(Some(from), now),
        }
        true
    }

    fn vote(&mut self, from: NodeId, instance: u64, vote: Vote, out: &mut Outbox) {
        let ballot = vote.ballot;
        self.longest = self.longest.max(vote.value.len());
        match instance.checked_sub(self.log.len() as u64) {
            Some(ahead) if ahead < HORIZON => {
                let ahead = ahead as usize;
                if self.votes.len() <= ahead {
                    self.votes.resize(ahead + 1, None);
                }
                self.votes[ahead] = Some(vote);
            }
            // The instance is already chosen. A vote for the chosen value is harmless and lets a
            // leader finish that does not know yet. A vote for any other value is refused.
            None if self.log[instance as usize] == vote.value => {}
            _ => return,
        }
        let accepted = Message::Accepted {
            ballot,
            first: instance,
            last: instance,
        };
        out.push(To::One(from), accepted);
    }

    fn reject(&self, to: NodeId, out: &mut Outbox) {
        let ballot = match &self.role {
            Role::Candidate { ballot, .. } => self.promised.max(*ballot),
            _ => self.promised,
        };
        let commit = self.log.len() as u64;
        out.push(To::One(to), Message::Reject { ballot, commit });
    }

    fn promise(&mut self, ballot: Ballot) {
        self.promised = ballot;
        self.round = self.round.max(ballot.round);
    }

    // Learner.

    /// Learns from the leader of `ballot` that the first `commit` instances are chosen. The chosen
    /// values are those that this leader proposed, and a vote under the same ballot holds such a
    /// value. A vote under another ballot proves nothing.
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

    /// Sends a `Fetch` to `from` if the log is shorter than the longest known one.
    fn catch_up(&mut self, from: NodeId, commit: u64, now: Instant, out: &mut Outbox) {
        self.known_commit = self.known_commit.max(commit);
        let first = self.log.len() as u64;
        let waits = |asked| now.duration_since(asked) < repeat_after(self.longest);
        if first >= self.known_commit || self.fetch_sent.is_some_and(waits) {
            return;
        }
        self.fetch_sent = Some(now);
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

    /// A leader ignores this message: it knows all values below the end of its log. For those
    /// instances it has counted the votes, or it knew them before it led.
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
        if self.is_leader() {
            return;
        }
        for value in values.into_iter().skip(known as usize) {
            self.longest = self.longest.max(value.len());
            self.log.push(value);
            self.votes.pop_front();
        }
        self.fetch_sent = None;
        self.catch_up(from, self.known_commit, now, out);
    }

    fn become_follower(&mut self, leader: Option<NodeId>, now: Instant) {
        self.role = Role::Follower {
            leader,
            heard: now,
            election_timeout: self.election_timeout(),
        };
    }

    /// Returns the leader if it was heard within [`TRUST_LEADER`].
    fn trusted_leader(&self, now: Instant) -> Option<NodeId> {
        match &self.role {
            Role::Follower { leader, heard, .. } if now.duration_since(*heard) < TRUST_LEADER => {
                *leader
            }
            _ => None,
        }
    }

    fn election_timeout(&mut self) -> Duration {
        ELECTION_TIMEOUT.mul_f64(1.0 + self.rng.f64())
    }
}

fn keep_highest(votes: &mut BTreeMap<u64, Vote>, instance: u64, vote: Vote) {
    let highest = votes.entry(instance).or_insert_with(|| vote.clone());
    if highest.ballot < vote.ballot {
        *highest = vote;
    }
}

/// The set of replicas that have agreed to something.
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

/// The messages that a replica wants to send, in order.
#[derive(Default)]
pub(crate) struct Outbox(Vec<(To, Message)>);

impl Outbox {
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (To, Message)> {
        self.0.drain(..)
    }

    /// Adds a message. Joins votes for consecutive instances into one message, and drops a
    /// `Reject` that repeats the one before, so that a batch of received frames causes few frames
    /// in return.
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
            (Some((last_to, last)), Message::Reject { .. })
                if *last_to == to && *last == message => {}
            _ => self.0.push((to, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Request;

    const STEP: Duration = Duration::from_millis(20);

    /// Three replicas and the messages between them, without threads and with a simulated clock.
    struct World {
        replicas: Vec<Replica>,
        disconnected: [bool; REPLICAS],
        in_transit: Vec<InTransit>,
        now: Instant,
        rng: Rng,
        /// This percentage of messages is lost, and the same percentage is late.
        fault_percent: u32,
        proposed: u32,
    }

    struct InTransit {
        from: NodeId,
        to: NodeId,
        message: Message,
        due: Instant,
    }

    impl World {
        fn new(seed: u64, fault_percent: u32) -> Self {
            let now = Instant::now();
            let replicas = NodeId::replicas()
                .map(|node| Replica::new(node, node.index() == 0, seed ^ node.index() as u64, now))
                .collect();
            Self {
                replicas,
                disconnected: [false; REPLICAS],
                in_transit: Vec::new(),
                now,
                rng: Rng::with_seed(seed),
                fault_percent,
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
            let mut out = Outbox::default();
            let _ = self.replicas[at].on_propose(value.clone(), self.now, &mut out);
            self.collect(at, &mut out);
            value
        }

        fn deliver(&mut self, at: usize, from: NodeId, message: Message) {
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
                    let late = self.rng.u32(..100) < self.fault_percent;
                    let delay = if late { self.rng.u32(..100) } else { 0 };
                    self.in_transit.push(InTransit {
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
            let due = |message: &InTransit| message.due <= now;
            while let Some(next) = self.in_transit.iter().position(due) {
                let InTransit {
                    from, to, message, ..
                } = self.in_transit.remove(next);
                let lost = self.rng.u32(..100) < self.fault_percent;
                if !lost && !self.disconnected[from.index()] && !self.disconnected[to.index()] {
                    self.deliver(to.index(), from, message);
                }
            }
        }

        fn advance(&mut self, time: Duration) {
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
            let leads = |&at: &usize| self.replicas[at].is_leader();
            (0..REPLICAS).filter(leads).max_by_key(ballot)
        }

        fn assert_logs_agree(&self) {
            for pair in [(0, 1), (1, 2), (0, 2)] {
                let (one, other) = (&self.replicas[pair.0].log, &self.replicas[pair.1].log);
                let common = one.len().min(other.len());
                assert!(one[..common] == other[..common]);
            }
        }
    }

    #[test]
    fn next_leader_keeps_a_value_that_was_accepted_under_the_last_one() {
        let mut world = World::new(1, 0);
        world.advance(STEP);
        let value = world.propose(0);
        // One follower votes, then the leader is cut off before it receives the vote.
        world.in_transit.retain(|message| message.to.index() == 1);
        let accept = world.in_transit.remove(0);
        world.deliver(1, accept.from, accept.message);
        world.in_transit.clear();
        world.disconnected[0] = true;
        world.advance(4 * ELECTION_TIMEOUT);

        let leader = world.leader();
        assert!(matches!(leader, Some(1 | 2)));
        assert!(world.replicas[1].log == [value.clone()]);
        assert!(world.replicas[2].log == [value]);
    }

    #[test]
    fn returning_replica_catches_up_without_an_election() {
        let mut world = World::new(2, 0);
        world.advance(STEP);
        world.disconnected[2] = true;
        // Enough values for several answers, and enough time for many election timeouts.
        for _ in 0..40 {
            for _ in 0..500 {
                world.propose(0);
            }
            world.advance(5 * STEP);
        }
        assert_eq!(world.replicas[0].log.len(), 20_000);
        assert!(world.replicas[2].log.is_empty());
        let ballot = world.replicas[0].promised;

        world.disconnected[2] = false;
        world.advance(2 * ELECTION_TIMEOUT);
        assert_eq!(world.replicas[2].log.len(), 20_000);
        assert!(world.replicas[0].is_leader() && world.replicas[0].promised == ballot);
        world.assert_logs_agree();
    }

    #[test]
    fn logs_never_disagree() {
        for seed in 0..200 {
            let mut world = World::new(seed, 10 + (seed % 30) as u32);
            for _ in 0..60 {
                let at = world.rng.usize(..REPLICAS);
                world.disconnected[at] = world.rng.u32(..100) < 30;
                for _ in 0..world.rng.u32(..20) {
                    let at = world.rng.usize(..REPLICAS);
                    world.propose(at);
                }
                let time = world.rng.u32(1..30) * STEP;
                world.advance(time);
                world.assert_logs_agree();
            }
            // Without further faults all replicas reach the same log, and it grows again.
            world.fault_percent = 0;
            world.disconnected = [false; REPLICAS];
            world.advance(10 * ELECTION_TIMEOUT);
            let leader = world.leader().expect("a leader once faults have stopped");
            let value = world.propose(leader);
            world.advance(ELECTION_TIMEOUT);
            world.assert_logs_agree();
            for replica in &world.replicas {
                assert!(replica.log.last() == Some(&value), "seed {seed}");
            }
        }
    }
}
