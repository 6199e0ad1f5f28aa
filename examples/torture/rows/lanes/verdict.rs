//! Compares what the senders accepted on each lane with what the receiver got and was told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    child::{LaneSent, Outcome, Report, Sent},
    ends::Ends,
    load::LANES,
    log::{KEYS, LifeId, Seen},
    message::LONGEST,
    node::{BULK_BYTES, INBOUND},
    sums::{Bulk, Since, Sums},
};
use crate::{
    named_child::LONG,
    row::{Failure, Figures},
    world::{mib, pause},
};

const MS: Duration = Duration::from_millis(1);

/// What a node may hold beside frames and messages: buffers, tables, and what the allocator counts of the program.
const BESIDE: u64 = 24 << 20;

/// What a node may hold more at the end than after its first frames.
const AT_REST: u64 = 8 << 20;

/// The sums over all times at which the row compared.
#[derive(Default)]
pub(super) struct Verdict {
    /// By lane.
    lanes: [Sums; 3],
    parts: u64,
    /// The same for the time with kills, in which the receiver knew of a part of them only.
    with_kills: [Sums; 3],
    parts_with_kills: u64,
    /// What was known when the row compared last: of each sender and lane, and the parts of all.
    before: BTreeMap<LifeId, [(LaneSent, Seen); 3]>,
    parts_before: u64,
    /// How often the numbers of the control lane were exact.
    exact: u64,
    one_more: u64,
    /// What the receiver and a sender held at first.
    memory: Option<(u64, u64)>,
}

impl Verdict {
    /// Ends the load, waits until the receiver has got the last frame of each lane and the last heartbeat of each
    /// key, and compares. It knows of all frames then: a receiver learns of a loss from what comes behind it.
    pub(super) fn settle(
        &mut self,
        ends: &mut Ends,
        since: Since,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        ends.tell_all("quiet")?;
        let deadline = Instant::now() + LONG;
        let late = |sent: &[(LifeId, Sent)], got: &Report| match Instant::now() > deadline {
            true => {
                let text = format!("not settled: {sent:?}; {}", got.describe());
                Err(Failure::error(text))
            }
            false => Ok(()),
        };
        loop {
            let (sent, got) = reports(ends)?;
            if sent.iter().all(|(_, sent)| sent.is_written()) {
                break;
            }
            late(&sent, &got)?;
            pause(5 * MS);
        }
        // Nothing else is written any more, so all else has come when these have.
        ends.tell_all("one")?;
        let mut one_more_at = Instant::now() + 200 * MS;
        loop {
            let (sent, got) = reports(ends)?;
            let is_open = |&at: &usize| {
                let (life, sent): &(_, Sent) = &sent[at];
                !sent.is_written() || !has_last(*life, sent, &got)
            };
            let open: Vec<_> = (0..sent.len()).filter(is_open).collect();
            if open.is_empty() && got.is_whole() {
                ends.gather()?;
                return self.compare(ends, since, &sent, &got, figures);
            }
            late(&sent, &got)?;
            if Instant::now() > one_more_at {
                for index in open {
                    ends.senders[index].node.tell("one")?;
                    self.one_more += 1;
                }
                one_more_at = Instant::now() + 200 * MS;
            }
            pause(5 * MS);
        }
    }

