//! A future that needs no task: the thread that wakes its [`Owner`] also polls it.
//!
//! Made for futures that wait for one thing and then do a little, such as sending the answer of a handler. A task for
//! that would cost another wake-up, on another thread. It must not block and must not need a runtime. A panic in it ends
//! it, and nothing else.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use futures::task::{ArcWake, waker_ref};
use tokio::task::unconstrained;

use crate::runtime::work_slot::{Work, WorkSlot, drop_caught};

/// What has the future in it, and calls [`wake`] when it is woken. So both take one piece of memory.
pub(crate) trait Owner: ArcWake + 'static {
    fn work(&self) -> &WorkSlot;
}

/// An owner of a future that belongs to nothing else.
pub(crate) struct Alone(WorkSlot);

/// An owner that was woken, of whatever type.
trait Woken {
    fn poll(self: Arc<Self>);
}

thread_local! {
    /// What was woken on this thread while another is polled here. It is polled afterwards, not inside: the end of one
    /// may wake the next, and thousands of them would overflow the stack.
    static WOKEN: RefCell<Option<VecDeque<Arc<dyn Woken>>>> = const { RefCell::new(None) };
}

/// Gives the owner its future, and polls that for the first time. Called once.
pub(crate) fn start<O: Owner>(owner: &Arc<O>, work: impl Future<Output = ()> + Send + 'static) {
    // The budget of a tokio task is none of its business: it is polled in the middle of other tasks.
    poll_until_it_waits(owner, Box::pin(unconstrained(work)));
}

/// Polls the owner's future, and all that are woken by that on this thread.
pub(crate) fn wake<O: Owner>(owner: &Arc<O>) {
    let is_first = WOKEN.try_with(|woken| match &mut *woken.borrow_mut() {
        Some(woken) => {
            woken.push_back(owner.clone());
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
        Err(_) => return poll_if_it_waits(owner),
    }
    poll_if_it_waits(owner);
    while let Some(next) = next_woken() {
        // If this is the last that holds it, it is dropped, too.
        let _ = catch_unwind(AssertUnwindSafe(|| next.poll()));
    }
}

fn poll_if_it_waits<O: Owner>(owner: &Arc<O>) {
    if let Some(work) = owner.work().take() {
        poll_until_it_waits(owner, work);
    }
}

fn poll_until_it_waits<O: Owner>(owner: &Arc<O>, mut work: Work) {
    let waker = waker_ref(owner);
    let mut cx = Context::from_waker(&waker);
    loop {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx)));
        if !matches!(polled, Ok(Poll::Pending)) {
            // Its slot stays empty, so nobody polls it again.
            return drop_caught(work);
        }
        match owner.work().put(work) {
            Some(again) => work = again,
            None => return,
        }
    }
}

/// Returns what is to be polled next on this thread. If nothing is, what is woken next is polled at once.
fn next_woken() -> Option<Arc<dyn Woken>> {
    WOKEN.with_borrow_mut(|woken| {
        let next = woken.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *woken = None;
        }
        next
    })
}

impl<O: Owner> Woken for O {
    fn poll(self: Arc<Self>) {
        poll_if_it_waits(&self);
    }
}

impl Alone {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Alone(WorkSlot::new()))
    }
}

impl Owner for Alone {
    fn work(&self) -> &WorkSlot {
        &self.0
    }
}

impl ArcWake for Alone {
    fn wake_by_ref(this: &Arc<Self>) {
        wake(this);
    }
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
        start(&Alone::new(), async move {
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
        start(&Alone::new(), work);
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
        start(&Alone::new(), work);
        assert_eq!(polls.load(SeqCst), 2);
    }

    #[test]
    fn a_long_row_of_which_each_wakes_the_next_needs_no_deep_stack() {
        let (mut last, heard) = oneshot::channel::<()>();
        for _ in 0..100_000 {
            let (tell, told) = oneshot::channel();
            let next = std::mem::replace(&mut last, tell);
            start(&Alone::new(), async move {
                told.await.expect("said");
                let _ = next.send(());
            });
        }
        last.send(()).expect("waits");
        assert_eq!(heard.blocking_recv(), Ok(()));
    }

    #[test]
    fn one_that_is_cancelled_while_it_is_polled_is_dropped_then() {
        let (held, mut is_held) = oneshot::channel::<()>();
        let cancelled = Alone::new();
        let owner = cancelled.clone();
        start(&cancelled, async move {
            let _held = held;
            owner.0.cancel();
            std::future::pending::<()>().await;
        });
        assert_eq!(
            is_held.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }

    #[test]
    fn a_panic_or_a_cancel_ends_it_and_drops_what_it_holds() {
        let (held, is_held) = oneshot::channel::<()>();
        let panics = Alone::new();
        start(&panics, async move {
            let _held = held;
            panic!("caused by this test");
        });
        wake(&panics);
        assert!(is_held.blocking_recv().is_err());
        let (held, is_held) = oneshot::channel::<()>();
        let waits = Alone::new();
        start(&waits, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        waits.0.cancel();
        wake(&waits);
        assert!(is_held.blocking_recv().is_err());
    }
}
