//! The rules of `Config::group_share` a second time, for the queue that is a list.

use actix_transport::{Count, Overflow};

use super::list::{Frame, InLine, List, Refused, count, sum};

impl List {
    /// Whether frames of its own group must make way, if it may enter their share.
    pub(super) fn admit_to_share(&self, frame: &Frame) -> Result<bool, Refused> {
        let lacks = |used| self.lacks_share(frame.len(), used);
        let [used, lent, let_on] = self.of_group(frame);
        let held_back = |waits: &&InLine| !waits.let_on && waits.frame.group() == frame.group();
        let held_back = sum(self.line.iter().filter(held_back).map(|waits| &waits.frame));
        if !lacks(used + let_on + held_back) {
            return Ok(false);
        }
        let evicts = self.config.overflow == Overflow::DropOldest;
        match evicts && held_back.frames == 0 && !lacks(lent + let_on) {
            true => Ok(true),
            false => Err(Refused::Share),
        }
    }

    /// Lets on those whose groups have room, of each group the first of them first.
    pub(super) fn let_on(&mut self) {
        let mut held_back = Vec::new();
        for place in 0..self.line.len() {
            let frame = self.line[place].frame;
            if !self.open || self.line[place].let_on || held_back.contains(&frame.group()) {
                continue;
            }
            let [used, lent, reserved] = self.of_group(&frame);
            if self.lacks_share(frame.len(), used + reserved) {
                let evicts = self.config.overflow == Overflow::DropOldest;
                if !evicts || self.lacks_share(frame.len(), lent + reserved) {
                    held_back.push(frame.group());
                    continue;
                }
                self.evict_own(&frame);
            }
            self.line[place].let_on = true;
        }
    }

    /// What the frame's group has: queued or lent, lent alone, and room for those who wait and were let on.
    fn of_group(&self, frame: &Frame) -> [Count; 3] {
        let own = |other: &&Frame| other.group() == frame.group();
        let used = self.queued.iter().chain(&self.lent).filter(own);
        let let_on = self.line.iter().filter(|waits| waits.let_on);
        let let_on = let_on.map(|waits| &waits.frame).filter(own);
        [sum(used), sum(self.lent.iter().filter(own)), sum(let_on)]
    }

    /// Whether the share of a group that has `used` does not hold a frame of `len` bytes as well.
    fn lacks_share(&self, len: usize, used: Count) -> bool {
        let part = |bound: usize| (bound as f64 * self.config.group_share).round() as usize;
        let frames = part(self.config.queue_frames).max(1);
        let bytes = part(self.config.queue_bytes);
        self.config.group_share < 1.0
            && used.frames > 0
            && (used.frames as usize >= frames || used.bytes as usize + len > bytes)
    }

    /// Drops the oldest of the frame's group until its share has room.
    pub(super) fn evict_own(&mut self, frame: &Frame) {
        loop {
            let [used, _, reserved] = self.of_group(frame);
            if !self.lacks_share(frame.len(), used + reserved) {
                return;
            }
            let own = |queued: &Frame| queued.group() == frame.group();
            let oldest = self.queued.iter().position(own).expect("checked before");
            let oldest = self.queued.remove(oldest).expect("it was found");
            self.stats.dropped.overflow += count(oldest.len());
        }
    }
}