    fn compare(
        &mut self,
        ends: &Ends,
        since: Since,
        all_sent: &[(LifeId, Sent)],
        got: &Report,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let mut faults = ends.faults;
        faults.add(got.log.faults);
        let faults = faults.describe();
        figures.require(faults.is_none(), || faults.unwrap_or_default());
        let parts = got.parts();
        let mut bulk = Bulk::default();
        for &(life, sent) in all_sent {
            let now = seen_by_lane(life, sent, got);
            for (index, (sent, seen)) in now.into_iter().enumerate() {
                let former = self.before.get(&life).map(|lanes| lanes[index]);
                let (sent_before, seen_before) = match since {
                    Since::Compared => former.unwrap_or_default(),
                    Since::Killed => Default::default(),
                };
                let accepted = sent.accepted - sent_before.accepted;
                let replaced = sent.replaced - sent_before.replaced;
                let known = known(seen) - known(seen_before);
                let lane = LANES[index];
                let of_life = (life.0, life.1, lane.get());
                let begin = match (since, former) {
                    (Since::Compared, Some(_)) => (0, 0),
                    _ => ends.begins.get(&of_life).copied().unwrap_or_default(),
                };
                let text = || {
                    format!(
                        "{lane} {life:?}: {accepted} accepted, {replaced} replaced, {known} known, begin {begin:?}"
                    )
                };
                match index {
                    // Exactly one number for each frame that was accepted.
                    0 => {
                        let unknown = accepted.checked_sub(known);
                        let holds = unknown.is_some_and(|at| (begin.0..=begin.1).contains(&at));
                        let begins_late = unknown.is_some_and(|at| at > seen.first);
                        let holds = holds && (begin == (0, 0) || !begins_late);
                        figures.require(holds, text);
                    }
                    // A heartbeat that replaces a queued one has its number. One that replaces what came back from
                    // a connection that ended does not: that number is told as missing.
                    1 => {
                        let is_exact = begin == (0, 0) && sent.epoch == sent_before.epoch;
                        let least = (accepted - replaced).saturating_sub(begin.1);
                        let most = match is_exact {
                            true => least,
                            false => accepted - begin.0.min(accepted),
                        };
                        self.exact += u64::from(is_exact);
                        let least = match since {
                            Since::Compared => least,
                            Since::Killed => 0,
                        };
                        figures.require((least..=most).contains(&known), text);
                    }
                    _ => bulk.add(accepted, known, begin),
                }
                let sums = match since {
                    Since::Compared => &mut self.lanes[index],
                    Since::Killed => &mut self.with_kills[index],
                };
                sums.accepted += accepted;
                sums.received += seen.all() - seen_before.all();
                sums.missing += seen.missing - seen_before.missing;
                sums.stale += sent.stale - sent_before.stale;
                sums.evicted += sent.evicted - sent_before.evicted;
                sums.replaced += replaced;
                let is_told = seen.missing > 0 || seen.marked == 0;
                figures.require(is_told, || format!("{lane} {life:?}: marked, not missing"));
            }
            self.before.insert(life, now);
        }
        let (came, sum) = match since {
            Since::Compared => (parts - self.parts_before, &mut self.parts),
            Since::Killed => (parts, &mut self.parts_with_kills),
        };
        *sum += came;
        figures.require(bulk.is_explained_by(came, since), || {
            format!("bulk: {bulk:?}, {came} parts; {}", got.describe())
        });
        self.parts_before = parts;
        Ok(())
    }

    /// Requires that of a burst on the normal lane frames were evicted, and that nothing was told as missing on the
    /// others.
    pub(super) fn only_the_normal_lane_missed(&self, figures: &mut Figures) {
        let [normal, control, bulk] = self.lanes;
        figures.require(normal.evicted > 0, || "no frame was evicted".into());
        let told = normal.missing == normal.evicted + normal.stale;
        figures.require(told, || format!("burst: {normal:?}"));
        figures.require(control.missing == 0 && bulk.missing == 0, || {
            format!("burst, other lanes: {control:?}, {bulk:?}")
        });
        figures.add(
            "evicted of a burst, and told on that lane only",
            normal.evicted,
        );
    }

    /// Cancels messages that are half sent. The receiver drops each of them, and counts it.
    pub(super) fn halves(&self, ends: &mut Ends, figures: &mut Figures) -> Result<(), Failure> {
        let before = ends.receiver.report()?.incomplete;
        ends.tell_all("half")?;
        let cancelled = ends.senders.len() as u64;
        let deadline = Instant::now() + LONG;
        while ends.receiver.report()?.incomplete < before + cancelled {
            if Instant::now() > deadline {
                return Err(Failure::error("half a message is not dropped"));
            }
            pause(2 * MS);
        }
        let dropped = ends.receiver.report()?.incomplete - before;
        figures.require(dropped == cancelled, || format!("{dropped} halves dropped"));
        figures.add("cancelled halves, each dropped and counted", dropped);
        Ok(())
    }

    /// Notes what the nodes hold at first.
    pub(super) fn begin_memory(&mut self, ends: &mut Ends) -> Result<(), Failure> {
        let sender = ends.senders[0].node.report()?.memory;
        self.memory = Some((ends.receiver.report()?.memory, sender));
        Ok(())
    }

    /// Checks what is left at the end, and how much memory was held.
    pub(super) fn memory(&self, ends: &mut Ends, figures: &mut Figures) -> Result<(), Failure> {
        let (got, first) = (ends.receiver.report()?, self.memory.unwrap_or_default());
        let mut most = (got.most_memory.max(ends.most_memory.0), 0);
        let mut rest = (got.memory, 0);
        for sender in &mut ends.senders {
            let report = sender.node.report()?;
            most.1 = report.most_memory.max(most.1);
            rest.1 = report.memory.max(rest.1);
        }
        let bounds = (INBOUND as u64, (2 * LONGEST + BULK_BYTES) as u64);
        let is_bounded = most.0 <= bounds.0 + BESIDE && most.1 <= bounds.1 + BESIDE;
        figures.require(is_bounded, || "too much memory".into());
        let is_given_back = rest.0 <= first.0 + AT_REST && rest.1 <= first.1 + AT_REST;
        figures.require(is_given_back, || {
            format!("held at the end: {rest:?}, at first {first:?}")
        });
        figures.add("memory of the receiver at most", mib(most.0));
        figures.add("of a sender", mib(most.1));
        figures.add("at the end", format!("{} and {}", mib(rest.0), mib(rest.1)));
        Ok(())
    }

