//! What became of a sender's frames on the way, seen from where they come.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

/// What became of the frames of one sender for one group, by their sequence, which has no gaps when
/// it is sent. Takes as much memory for an hour as for a second.
#[derive(Debug)]
pub(crate) struct Track {
    /// Which of the last sequences came, a bit for each, from `first` on.
    seen: VecDeque<u64>,
    first: u64,
    lost: Lost,
    /// What is expected next on each of the last connections.
    next: HashMap<SocketAddr, u64>,
    links: VecDeque<SocketAddr>,
    pub(crate) came: u64,
    /// One more than the highest sequence that came.
    pub(crate) end: u64,
    pub(crate) doubled: u64,
    /// Came behind a later one of the same connection.
    pub(crate) disordered: u64,
    /// Gaps in the middle of the latest connection.
    pub(crate) holes: u64,
}

/// What did not come.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Lost {
    pub(crate) frames: u64,
    /// Runs of frames that they make.
    pub(crate) runs: u64,
    /// Whether the last one looked at is one.
    open: bool,
}

impl Lost {
    fn look(&mut self, word: u64, bits: u64) {
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
            links: VecDeque::new(),
            came: 0,
            end: 0,
            doubled: 0,
            disordered: 0,
            holes: 0,
        }
    }
}

impl Track {
    /// Words of 64 sequences that are looked back to: some 50 s of 5,000 frames a second.
    const WORDS: usize = 4_096;

    /// Connections that are looked back to. Ports come round again some day.
    const LINKS: usize = 64;

    pub(crate) fn note(&mut self, from: SocketAddr, sequence: u64) {
        self.came += 1;
        self.end = self.end.max(sequence + 1);
        self.doubled += u64::from(!self.mark(sequence));
        match self.next.insert(from, sequence + 1) {
            Some(next) if sequence < next => self.disordered += 1,
            // One that others have followed may be another by now, with its port: there are some
            // 28,000, and this many are looked back to.
            Some(next) if sequence > next && self.links.back() == Some(&from) => self.holes += 1,
            Some(_) => {}
            None => {
                self.links.push_back(from);
                if self.links.len() > Self::LINKS
                    && let Some(oldest) = self.links.pop_front()
                {
                    self.next.remove(&oldest);
                }
            }
        }
    }

    /// Says whether it was not there, as far as is known.
    fn mark(&mut self, sequence: u64) -> bool {
        let Some(at) = sequence.checked_sub(self.first) else {
            return false;
        };
        let (mut word, bit) = (at as usize / 64, 1 << (sequence % 64));
        while word >= Self::WORDS {
            let oldest = self.seen.pop_front().unwrap_or(0);
            self.lost.look(oldest, 64);
            self.seen.push_back(0);
            self.first += 64;
            word -= 1;
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    /// What did not come of the sequences below `end`.
    pub(crate) fn lost(&self, end: u64) -> Lost {
        let mut lost = self.lost;
        let mut left = end.saturating_sub(self.first);
        for word in &self.seen {
            lost.look(*word, left.min(64));
            left = left.saturating_sub(64);
        }
        // Farther than anything that came.
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

    fn track(came: &[(u16, u64)]) -> Track {
        let mut track = Track::default();
        for (number, sequence) in came {
            track.note(link(*number), *sequence);
        }
        track
    }

    fn found(track: &Track) -> [u64; 3] {
        [track.doubled, track.disordered, track.holes]
    }

    #[test]
    fn what_comes_in_order_is_well() {
        let track = track(&[(1, 0), (1, 1), (2, 2), (2, 3)]);
        assert_eq!((found(&track), track.came, track.end), ([0; 3], 4, 4));
        assert_eq!((track.lost(4).frames, track.lost(4).runs), (0, 0));
    }

    #[test]
    fn what_comes_twice_is_seen_on_whatever_link() {
        assert_eq!(found(&track(&[(1, 0), (1, 1), (2, 1)])), [1, 0, 0]);
    }

    #[test]
    fn what_comes_late_is_seen_on_its_link_and_forgiven_across_two() {
        assert_eq!(found(&track(&[(1, 1), (1, 0)])), [0, 1, 0]);
        assert_eq!(found(&track(&[(2, 1), (1, 0)])), [0, 0, 0]);
    }

    #[test]
    fn a_gap_within_a_link_is_a_hole_and_one_between_two_is_a_loss() {
        let within = track(&[(1, 0), (1, 2)]);
        assert_eq!(found(&within), [0, 0, 1]);
        let between = track(&[(1, 0), (2, 5)]);
        assert_eq!(found(&between), [0; 3]);
        for lost in [within.lost(3), between.lost(6)] {
            assert_eq!(lost.runs, 1);
        }
        assert_eq!((within.lost(3).frames, between.lost(6).frames), (1, 4));
        // What was sent and never came is lost at the end.
        assert_eq!((between.lost(9).frames, between.lost(9).runs), (7, 2));
    }

    #[test]
    fn losses_are_remembered_when_the_window_has_moved_on() {
        let far = 64 * Track::WORDS as u64 + 1_000;
        let mut track = track(&[(1, 0), (1, 1), (2, 3)]);
        for sequence in 4..far {
            track.note(link(2), sequence);
        }
        assert_eq!((track.lost(far).frames, track.lost(far).runs), (1, 1));
        // Too old to be told from one that came already.
        track.note(link(3), 2);
        assert_eq!(track.doubled, 1);
    }
}
