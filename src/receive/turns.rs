//! [`Turns`]: how many frames a connection hands over before other tasks get their turn.
//!
//! A read often brings many calls, or many answers whose callers call again at once. If all of them were handed over in
//! one turn, this node would compute while the far end waits, and then the other way round. In two turns, what the
//! first half brings about is written before the second half is looked at, and both ends compute at the same time: with
//! 64 calls on their way, nearly twice as many are answered in the same time. Each turn costs a write and a wake-up,
//! which few frames do not pay for.

use std::{future::poll_fn, mem, task::Poll};

/// With fewer frames than this, a turn does not pay for the write.
const FEWEST: usize = 16;

/// After so many frames in a row, others get their turn in any case.
const MOST: usize = 64;

/// The turns in which a connection hands over the frames that it does not collect for a group.
#[derive(Debug)]
pub(super) struct Turns {
    per_turn: usize,
    handed_over: usize,
}

impl Turns {
    /// Begins with what was read: so many bytes, of which so many are its first frame. The others are taken to be as
    /// long.
    pub(super) fn of_read(bytes: usize, first: usize) -> Self {
        let frames = bytes / first.max(1);
        let per_turn = match frames < 2 * FEWEST {
            true => frames,
            false => frames.div_ceil(2),
        };
        Turns {
            per_turn: per_turn.clamp(FEWEST, MOST),
            handed_over: 0,
        }
    }

    /// Notes that a frame was handed over. Returns whether the turn is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.handed_over += 1;
        self.handed_over.is_multiple_of(self.per_turn)
    }
}

/// Lets the tasks go first that are to run now. Unlike tokio's `yield_now` this does not ask the system what else has
/// come, which would cost as much as handing over three calls. The runtime does that by itself after so many tasks.
pub(super) async fn others_first() {
    let mut has_waited = false;
    poll_fn(|cx| match mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many frames each turn has, of a read with so many frames of 100 bytes.
    fn cut(frames: usize) -> Vec<usize> {
        let mut turns = Turns::of_read(frames * 100, 100);
        let mut cut = vec![0];
        for _ in 0..frames {
            *cut.last_mut().expect("has one") += 1;
            if turns.is_over() {
                cut.push(0);
            }
        }
        cut
    }

    #[test]
    fn few_frames_are_one_turn_and_more_are_halves_of_at_most_64() {
        assert_eq!(cut(1), [1]);
        assert_eq!(cut(31), [31, 0]);
        assert_eq!(cut(32), [16, 16, 0]);
        assert_eq!(cut(65), [33, 32]);
        assert_eq!(cut(128), [64, 64, 0]);
        assert_eq!(cut(150), [64, 64, 22]);
    }

    #[tokio::test]
    async fn others_go_first() {
        let other = tokio::spawn(async {});
        others_first().await;
        assert!(other.is_finished());
    }

    #[test]
    fn a_long_first_frame_does_not_cut_the_others_into_pieces() {
        let mut turns = Turns::of_read(100, 100);
        assert_eq!((1..).find(|_| turns.is_over()), Some(FEWEST));
        let mut turns = Turns::of_read(0, 0);
        assert_eq!((1..).find(|_| turns.is_over()), Some(FEWEST));
    }
}
