//! [`Turns`]: how many frames a connection hands over before other tasks get their turn.
//!
//! A read often brings many calls, or many answers whose callers call again at once. If all of them were handed over in
//! one turn, this node would compute while the far end waits, and then the other way round. In halves, what the first
//! half brings about is written before the second half is looked at, and both ends compute at the same time: with 64
//! calls on their way, nearly twice as many are answered in the same time. Each turn costs a write and a wake-up, which
//! few frames do not pay for.

use std::{future::poll_fn, mem, task::Poll};

use tokio::task::yield_now;

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
    /// Begins with what was read: so many bytes. If `first` is not zero, it is the length of the first frame, and the
    /// others are taken to be as long.
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

    /// Lets others go first, when a turn is over.
    ///
    /// After the first turn of a read, those are the tasks of this thread that are to run now. That leaves out what another
    /// thread has woken meanwhile, and does not ask the system what else has come, which took 3 % of a caller's time. Most
    /// reads have no more than two turns. After further ones, it is everybody.
    pub(super) async fn others_first(&self) {
        match self.handed_over == self.per_turn {
            true => behind_the_others().await,
            false => yield_now().await,
        }
    }
}

/// Is ready when this task has gone to the end of the line.
async fn behind_the_others() {
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
    use std::{cell::Cell, rc::Rc};

    use tokio::task::{LocalSet, spawn_local};

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

    #[test]
    fn where_the_first_frame_says_nothing_turns_are_short_or_long() {
        let mut turns = Turns::of_read(100, 100);
        assert_eq!((1..).find(|_| turns.is_over()), Some(FEWEST));
        let mut turns = Turns::of_read(0, 0);
        assert_eq!((1..).find(|_| turns.is_over()), Some(FEWEST));
        let mut turns = Turns::of_read(5_000, 0);
        assert_eq!((1..).find(|_| turns.is_over()), Some(MOST));
    }

    #[tokio::test]
    async fn others_go_first_and_after_the_first_turn_also_those_that_another_thread_has_woken() {
        let on_one_thread = async {
            let mut turns = Turns::of_read(3_200, 100);
            let gone = Rc::new(Cell::new(0));
            for turn in 1..=2 {
                let (wake, woken) = tokio::sync::oneshot::channel();
                let (counted, counted_too) = (gone.clone(), gone.clone());
                spawn_local(async move {
                    let () = woken.await.expect("is woken");
                    counted.set(counted.get() + 10);
                });
                tokio::task::yield_now().await;
                std::thread::spawn(move || wake.send(()).expect("waits"))
                    .join()
                    .expect("no panic");
                spawn_local(async move { counted_too.set(counted_too.get() + 1) });
                while !turns.is_over() {}
                turns.others_first().await;
                let all = gone.replace(0);
                assert!(all == 11 || turn == 1 && all == 1, "turn {turn}: {all}");
                tokio::task::yield_now().await;
                gone.set(0);
            }
        };
        let set = LocalSet::new();
        let task = set.spawn_local(on_one_thread);
        set.run_until(task).await.expect("no panic");
    }
}
