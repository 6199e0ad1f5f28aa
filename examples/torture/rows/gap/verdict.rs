//! Compares what the senders accepted with what the receiver got and was told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::ends::{Ends, LifeId, RECEIVER};
use crate::{
    named_child::{LONG, Report, Sent},
    numbered_log::{Faults, Life},
    row::{Failure, Figures},
    world::pause,
};

const MS: Duration = Duration::from_millis(1);

/// The sums over all times at which the row compared.
#[derive(Default)]
pub(super) struct Verdict {
    accepted: u64,
    received: u64,
    missing: u64,
    stale: u64,
    evicted: u64,
    /// Lives of senders whose sum was exact, and those with bounds.
    exact: u64,
    bounded: u64,
    marked: u64,
    jumps: u64,
    /// How often a sender's last frames did not arrive, so that it sent one more.
    one_more: u64,
    faults: Faults,
    /// Where the numbers of each life begin for the present receiver.
    begins: BTreeMap<LifeId, u64>,
}

impl Verdict {
    /// Ends the load, waits until the receiver has got a last frame of each, and compares. It knows of all
    /// frames then: a receiver learns of a loss from what comes behind it.
    pub(super) fn settle(&mut self, ends: &mut Ends, figures: &mut Figures) -> Result<(), Failure> {
        ends.tell_all("quiet")?;
        let deadline = Instant::now() + LONG;
        let mut one_more_at = Instant::now() + 200 * MS;
        loop {
            let (sent, got) = reports(ends)?;
            let open: Vec<_> = (0..sent.len())
                .filter(|&index| {
                    let (life, sent) = sent[index];
                    sent.left > 0 || begin(life, sent, &got, ends).is_none()
                })
                .collect();
            if open.is_empty() && got.is_whole() {
                return self.compare(&sent, &got, ends, figures);
            }
            if Instant::now() > deadline {
                return Err(Failure::error(describe(&sent, &got, ends)));
            }
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
        sent: &[(LifeId, Sent)],
        got: &Report,
        ends: &Ends,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        self.faults = ends.faults;
        self.faults.add(got.log.faults);
        let faults = self.faults.describe();
        figures.require(faults.is_none(), || faults.unwrap_or_default());
        for &(life, sent) in sent {
            let Some(begin) = begin(life, sent, got, ends) else {
                return Err(Failure::error("it was there before"));
            };
            let seen = got.log.lives[&life];
            self.begins.insert(life, begin);
            match begin == seen.first {
                true => self.exact += 1,
                false => self.bounded += 1,
            }
            // Without what came before the receiver did.
            self.accepted += sent.accepted - begin;
            self.received += seen.frames;
            self.missing += seen.missing;
            self.stale += sent.stale;
            self.evicted += sent.evicted;
        }
        for (life, seen) in &got.log.lives {
            if let Some(&limit) = ends.killed.get(life) {
                self.killed(*life, *seen, limit, got, ends, figures);
            }
        }
        self.marked += got.log.marked;
        self.jumps += got.log.jumps;
        Ok(())
    }

    /// Checks the bounds for a life that was killed. It got no farther than its limit, and not less far than
    /// its last frame.
    fn killed(
        &mut self,
        life: LifeId,
        seen: Life,
        limit: u64,
        got: &Report,
        ends: &Ends,
        figures: &mut Figures,
    ) {
        self.bounded += 1;
        let known = seen.frames + seen.missing;
        // Frames that no handler had yet when the next life came.
        let at_least = (seen.last + 1 - seen.first).saturating_sub(got.undelivered);
        let before = ends.got_before.get(&life).copied().unwrap_or(0);
        let at_most = limit - before.min(limit);
        figures.require((at_least..=at_most).contains(&known), || {
            format!("killed {life:?}: {seen:?}, at least {at_least}, at most {at_most}")
        });
    }

    /// Frames go stale at the end of the load, and nothing follows them. The receiver is told all the same.
    pub(super) fn stale_at_the_end(
        &mut self,
        ends: &mut Ends,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let stale = |sent: &[(LifeId, Sent)]| -> u64 { sent.iter().map(|of| of.1.stale).sum() };
        let stale_before = stale(&reports(ends)?.0);
        ends.calm_down();
        let_stale(ends)?;
        let deadline = Instant::now() + LONG;
        loop {
            let (sent, got) = reports(ends)?;
            let told = sent.iter().all(|(life, sent)| {
                let seen = got.log.lives.get(life).copied().unwrap_or_default();
                let begin = self.begins.get(life).copied().unwrap_or(0);
                begin + seen.frames + seen.missing == sent.accepted
            });
            if told && got.is_whole() {
                let stale = stale(&sent) - stale_before;
                figures.require(stale > 0, || "nothing went stale at the end".into());
                figures.add("stale at the end, and told", stale);
                let faults = got.log.faults.describe();
                figures.require(faults.is_none(), || faults.unwrap_or_default());
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = describe(&sent, &got, ends);
                return Err(Failure::error(format!("stale at the end: {text}")));
            }
            pause(5 * MS);
        }
    }

    /// Checks the sums of the time without a kill of the receiver, and adds their parts to the figures.
    pub(super) fn drops_are_told(&self, frames: u64, figures: &mut Figures) {
        let lost = self.missing.checked_sub(self.stale + self.evicted);
        figures.require(lost.is_some(), || "drops were not told".into());
        figures.require(self.accepted >= frames, || {
            format!("only {}", self.accepted)
        });
        figures.require(self.evicted > 0, || "nothing was evicted".into());
        figures.add("accepted", self.accepted);
        figures.add("received", self.received);
        figures.add("told as missing", self.missing);
        figures.add("of them stale", self.stale);
        figures.add("evicted", self.evicted);
        figures.add("lost with a connection", lost.unwrap_or(0));
    }

    pub(super) fn add_to(&self, ends: &Ends, figures: &mut Figures) {
        figures.require(self.accepted == self.received + self.missing, || {
            "the sums differ".into()
        });
        figures.require(self.jumps > 0, || "no group missed anything".into());
        figures.add("with kills of the receiver, accepted", self.accepted);
        figures.add("received", self.received);
        figures.add("told as missing", self.missing);
        figures.add("lives of senders exact", self.exact);
        figures.add("with bounds", self.bounded);
        figures.add("senders killed", ends.killed.len());
        figures.add("receivers killed", ends.receivers_killed);
        let proxies = ends.senders.iter().map(|sender| sender.proxy.count());
        let (connections, cut) = proxies.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        figures.add("connections", connections);
        figures.add("of them cut", cut);
        figures.add("batches behind a jump", self.jumps);
        figures.add("batches marked", self.marked);
        figures.add("last frames sent once more", self.one_more);
        figures.add("duplicate or reordered", self.faults.reordered);
        figures.add("behind a gap and not marked", self.faults.unmarked);
    }
}

/// Lets the queues fill while the proxies do not read, ends the load, and waits until what is queued has gone
/// stale. Then the proxies read again.
fn let_stale(ends: &mut Ends) -> Result<(), Failure> {
    ends.tell_all("load")?;
    pause(200 * MS);
    for sender in &ends.senders {
        sender.proxy.set_black_hole(true);
    }
    pause(600 * MS);
    ends.tell_all("quiet")?;
    let deadline = Instant::now() + LONG;
    // One frame of each may have been written in part.
    while reports(ends)?.0.iter().any(|(_, sent)| sent.left > 1) {
        if Instant::now() > deadline {
            return Err(Failure::error("frames do not go stale"));
        }
        pause(5 * MS);
    }
    for sender in &ends.senders {
        sender.proxy.set_black_hole(false);
    }
    Ok(())
}

/// Returns what the senders sent and what the receiver got.
fn reports(ends: &mut Ends) -> Result<(Vec<(LifeId, Sent)>, Report), Failure> {
    let mut sent = Vec::new();
    for sender in &mut ends.senders {
        let report = sender.node.report()?;
        sent.push((sender.node.life(), report.sent[&RECEIVER]));
    }
    Ok((sent, ends.receiver.report()?))
}

/// Returns where the numbers of a life begin for the receiver: at its own first frame, or before that if it
/// was told of a gap before. `None` if it has not got the last frame yet, or knows of too few or too many.
fn begin(life: LifeId, sent: Sent, got: &Report, ends: &Ends) -> Option<u64> {
    let seen = got.log.lives.get(&life)?;
    let before = ends.got_before.get(&life).copied().unwrap_or(0);
    let begin = sent.accepted.checked_sub(seen.frames + seen.missing)?;
    let is_told = seen.last + 1 == sent.accepted && (before..=seen.first).contains(&begin);
    is_told.then_some(begin)
}

fn describe(sent: &[(LifeId, Sent)], got: &Report, ends: &Ends) -> String {
    let lives = sent.iter().map(|(life, sent)| {
        let (seen, before) = (got.log.lives.get(life), ends.got_before.get(life));
        format!("{life:?}: {sent:?}, {seen:?}, before {before:?}")
    });
    let lives = lives.collect::<Vec<_>>().join("; ");
    let (announced, numbered, missing) = (got.announced, got.numbered, got.missing);
    format!(
        "receiver: {announced} announced, {numbered} numbered, {missing} missing, {} undelivered; {lives}",
        got.undelivered
    )
}
