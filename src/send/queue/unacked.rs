//! The frames that were written on the link and that the peer's system has not acknowledged yet.
//!
//! The system tells how many bytes are acknowledged. To find out which frames these are, the lengths of
//! the written frames are kept until then, as runs: so many frames of one length, one after the other.
//! Frames of equal lengths take one entry, however many they are. Asking the system is left to the link,
//! which does it when there are many entries, when it is idle, and when it ends.
//!
//! Knows no socket. The bytes of the connection are counted from its beginning.

use std::collections::VecDeque;

use crate::{observe::stats::Receipt, wire::count::Count};

/// Entries from which on the system is asked, so that what is acknowledged makes room. A question takes
/// as long as noting some hundred entries.
const ASK_FROM: usize = 1024;

/// The most entries: 768 KiB. So many frames of 64 bytes fill the 4 MiB that Linux gives a socket for
/// sending.
const MAX_RUNS: usize = 64 << 10;

/// Frames of one length that follow one another.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) len: u32,
    pub(super) frames: u32,
    /// These are control frames, which are no frames for the counters.
    control: bool,
}

impl Run {
    pub(super) fn new(len: usize, frames: usize) -> Self {
        Run {
            len: u32::try_from(len).expect("frame limits fit into u32"),
            frames: u32::try_from(frames).expect("a chunk holds fewer frames"),
            control: false,
        }
    }

    fn count(self) -> Count {
        match self.control {
            true => Count::ZERO,
            false => Count::new(self.frames as usize, self.bytes() as usize),
        }
    }

    fn bytes(self) -> u64 {
        u64::from(self.frames) * u64::from(self.len)
    }
}

/// The frames that one write has finished.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// Most writes finish frames of one length, and need no more memory than this.
    first: Run,
    others: Vec<Run>,
}

impl Finished {
    #[inline]
    pub(super) fn push(&mut self, run: Run) {
        let last = self.others.last_mut().unwrap_or(&mut self.first);
        if last.frames == 0 {
            *last = run;
        } else if !append(last, run) {
            self.others.push(run);
        }
    }
}

/// The unacknowledged frames of a link.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// Where on the connection the first frame begins that is not known to be acknowledged. `None` if there
    /// is no link, or the system does not tell what is acknowledged.
    begin: Option<u64>,
    confirmed: Count,
    /// The oldest frames, whose single lengths are forgotten, and how many bytes they take with the control
    /// frames between them.
    merged: Count,
    merged_bytes: u64,
    runs: VecDeque<Run>,
    /// The frames of all `runs`.
    waiting: Count,
    ask_at: usize,
}

impl Unacked {
    /// Begins with a new link, after `written` bytes of its connection.
    pub(super) fn link_begins(&mut self, written: Option<u64>) {
        *self = Unacked {
            begin: written,
            ask_at: ASK_FROM,
            ..Unacked::default()
        };
    }

    /// Returns whether finished frames need to be noted.
    pub(super) fn is_noting(&self) -> bool {
        self.begin.is_some()
    }

    /// Returns whether the system should be asked what is acknowledged.
    pub(super) fn is_long(&self) -> bool {
        self.runs.len() >= self.ask_at
    }

    /// Notes frames that follow those before without a gap.
    #[inline]
    pub(super) fn note(&mut self, finished: &Finished) {
        self.note_run(finished.first);
        for run in &finished.others {
            self.note_run(*run);
        }
    }

    /// Notes a control frame.
    pub(super) fn note_control(&mut self, len: usize) {
        if self.is_noting() {
            self.note_run(Run {
                control: true,
                ..Run::new(len, 1)
            });
        }
    }

    #[inline]
    fn note_run(&mut self, run: Run) {
        if run.frames == 0 {
            return;
        }
        self.waiting += run.count();
        let appended = self.runs.back_mut().is_some_and(|last| append(last, run));
        if !appended {
            if self.runs.len() == MAX_RUNS {
                self.merge_oldest();
            }
            self.runs.push_back(run);
        }
    }

    /// Forgets the single lengths of the older half.
    #[cold]
    fn merge_oldest(&mut self) {
        for run in self.runs.drain(..MAX_RUNS / 2) {
            self.merged += run.count();
            self.merged_bytes += run.bytes();
            self.waiting -= run.count();
        }
    }

