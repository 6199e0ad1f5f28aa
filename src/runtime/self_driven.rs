//! [`SelfDriven`]: a future that needs no task. The thread that wakes it also polls it.
//!
//! Made for futures that wait for one thing and then do a little, such as sending the answer of a handler. A task for
//! that would cost another wake-up, on another thread. It must not block and must not need a runtime.

use std::{
    cell::RefCell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::task::{ArcWake, waker_ref};
use parking_lot::Mutex;
use tokio::task::unconstrained;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future that whoever wakes it polls. A panic in it ends it, and nothing else.
pub(crate) struct SelfDriven(Mutex<State>);

enum State {
    Waiting(Work),
    /// A thread polls it, without the lock. Also what it is before that, and when it is ready.
    Polled {
        /// Whether it was woken meanwhile, and must be polled again.
        again: bool,
    },
    /// It was cancelled.
    Over,
}

thread_local! {
    /// What was woken on this thread while another is polled here. It is polled afterwards, not inside: the end of one
    /// may wake the next, and thousands of them would overflow the stack.
    static WOKEN: RefCell<Option<VecDeque<Arc<SelfDriven>>>> = const { RefCell::new(None) };
}

impl SelfDriven {
    /// Makes one that has no future yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(SelfDriven(Mutex::new(State::Polled { again: false })))
    }

    /// Gives it its future, and polls that for the first time, unless it was cancelled. Called once.
    pub(crate) fn start(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        // The budget of a tokio task is none of its business: it is polled in the middle of other tasks.
        self.poll_until_it_waits(Box::pin(unconstrained(work)));
    }

    /// Drops the future, unless it is ready. If a thread polls it now, that thread drops it.
    pub(crate) fn cancel(&self) {
        let state = std::mem::replace(&mut *self.0.lock(), State::Over);
        drop_caught(state);
    }

    /// Polls it, and all that are woken by that on this thread.
    fn poll(self: &Arc<Self>) {
        let is_first = WOKEN.try_with(|woken| match &mut *woken.borrow_mut() {
            Some(woken) => {
                woken.push_back(self.clone());
                false
            }
            woken @ None => {
                *woken = Some(VecDeque::new());
                true
            }
        });
        match is_first {
            Ok(true) => {}
            Ok(false) => return,
            // The thread is ending, and its locals are gone.
            Err(_) => return self.poll_if_it_waits(),
        }
        self.poll_if_it_waits();
        while let Some(next) = next_woken() {
            next.poll_if_it_waits();
        }
    }

    fn poll_if_it_waits(self: &Arc<Self>) {
        let mut state = self.0.lock();
        let work = match std::mem::replace(&mut *state, State::Polled { again: false }) {
            State::Waiting(work) => work,
            State::Polled { .. } => return *state = State::Polled { again: true },
            State::Over => return *state = State::Over,
        };
        drop(state);
        self.poll_until_it_waits(work);
    }

    fn poll_until_it_waits(self: &Arc<Self>, mut work: Work) {
        let waker = waker_ref(self);
        let mut cx = Context::from_waker(&waker);
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx)));
            if !matches!(polled, Ok(Poll::Pending)) {
                // It stays as one that is polled, which nobody polls again.
                return drop_caught(work);
            }
            let mut state = self.0.lock();
            match &*state {
                State::Polled { again: false } => return *state = State::Waiting(work),
                State::Polled { again: true } => *state = State::Polled { again: false },
                State::Waiting(_) | State::Over => {
                    drop(state);
                    return drop_caught(work);
                }
            }
        }
    }
}

impl ArcWake for SelfDriven {
    fn wake_by_ref(this: &Arc<Self>) {
        this.poll();
    }
}

/// Returns what is to be polled next on this thread. If nothing is, what is woken next is polled at once.
fn next_woken() -> Option<Arc<SelfDriven>> {
    WOKEN.with_borrow_mut(|woken| {
        let next = woken.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *woken = None;
        }
        next
    })
}

/// Drops what may hold values of users, whose `Drop` may panic.
fn drop_caught(value: impl Sized) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn the_thread_that_wakes_it_does_its_work() {
        let (tell, told) = oneshot::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        SelfDriven::new().start(async move {
            let said: u32 = told.await.expect("said");
            done.send((said, std::thread::current().id()))
                .expect("heard");
        });
        assert!(is_done.try_recv().is_err(), "nothing was said yet");
        let thread = std::thread::spawn(move || tell.send(7).expect("waits"));
        let other = thread.thread().id();
        thread.join().expect("no panic");
        assert_eq!(is_done.try_recv(), Ok((7, other)));
    }

    #[test]
    fn one_that_wakes_itself_is_polled_again() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let work = poll_fn(move |cx| match counted.fetch_add(1, SeqCst) {
            0..3 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        });
        SelfDriven::new().start(work);
        assert_eq!(polls.load(SeqCst), 4);
    }

    #[test]
    fn one_that_is_woken_by_another_thread_while_it_is_polled_is_polled_again() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let work = poll_fn(move |cx| match counted.fetch_add(1, SeqCst) {
            0 => {
                let waker = cx.waker().clone();
                let woken = std::thread::spawn(move || waker.wake()).join();
                woken.expect("no panic");
                Poll::Pending
            }
            _ => Poll::Ready(()),
        });
        SelfDriven::new().start(work);
        assert_eq!(polls.load(SeqCst), 2);
    }

    #[test]
    fn a_long_row_of_which_each_wakes_the_next_needs_no_deep_stack() {
        let (mut last, heard) = oneshot::channel::<()>();
        for _ in 0..100_000 {
            let (tell, told) = oneshot::channel();
            let next = std::mem::replace(&mut last, tell);
            SelfDriven::new().start(async move {
                told.await.expect("said");
                let _ = next.send(());
            });
        }
        last.send(()).expect("waits");
        assert_eq!(heard.blocking_recv(), Ok(()));
    }

    #[test]
    fn a_panic_or_a_cancel_ends_it_and_drops_what_it_holds() {
        let (held, is_held) = oneshot::channel::<()>();
        let panics = SelfDriven::new();
        panics.start(async move {
            let _held = held;
            panic!("caused by this test");
        });
        panics.poll();
        assert!(is_held.blocking_recv().is_err());
        let (held, is_held) = oneshot::channel::<()>();
        let waits = SelfDriven::new();
        waits.start(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        waits.cancel();
        waits.poll();
        assert!(is_held.blocking_recv().is_err());
    }
}
