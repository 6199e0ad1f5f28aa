//! Which of a sender's frames were received, lost, duplicate or reordered, from the receiver's
//! side.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

/// Follows the frames of one sender for one group by their sequence, which the sender counts
/// without gaps. Needs as much memory for an hour as for a second.
#[derive(Debug)]
pub(crate) struct Track {
    /// One bit for each of the last sequences, from `first` on: set if it was received.
    seen: VecDeque<u64>,
    first: u64,
    lost: Lost,
    /// The next expected sequence of each of the last connections.
    next: HashMap<SocketAddr, u64>,
    connections: VecDeque<SocketAddr>,
    pub(crate) received: u64,
    /// One more than the highest sequence received.
    pub(crate) end: u64,
    pub(crate) duplicates: u64,
    /// Received after a later one of the same connection.
    pub(crate) reordered: u64,
    /// Gaps within the latest connection.
    pub(crate) gaps: u64,
}

/// The frames that were not received.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Lost {
    pub(crate) frames: u64,
    /// Runs of consecutive lost frames.
    pub(crate) runs: u64,
    /// Whether the last sequence counted was lost.
    open: bool,
}

impl Lost {
    fn count(&mut self, word: u64, bits: u64) {
        for bit in 0..bits {
            let lost = word & (1 << bit) == 0;
            self.frames += u64::from(lost);
            self.runs += u64::from(lost && !self.open);
            self.open = lost;
        }
    }
}

impl Default for Track {
    fn default() -> Self {
        Track {
            seen: VecDeque::from(vec![0; Self::WORDS]),
            first: 0,
            lost: Lost::default(),
            next: HashMap::new(),
            connections: VecDeque::new(),
            received: 0,
            end: 0,
            duplicates: 0,
            reordered: 0,
            gaps: 0,
        }
    }
}

impl Track {
    /// How many words of 64 sequences are kept: some 50 s of 5,000 frames a second.
    const WORDS: usize = 4_096;

    /// How many connections are kept. A port number may be used again later.
    const CONNECTIONS: usize = 64;

    pub(crate) fn note(&mut self, from: SocketAddr, sequence: u64) {
        self.received += 1;
        self.end = self.end.max(sequence + 1);
        self.duplicates += u64::from(!self.mark(sequence));
        match self.next.insert(from, sequence + 1) {
            Some(next) if sequence < next => self.reordered += 1,
            // Only for the latest connection: with some 28,000 ports, an older address may
            // meanwhile belong to a new connection.
            Some(next) if sequence > next && self.connections.back() == Some(&from) => {
                self.gaps += 1;
            }
            Some(_) => {}
            None => {
                self.connections.push_back(from);
                if self.connections.len() > Self::CONNECTIONS
                    && let Some(oldest) = self.connections.pop_front()
                {
                    self.next.remove(&oldest);
                }
            }
        }
    }

    /// Marks a sequence as received. Returns whether it is new; one older than the window is not.
    fn mark(&mut self, sequence: u64) -> bool {
        let Some(at) = sequence.checked_sub(self.first) else {
            return false;
        };
        let (mut word, bit) = (at as usize / 64, 1 << (sequence % 64));
        while word >= Self::WORDS {
            let oldest = self.seen.pop_front().unwrap_or(0);
            self.lost.count(oldest, 64);
            self.seen.push_back(0);
            self.first += 64;
            word -= 1;
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    /// Returns the losses among the sequences below `end`.
    pub(crate) fn lost(&self, end: u64) -> Lost {
        let mut lost = self.lost;
        let mut left = end.saturating_sub(self.first);
        for word in &self.seen {
            lost.count(*word, left.min(64));
            left = left.saturating_sub(64);
        }
        // Sequences beyond the highest one received.
        lost.frames += left;
        lost.runs += u64::from(left > 0 && !lost.open);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(number: u16) -> SocketAddr {
        ([127, 0, 0, 1], number).into()
    }

    fn track(received: &[(u16, u64)]) -> Track {
        let mut track = Track::default();
        for (number, sequence) in received {
            track.note(link(*number), *sequence);
        }
        track
    }

    fn faults(track: &Track) -> [u64; 3] {
        [track.duplicates, track.reordered, track.gaps]
    }

    #[test]
    fn frames_in_order_have_no_faults() {
        let track = track(&[(1, 0), (1, 1), (2, 2), (2, 3)]);
        assert_eq!((faults(&track), track.received, track.end), ([0; 3], 4, 4));
        assert_eq!((track.lost(4).frames, track.lost(4).runs), (0, 0));
    }

    #[test]
    fn a_duplicate_is_found_on_any_connection() {
        assert_eq!(faults(&track(&[(1, 0), (1, 1), (2, 1)])), [1, 0, 0]);
    }

    #[test]
    fn order_matters_within_a_connection_and_not_between_two() {
        assert_eq!(faults(&track(&[(1, 1), (1, 0)])), [0, 1, 0]);
        assert_eq!(faults(&track(&[(2, 1), (1, 0)])), [0, 0, 0]);
    }

    #[test]
    fn a_gap_within_a_connection_is_a_fault_and_between_two_is_a_loss() {
        let within = track(&[(1, 0), (1, 2)]);
        assert_eq!(faults(&within), [0, 0, 1]);
        let between = track(&[(1, 0), (2, 5)]);
        assert_eq!(faults(&between), [0; 3]);
        for lost in [within.lost(3), between.lost(6)] {
            assert_eq!(lost.runs, 1);
        }
        assert_eq!((within.lost(3).frames, between.lost(6).frames), (1, 4));
        // What was sent and never received is lost at the end.
        assert_eq!((between.lost(9).frames, between.lost(9).runs), (7, 2));
    }

    #[test]
    fn losses_before_the_window_still_count() {
        let far = 64 * Track::WORDS as u64 + 1_000;
        let mut track = track(&[(1, 0), (1, 1), (2, 3)]);
        for sequence in 4..far {
            track.note(link(2), sequence);
        }
        assert_eq!((track.lost(far).frames, track.lost(far).runs), (1, 1));
        // Before the window, so it counts as a duplicate.
        track.note(link(3), 2);
        assert_eq!(track.duplicates, 1);
    }
}