    /// Notes that the first `bytes` of the connection are acknowledged, and forgets the frames that this
    /// confirms.
    pub(super) fn acknowledged(&mut self, bytes: u64) {
        let Some(begin) = &mut self.begin else {
            return;
        };
        let mut left = bytes.saturating_sub(*begin);
        let (mut confirmed, before) = (Count::ZERO, left);
        if left >= self.merged_bytes {
            left -= std::mem::take(&mut self.merged_bytes);
            confirmed += std::mem::take(&mut self.merged);
            while let Some(run) = self.runs.front_mut() {
                let whole = (left / u64::from(run.len)).min(run.frames.into()) as u32;
                run.frames -= whole;
                let gone = Run {
                    frames: whole,
                    ..*run
                };
                left -= gone.bytes();
                confirmed += gone.count();
                self.waiting -= gone.count();
                if run.frames > 0 {
                    break;
                }
                self.runs.pop_front();
            }
            *begin += before - left;
        }
        self.confirmed += confirmed;
        self.ask_at = (2 * self.runs.len()).max(ASK_FROM);
    }

    /// Gives back the memory that is not needed now.
    pub(super) fn trim(&mut self) {
        self.runs.shrink_to_fit();
    }

    /// Ends with the link, when the first `bytes` of its connection are acknowledged. `None` if there was no
    /// link, or if the system does not tell.
    pub(super) fn link_ends(&mut self, bytes: Option<u64>) -> Option<Receipt> {
        if let Some(bytes) = bytes {
            self.acknowledged(bytes);
        }
        let ended = std::mem::take(self);
        ended.begin?;
        bytes?;
        Some(Receipt {
            confirmed: ended.confirmed,
            in_doubt: ended.merged + ended.waiting,
        })
    }
}

