//! Drops what goes stale in a queue while nobody takes from it.

use std::future::{Future, pending, poll_fn};

use crate::{
    net::{
        clock::{CoarseInstant, EXPIRY_SLACK},
        time::sleep,
    },
    observe::stats::Dropped,
    send::queue::SendQueue,
};

/// Runs `work` to its end. Meanwhile drops the frames that go stale in `queue`, and reports them.
pub(crate) async fn expire_while<To: Copy + Eq, F: Future>(
    queue: &SendQueue<To>,
    report: impl Fn(Dropped),
    work: F,
) -> F::Output {
    let expire = || report(queue.expire(CoarseInstant::now()));
    // Also at the start: if this function is called again and again and `work` always ends soon, the
    // timer below never fires.
    expire();
    let expiring = async {
        loop {
            match queue.next_expiry(CoarseInstant::now()) {
                Some(expiry) => tokio::select! {
                    () = sleep(expiry.saturating_add(EXPIRY_SLACK)) => {}
                    () = poll_fn(|cx| queue.poll_sooner(cx)) => {}
                },
                None => poll_fn(|cx| queue.poll_ready(cx)).await,
            }
            expire();
            // `poll_ready` returns at once on a queue that has ended, so looking again would spin.
            if queue.is_done() {
                pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        output = work => output,
        never = expiring => never,
    }
}
