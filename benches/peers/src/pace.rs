//! Chooses how many frames a run has: enough to make it last about a second.
//!
//! The contestants are too different for one number: what the fastest does in a second takes the
//! slowest a minute. So each first does two short runs that are not part of the results, and from
//! then on has its own number of frames. All figures are per frame or per second.

use std::collections::BTreeMap;

use crate::{
    Failure,
    child::{self, Pin},
    figures::Figures,
    side::Contestant,
    work::Work,
};

/// Bytes of all payloads in the first run. For every size that makes more frames than there are
/// connections.
const FIRST: usize = 4 << 20;

/// The smallest number of frames in a run, so that each connection has some.
const LEAST: u64 = 2_000;

/// Seconds that the second run is to last, and the runs that count.
const SECOND: f64 = 0.2;
const LASTING: f64 = 1.0;

/// The numbers of frames found for a case.
pub(super) struct Pace<'a> {
    work: &'a Work,
    pin: Pin,
    /// Uses the smallest number of frames for every contestant.
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

    /// Runs a contestant once.
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
            let rate = figures
                .get("per_second")
                .ok_or("the run reported no rate")?;
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