/// Makes `run` a part of the run before it, if their frames are equally long.
#[inline]
fn append(last: &mut Run, run: Run) -> bool {
    match last.frames.checked_add(run.frames) {
        Some(frames) if last.len == run.len && last.control == run.control => {
            last.frames = frames;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn noting(written: u64, lens: &[u32]) -> Unacked {
        let mut unacked = Unacked::default();
        unacked.link_begins(Some(written));
        note(&mut unacked, lens);
        unacked
    }

    fn note(unacked: &mut Unacked, lens: &[u32]) {
        let mut finished = Finished::default();
        for &len in lens {
            finished.push(Run::new(len as usize, 1));
        }
        unacked.note(&finished);
    }

    fn frames(unacked: &mut Unacked, bytes: u64) -> (u64, u64) {
        let receipt = unacked.link_ends(Some(bytes)).expect("a link");
        (receipt.confirmed.frames, receipt.in_doubt.frames)
    }

    #[test]
    fn a_frame_is_confirmed_with_its_last_byte() {
        for (bytes, confirmed) in [(0, 0), (29, 0), (30, 1), (41, 1), (42, 2), (61, 2), (62, 3)] {
            let mut unacked = noting(20, &[10, 12, 20]);
            assert_eq!(
                frames(&mut unacked, bytes),
                (confirmed, 3 - confirmed),
                "{bytes}"
            );
        }
    }

    #[test]
    fn nothing_is_said_without_a_link_or_where_the_system_tells_nothing() {
        let mut unacked = noting(0, &[8]);
        assert_eq!(unacked.link_ends(None), None);
        assert_eq!(unacked.link_ends(Some(8)), None, "ended before");
        unacked.link_begins(None);
        assert!(!unacked.is_noting());
        assert_eq!(unacked.link_ends(Some(8)), None);
    }

    #[test]
    fn frames_of_equal_length_take_one_entry_and_never_need_a_question() {
        let mut unacked = noting(0, &[]);
        for _ in 0..10_000 {
            note(&mut unacked, &[72]);
        }
        assert_eq!((unacked.runs.len(), unacked.is_long()), (1, false));
        assert_eq!(frames(&mut unacked, 72 * 9_999), (9_999, 1));
    }

    #[test]
    fn a_run_that_is_full_is_followed_by_another() {
        let mut unacked = noting(0, &[]);
        let run = Run {
            len: 8,
            frames: u32::MAX,
            control: false,
        };
        let mut finished = Finished::default();
        finished.push(run);
        finished.push(run);
        unacked.note(&finished);
        let all = 2 * u64::from(u32::MAX);
        assert_eq!(frames(&mut unacked, 8 * all - 1), (all - 1, 1));
    }

    #[test]
    fn what_is_acknowledged_makes_room_and_what_is_not_asks_less_often() {
        let mut unacked = noting(0, &[]);
        for _ in 0..ASK_FROM {
            assert!(!unacked.is_long());
            note(&mut unacked, &[8, 9]);
            note(&mut unacked, &[]);
            if unacked.is_long() {
                break;
            }
        }
        unacked.acknowledged(0);
        // Not before there are twice as many.
        for runs in (ASK_FROM..2 * ASK_FROM).step_by(2) {
            assert_eq!((unacked.runs.len(), unacked.is_long()), (runs, false));
            note(&mut unacked, &[8, 9]);
        }
        assert!(unacked.is_long());
        unacked.acknowledged(1 << 20);
        assert!(unacked.runs.is_empty());
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes")]
    fn beyond_the_bound_the_oldest_are_in_doubt_until_all_of_them_are_acknowledged() {
        let pairs = MAX_RUNS / 2 + 1;
        let filled = || {
            let mut unacked = noting(0, &[]);
            for _ in 0..pairs {
                note(&mut unacked, &[8, 9]);
            }
            assert!(unacked.runs.len() <= MAX_RUNS);
            unacked
        };
        let (all, merged) = (2 * pairs as u64, MAX_RUNS as u64 / 2);
        let merged_bytes = merged / 2 * 17;
        assert_eq!(frames(&mut filled(), merged_bytes - 1), (0, all));
        assert_eq!(frames(&mut filled(), merged_bytes), (merged, all - merged));
        let exact = (merged + 1, all - merged - 1);
        assert_eq!(frames(&mut filled(), merged_bytes + 16), exact);
    }

    proptest! {
        /// Writes and questions in any order, against a plain list of all frames.
        #[test]
        #[cfg_attr(miri, ignore = "takes minutes")]
        fn agrees_with_a_list_of_all_frames(
            begin in 0_u64..1000,
            writes in vec((vec((8_u32..12, 1_usize..4), 0..6), 0_u64..=100), 0..40),
            last in 0_u64..=100,
        ) {
            let mut unacked = noting(begin, &[]);
            let mut list = Vec::new();
            let mut acknowledged = 0;
            let percent = |list: &[u32], of: u64| {
                begin + list.iter().map(|&len| u64::from(len)).sum::<u64>() * of / 100
            };
            for (groups, of) in writes {
                let lens: Vec<u32> = groups
                    .into_iter()
                    .flat_map(|(len, number)| std::iter::repeat_n(len, number))
                    .collect();
                note(&mut unacked, &lens);
                list.extend(lens);
                acknowledged = percent(&list, of).max(acknowledged);
                unacked.acknowledged(acknowledged);
            }
            acknowledged = percent(&list, last).max(acknowledged);
            let (mut end, mut confirmed) = (begin, Count::ZERO);
            for &len in &list {
                end += u64::from(len);
                if end <= acknowledged {
                    confirmed += Count::one(len as usize);
                }
            }
            let receipt = unacked.link_ends(Some(acknowledged)).expect("a link");
            prop_assert_eq!(receipt.confirmed, confirmed);
            let all: Count = list.iter().map(|&len| Count::one(len as usize)).sum();
            prop_assert_eq!(receipt.confirmed + receipt.in_doubt, all);
        }
    }

    #[test]
    fn control_frames_take_their_bytes_and_are_no_frames() {
        let mut unacked = noting(100, &[20, 20]);
        unacked.note_control(38);
        note(&mut unacked, &[20]);
        unacked.note_control(27);
        unacked.acknowledged(100 + 40 + 37);
        assert_eq!(unacked.confirmed, Count::new(2, 40));
        unacked.acknowledged(100 + 40 + 38 + 19);
        assert_eq!(unacked.confirmed, Count::new(2, 40));
        let receipt = unacked.link_ends(Some(100 + 40 + 38 + 20)).expect("known");
        assert_eq!(receipt.confirmed, Count::new(3, 60));
        assert!(receipt.in_doubt.is_zero());
    }
}
