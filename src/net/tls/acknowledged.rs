//! [`Acknowledged`]: which bytes are acknowledged, counted before they were encrypted.
//!
//! The system counts encrypted bytes. A batch is acknowledged when all of its records are.

use std::collections::VecDeque;

/// The most batches that are remembered. Of more, every second one counts with the one behind it.
const MAX_MARKS: usize = 4096;

/// The batches that are written and not known to be acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    marks: VecDeque<Mark>,
    /// How many bytes are known to be acknowledged.
    bytes: u64,
}

/// Where a batch ends.
#[derive(Debug, Copy, Clone)]
struct Mark {
    encrypted: u64,
    plain: u64,
}

impl Acknowledged {
    /// Notes that a batch was written whole, after which so many bytes were written in all.
    pub(super) fn note(&mut self, encrypted: u64, plain: u64) {
        if self.marks.len() == MAX_MARKS {
            let mut kept = false;
            self.marks.retain(|_| {
                kept = !kept;
                !kept
            });
        }
        self.marks.push_back(Mark { encrypted, plain });
    }

    /// Returns how many bytes are acknowledged when so many encrypted ones are.
    pub(super) fn of(&mut self, encrypted: u64) -> u64 {
        while let Some(mark) = self.marks.front().filter(|it| it.encrypted <= encrypted) {
            self.bytes = mark.plain;
            self.marks.pop_front();
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_acknowledged_with_its_last_record() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.note(122, 100);
        acknowledged.note(244, 200);
        assert_eq!(acknowledged.of(121), 0);
        assert_eq!(acknowledged.of(122), 100);
        assert_eq!(acknowledged.of(243), 100);
        assert_eq!(acknowledged.of(244), 200);
    }

    #[test]
    fn no_more_is_acknowledged_than_was_however_many_batches_wait() {
        let mut acknowledged = Acknowledged::default();
        for n in 1..=10 * MAX_MARKS as u64 {
            acknowledged.note(2 * n, n);
        }
        assert!(acknowledged.marks.len() <= MAX_MARKS);
        for n in (0..=10 * MAX_MARKS as u64).step_by(997) {
            assert!(acknowledged.of(2 * n) <= n);
        }
        let all = 10 * MAX_MARKS as u64;
        assert_eq!(acknowledged.of(2 * all), all);
    }
}
