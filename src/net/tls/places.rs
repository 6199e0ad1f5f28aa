//! [`Places`]: how many handshakes are under way, and how much of the processor they take.
//!
//! A stranger can begin a handshake for next to nothing, and the answer takes a node some hundred
//! microseconds. So at most [`MAX_PLACES`] are under way: one more takes the place of the oldest handshake of the
//! ip that has the most. A node that answers at once is done long before.
//! And what costs time is done in turns, on average a quarter of the time of one processor. Handshakes
//! wait for their turn; links that are up do not.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::net::{
    addr::network,
    time::{self, Instant, Sleep, sleep_until},
    tls::failures::HandshakeFailure,
};

/// The most handshakes at the same time. Each takes some 40 KiB at most: what has arrived of it, and rustls.
const MAX_PLACES: usize = 256;

/// Shorter steps did no cryptography and are not counted.
const CHEAP: Duration = Duration::from_micros(50);

/// After a step, handshakes pause for this many times as long as it took.
const SHARE: u32 = 3;

/// Time that may be used without a pause, so that nodes that restart together connect quickly.
const BURST: Duration = Duration::from_millis(20);

/// The longest that one step counts. A thread may have been held up by something else.
const MAX_STEP: Duration = Duration::from_millis(2);

/// The handshakes of one transport. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they began.
    running: Vec<Running>,
    begun: u64,
    /// When the next step may be made, if it is later than now.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    number: u64,
    network: IpAddr,
    gives_way: CancellationToken,
}

impl Places {
    /// Takes a place. If there is none, another handshake gives way.
    pub(super) fn enter(&self, ip: IpAddr) -> Place {
        let mut inner = self.0.lock();
        if inner.running.len() >= MAX_PLACES {
            inner.make_room();
        }
        inner.begun += 1;
        let number = inner.begun;
        let gives_way = CancellationToken::new();
        inner.running.push(Running {
            number,
            network: network(ip),
            gives_way: gives_way.clone(),
        });
        Place {
            places: self.clone(),
            number,
            gives_way,
        }
    }
}

impl Inner {
    /// Ends the oldest handshake of the network that has most.
    fn make_room(&mut self) {
        let count = |network| {
            let same = self.running.iter().filter(|it| it.network == network);
            same.count()
        };
        // Of those with the same number of handshakes, the first in this order is the oldest.
        let most = self.running.iter().map(|it| count(it.network)).max();
        let oldest = self
            .running
            .iter()
            .position(|it| Some(count(it.network)) == most);
        if let Some(oldest) = oldest {
            self.running.remove(oldest).gives_way.cancel();
        }
    }

    /// Returns when the next step may be made. `None`: now.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        let next = self.next.filter(|&next| next > now + BURST)?;
        Some(next - BURST)
    }

    /// Notes how long a step took.
    fn spent(&mut self, now: Instant, took: Duration) {
        if took >= CHEAP {
            let begin = self.next.map_or(now, |next| next.max(now));
            self.next = Some(begin + (SHARE + 1) * took.min(MAX_STEP));
        }
    }
}

/// One handshake that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    gives_way: CancellationToken,
}

impl Place {
    /// Waits for the handshake until `limit`, and while it need not give way.
    pub(super) async fn within<T, E: From<HandshakeFailure>>(
        &self,
        limit: Instant,
        handshake: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            () = self.gives_way.cancelled() => Err(HandshakeFailure::Crowded.into()),
            done = handshake => done,
            () = sleep_until(limit) => Err(HandshakeFailure::TimedOut.into()),
        }
    }

    /// Makes the steps of a handshake in turn with those of others.
    pub(super) async fn in_turn<F: Future + Unpin>(&self, mut handshake: F) -> F::Output {
        let mut wait: Option<Pin<Box<Sleep>>> = None;
        let step = |cx: &mut Context<'_>| {
            loop {
                if let Some(turn) = &mut wait {
                    ready!(turn.as_mut().poll(cx));
                    wait = None;
                }
                let now = time::now();
                match self.places.0.lock().wait(now) {
                    Some(until) => wait = Some(Box::pin(sleep_until(until))),
                    None => break,
                }
            }
            let begun = time::now();
            let made = Pin::new(&mut handshake).poll(cx);
            self.places.0.lock().spent(begun, begun.elapsed());
            made
        };
        poll_fn(step).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.places.0.lock();
        inner.running.retain(|it| it.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_more_takes_the_oldest_place_of_the_ip_that_has_most() {
        let places = Places::default();
        let other = places.enter(ip(1));
        let mut many: Vec<_> = (1..MAX_PLACES).map(|_| places.enter(ip(2))).collect();
        let one_more = places.enter(ip(3));
        assert!(many[0].gives_way.is_cancelled());
        let still = |place: &Place| !place.gives_way.is_cancelled();
        assert!(many[1..].iter().all(still) && still(&other) && still(&one_more));
        many.clear();
        drop((other, one_more));
        assert!(places.0.lock().running.is_empty());
    }

    #[test]
    fn steps_take_a_quarter_of_the_time_after_a_burst() {
        let mut inner = Inner::default();
        let begin = time::now();
        let (mut now, step) = (begin, Duration::from_micros(300));
        for _ in 0..1_000 {
            now = inner.wait(now).unwrap_or(now).max(now);
            inner.spent(now, step);
            now += step;
        }
        let took = now - begin;
        assert!(took + BURST + 4 * step >= 4_000 * step, "{took:?}");
        assert!(took <= 4_100 * step, "{took:?}");
        inner.spent(now, Duration::from_micros(1));
        assert!(inner.wait(now + Duration::from_secs(1)).is_none());
    }
}
