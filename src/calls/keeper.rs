//! Ends calls that are too late.

use std::future::poll_fn;

use futures::future::OptionFuture;

use crate::{
    calls::expire::Expire,
    net::time::{self, sleep_until},
};

/// Ends the calls that are too late, until this future is dropped. A caller may be on any runtime, or on none that has
/// timers, so the deadlines are kept here.
pub(crate) async fn keep_deadlines(calls: &impl Expire) {
    loop {
        let next = calls.expire(time::now()).map(sleep_until);
        tokio::select! {
            () = poll_fn(|cx| calls.poll_sooner(cx)) => {}
            Some(()) = OptionFuture::from(next) => {}
        }
    }
}
