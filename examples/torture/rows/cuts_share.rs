//! What a sender of the row `cuts` sends, and what happens to its connections.

use std::time::Duration;

use crate::proxy::{CUTS, Cut, OnAccept, Pace, Plan};

/// The first connection is cut after this many bytes at least.
const FIRST_CUT: u64 = 1 << 20;

/// The work of one sender.
#[derive(Debug, Copy, Clone)]
pub(super) struct Share {
    pub(super) seed: u64,
    pub(super) frames: u64,
    pub(super) cuts: u64,
    /// Bytes of a connection before its first frame, or a few more.
    pub(super) handshake: u64,
}

impl Share {
    /// Returns a random generator for a number that is the same at every call.
    pub(super) fn draw(&self, id: u8, what: u64, number: u64) -> fastrand::Rng {
        let seed = self.seed ^ u64::from(id) << 56 ^ what << 48 ^ number;
        fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Returns the length of a frame on the wire: from 8 B to 256 KiB of payload. Most are short,
    /// so that a million frames take about a minute.
    pub(super) fn len(&self, id: u8, sequence: u64) -> u64 {
        let mut draw = self.draw(id, 1, sequence);
        let (shortest, longest) = match draw.u32(..1000) {
            0..900 => (8, 256),
            900..995 => (256, 8 << 10),
            _ => (8 << 10, 256 << 10),
        };
        // Logarithmic: as many lengths between 1 and 2 as between 100 and 200.
        let doublings = f64::log2(f64::from(longest) / f64::from(shortest)) * draw.f64();
        8 + (f64::from(shortest) * doublings.exp2()) as u64
    }

    /// Returns what happens to a connection.
    pub(super) fn plan(&self, id: u8, number: u64, cuts_left: bool) -> Plan {
        if !cuts_left {
            return Plan::default();
        }
        let mut draw = self.draw(id, 2, number);
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        // A frame has some 700 bytes on average. The frames that resets lose are not in this
        // calculation, so the cuts must be closer together.
        let apart = self.frames * 500 / self.cuts;
        let after = match draw.u32(..4) {
            // Within the handshake or the first frames.
            0 => draw.u64(..self.handshake + 100),
            _ => draw.u64(..2 * apart),
        };
        let (on_accept, pace, after) = match draw.u32(..100) {
            // Long enough for the first frame.
            _ if number == 0 => (OnAccept::Forward, Pace::Free, FIRST_CUT.max(after)),
            0..3 => (OnAccept::Close, Pace::Free, after),
            3..5 => (
                OnAccept::Forward,
                Pace::OneByOne,
                after.min(self.handshake + 300),
            ),
            5..8 => (
                OnAccept::Forward,
                Pace::Jitter(Duration::from_millis(2)),
                after,
            ),
            8..10 => (OnAccept::Forward, Pace::Throttle(4 << 20), after),
            _ => (OnAccept::Forward, Pace::Free, after),
        };
        Plan {
            on_accept,
            pace,
            cut: Some(Cut {
                after,
                ending,
                side,
            }),
            ..Plan::default()
        }
    }
}

/// The paces of connections, for the figures.
pub(super) const PACE_NAMES: [&str; 4] = ["free", "byte by byte", "throttled", "with jitter"];

/// Returns the index of a pace in [`PACE_NAMES`].
pub(super) fn pace_index(pace: Pace) -> usize {
    match pace {
        Pace::Free => 0,
        Pace::OneByOne => 1,
        Pace::Throttle(_) => 2,
        Pace::Jitter(_) => 3,
    }
}