    /// Checks what became of the large messages.
    pub(super) fn messages(&self, ends: &mut Ends, figures: &mut Figures) -> Result<(), Failure> {
        ends.gather()?;
        let incomplete = ends.incomplete_before + ends.receiver.report()?.incomplete;
        let of = |outcome| {
            let all = ends.sent.iter();
            let all = all.filter(move |(_, message)| message.outcome == outcome);
            let got = all.clone().filter(|(id, _)| ends.got.contains(id)).count();
            (all.count(), got)
        };
        let [ok, error, cancelled] = [Outcome::Ok, Outcome::Error, Outcome::Cancelled].map(of);
        figures.require(error.1 == 0, || format!("{} failed and came", error.1));
        figures.require(ends.got_twice == 0, || {
            format!("{} came twice", ends.got_twice)
        });
        figures.require(error.0 > 0 && cancelled.0 > 0, || "none failed".into());
        // Each of the three tries may leave one half.
        let most = 3 * (ends.sent.len() as u64 + 2 * ends.killed.0);
        figures.require((1..=most).contains(&incomplete), || {
            format!("{incomplete} incomplete, at most {most}")
        });
        figures.add("large messages sent", ok.0);
        figures.add("of them received", ok.1);
        figures.add("failed", error.0);
        figures.add("of them received", error.1);
        figures.add("cancelled", cancelled.0);
        figures.add("of them received", cancelled.1);
        figures.add("incomplete and dropped", incomplete);
        figures.add("received twice", ends.got_twice);
        Ok(())
    }

    /// Adds the sums by lane to the figures.
    pub(super) fn add_to(&self, ends: &Ends, figures: &mut Figures) {
        let labels = ["normal lane", "control lane", "bulk lane"];
        for ((label, sums), parts) in labels.into_iter().zip(self.lanes).zip([0, 0, self.parts]) {
            figures.add(label, sums.describe(parts));
        }
        let labels = ["with kills: normal lane", "control lane", "bulk lane"];
        let parts = [0, 0, self.parts_with_kills];
        for ((label, sums), parts) in labels.into_iter().zip(self.with_kills).zip(parts) {
            figures.add(label, sums.describe(parts));
        }
        figures.require(self.lanes[1].replaced > 0, || "no beat was replaced".into());
        figures.require(self.lanes.iter().all(|of| of.missing > 0), || {
            "a lane missed nothing".into()
        });
        figures.add("control lane exact", self.exact);
        figures.add("senders killed", ends.killed.0);
        figures.add("receivers killed", ends.killed.1);
        let proxies = ends.senders.iter().map(|sender| sender.proxy.count());
        let (connections, cut) = proxies.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        figures.add("connections", connections);
        figures.add("of them cut", cut);
        figures.add("last frames sent once more", self.one_more);
    }
}

/// Returns how many numbers of a lane the receiver knows, without those of parts.
fn known(seen: Seen) -> u64 {
    seen.all() + seen.missing
}

fn seen_by_lane(life: LifeId, sent: Sent, got: &Report) -> [(LaneSent, Seen); 3] {
    let mut lanes = sent.lanes.map(|sent| (sent, Seen::default()));
    for ((_, seen), lane) in lanes.iter_mut().zip(LANES) {
        let of = (life.0, life.1, lane.get());
        *seen = got.log.lanes.get(&of).copied().unwrap_or_default();
    }
    lanes
}

/// Returns whether the last frame of each lane of a sender, and of each key, has come.
fn has_last(life: LifeId, sent: &Sent, got: &Report) -> bool {
    let lanes = seen_by_lane(life, *sent, got);
    let has_last = [0, 2].iter().all(|&lane| {
        let (next, seen) = (sent.next[lane], lanes[lane].1);
        seen.frames > 0 && seen.last + 1 == next
    });
    let beats = sent.next[1];
    let has_beats = (beats.saturating_sub(KEYS)..beats).all(|beat| {
        let last = got.log.beats.get(&(life.0, life.1, beat % KEYS));
        last == Some(&beat)
    });
    has_last && has_beats
}

/// Returns what the senders sent and what the receiver got. Each lane accounts for each of its frames.
fn reports(ends: &mut Ends) -> Result<(Vec<(LifeId, Sent)>, Report), Failure> {
    let mut sent = Vec::new();
    for sender in &mut ends.senders {
        let report = sender.node.report()?;
        for lane in report.sent.lanes {
            let places = lane.written + lane.dropped + lane.left;
            if lane.accepted != places {
                return Err(Failure::error(format!("a lane does not balance: {lane:?}")));
            }
        }
        sent.push((sender.node.life(), report.sent));
    }
    Ok((sent, ends.receiver.report()?))
}
