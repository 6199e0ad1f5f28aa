//! How many frames a run has: as many as make it last about a second.
//!
//! The contestants are too far apart for one number: what takes the fastest a second takes the
//! slowest a minute. So each does two short runs first, which are not told, and from then on has its
//! own number of frames. All figures are by frame or by second.

use std::collections::BTreeMap;

use crate::{
    Failure,
    child::{self, Pin},
    figures::Figures,
    side::Contestant,
    work::Work,
};

/// Bytes of the payloads of the first run; more frames than connections, whatever the size.
const FIRST: usize = 4 << 20;

/// The least of any run, as there must be some on each connection.
const LEAST: u64 = 2_000;

/// Seconds that the second run is to last, and those that count.
const SECOND: f64 = 0.2;
const LASTING: f64 = 1.0;

/// What was found out for a case.
pub(super) struct Pace<'a> {
    work: &'a Work,
    pin: Pin,
    /// Only the first run's frames, whatever the contestant.
    quick: bool,
    frames: BTreeMap<Contestant, u64>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(work: &'a Work, quick: bool) -> Self {
        Pace {
            work,
            pin: Pin::new(false),
            quick,
            frames: BTreeMap::new(),
        }
    }

    /// Lets a contestant do its work once.
    pub(super) fn run(&mut self, contestant: Contestant) -> Result<Figures, Failure> {
        let frames = match self.frames.get(&contestant) {
            Some(&frames) => frames,
            None => self.find(contestant)?,
        };
        self.frames.insert(contestant, frames);
        let figures = self.run_with(contestant, frames)?;
        Ok(figures.with("frames", frames as f64))
    }

    fn find(&self, contestant: Contestant) -> Result<u64, Failure> {
        let first = (FIRST / self.work.size) as u64;
        let mut frames = first.max(LEAST);
        if self.quick {
            return Ok(LEAST);
        }
        for seconds in [SECOND, LASTING] {
            let figures = self.run_with(contestant, frames)?;
            let rate = figures.get("per_second").ok_or("told no rate")?;
            frames = LEAST.max((rate * seconds) as u64);
        }
        Ok(frames)
    }

    fn run_with(&self, contestant: Contestant, frames: u64) -> Result<Figures, Failure> {
        let work = Work {
            frames,
            ..self.work.clone()
        };
        child::run(contestant, &work, &self.pin)
    }
}
