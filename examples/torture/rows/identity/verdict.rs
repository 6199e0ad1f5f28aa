//! Compares what each member accepted for each other with what that one got and was told.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, LifeId, reason, until};
use crate::{
    named_child::Report,
    numbered_log::{Faults, Life},
    row::{Failure, Figures},
};

/// How long the row waits for the receiver of a pair before the sender sends one more frame.
const ONE_MORE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Verdict {
    accepted: u64,
    received: u64,
    missing: u64,
    /// Accepted before the receiver heard of the sender, or while another process was the receiver.
    before: u64,
    one_more: u64,
    zombies: u64,
    /// What zombies accepted after they had been refused, and how much of that they wrote.
    by_zombies: (u64, u64),
    faults: Faults,
}

impl Verdict {
    /// Notes what a zombie has done between these reports. It had been refused before.
    pub(super) fn zombie(&mut self, before: &Report, after: &Report) {
        let sums = |report: &Report| {
            let sent = report.sent.values();
            sent.fold((0, 0), |sum, sent| {
                (sum.0 + sent.accepted, sum.1 + sent.written)
            })
        };
        let (before, after) = (sums(before), sums(after));
        self.zombies += 1;
        self.by_zombies.0 += after.0 - before.0;
        self.by_zombies.1 += after.1 - before.1;
    }

    /// Ends the load, waits until all members know of all frames for them, and compares.
    pub(super) fn settle(
        &mut self,
        cluster: &mut Cluster,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        cluster.tell_all("quiet")?;
        let (mut reports, mut open) = (Vec::new(), Vec::new());
        let mut one_more_at = Instant::now() + ONE_MORE;
        let settled = until("all frames are known", || {
            reports = cluster
                .members
                .iter_mut()
                .map(|member| Ok((member.life(), member.report()?)))
                .collect::<Result<Vec<_>, Failure>>()?;
            open = open_pairs(&reports, cluster);
            if !open.is_empty() && Instant::now() > one_more_at {
                cluster.tell_all("one")?;
                self.one_more += 1;
                one_more_at = Instant::now() + ONE_MORE;
            }
            Ok(open.is_empty())
        });
        settled.map_err(|failure| Failure::error(format!("{failure}: {}", open.join("; "))))?;
        for (life, report) in &reports {
            self.compare(*life, report, &reports, cluster, figures);
        }
        self.faults = cluster.found()?;
        let faults = self.faults.describe();
        figures.require(faults.is_none(), || faults.unwrap_or_default());
        Ok(())
    }

    /// Compares what one receiver got with what all lives sent.
    fn compare(
        &mut self,
        to: LifeId,
        got: &Report,
        all: &[(LifeId, Report)],
        cluster: &Cluster,
        figures: &mut Figures,
    ) {
        for (life, seen) in &got.log.lives {
            let known = seen.frames + seen.missing;
            let living = all.iter().find(|(id, _)| id == life);
            if let Some((_, sender)) = living {
                let accepted = sender.sent[&to.0].accepted;
                self.accepted += accepted;
                self.before += accepted - known;
            } else {
                let limit = cluster.limits.get(&(*life, to.0)).copied().unwrap_or(0);
                // It may have had frames that no handler had yet when the next life came.
                let span = (seen.last + 1).saturating_sub(seen.first + got.undelivered);
                let bounds = span..=limit;
                figures.require(seen.frames == 0 || bounds.contains(&known), || {
                    format!("{life:?} to {to:?}: {seen:?}, bounds {bounds:?}")
                });
                self.accepted += known;
            }
            self.received += seen.frames;
            self.missing += seen.missing;
        }
    }

    pub(super) fn add_to(&self, cluster: &Cluster, figures: &mut Figures) {
        let mut refused = cluster.refused.clone();
        for line in cluster.members.iter().flat_map(|member| &member.refused) {
            *refused.entry(reason(line)).or_default() += 1;
        }
        figures.require(
            self.accepted == self.received + self.missing + self.before,
            || "the sums differ".into(),
        );
        figures.add("accepted, over all comparisons", self.accepted);
        figures.add("received", self.received);
        figures.add("told as missing", self.missing);
        figures.add("before the receiver heard of the sender", self.before);
        let (accepted, written) = self.by_zombies;
        figures.require(accepted > 0, || "zombies had nothing to send".into());
        figures.require(written == 0, || format!("zombies wrote {written} frames"));
        figures.add("zombies", self.zombies);
        figures.add(
            "accepted by them when refused, and written",
            format!("{accepted}, {written}"),
        );
        for (reason, number) in refused {
            figures.add("refused", format!("{number} × {reason}"));
        }
        figures.add("last frames sent once more", self.one_more);
        figures.add("to a wrong node", self.faults.misdirected);
        figures.add("of an older life after a newer", self.faults.outdated);
        figures.add("duplicate or reordered", self.faults.reordered);
        figures.add("behind a gap and not marked", self.faults.unmarked);
    }
}

/// Returns the pairs whose receiver does not know of all frames yet, or knows of too many.
fn open_pairs(reports: &[(LifeId, Report)], cluster: &Cluster) -> Vec<String> {
    let mut open = Vec::new();
    for (to, got) in reports {
        for (from, sender) in reports.iter().filter(|(from, _)| from != to) {
            let sent = sender.sent[&to.0];
            let seen = got.log.lives.get(from).copied().unwrap_or_default();
            let before = cluster.got_before.get(&(to.0, *from)).copied();
            if sent.left > 0 || !is_explained(sent.accepted, seen, before.unwrap_or(0)) {
                open.push(format!(
                    "{from:?} to {to:?}: {sent:?}, {seen:?}, before {before:?}"
                ));
            }
        }
        if !got.is_whole() {
            open.push(format!("{to:?}: the counters differ"));
        }
    }
    open
}

/// Returns whether a receiver has got the last frame that was accepted, and knows of all before it: they begin
/// behind those that a former process of it got, and at its own first frame at the latest.
fn is_explained(accepted: u64, seen: Life, got_before: u64) -> bool {
    let begin = accepted.checked_sub(seen.frames + seen.missing);
    seen.frames > 0
        && seen.last + 1 == accepted
        && begin.is_some_and(|begin| (got_before..=seen.first).contains(&begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_nobody_was_told_of_is_found() {
        let seen = |frames, missing| Life {
            frames,
            first: 10,
            last: 99,
            missing,
        };
        assert!(is_explained(100, seen(80, 10), 0));
        assert!(
            is_explained(100, seen(80, 12), 8),
            "told before its first frame"
        );
        assert!(
            !is_explained(100, seen(80, 13), 8),
            "of frames that had come"
        );
        assert!(!is_explained(100, seen(80, 9), 0), "one is lost");
        assert!(
            !is_explained(89, seen(80, 10), 0),
            "more than were accepted"
        );
        assert!(!is_explained(0, Life::default(), 0), "nothing was heard");
    }
}
