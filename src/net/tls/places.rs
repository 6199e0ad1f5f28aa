//! [`Places`]: how many handshakes are under way, and how much of the processor they take.
//!
//! A stranger can begin a handshake for next to nothing, and the answer takes a node some hundred
//! microseconds. So at most [`MAX_PLACES`] are under way: one more takes the place of the oldest handshake of the
//! ip that has the most. A node that answers at once is done long before.
//! And what costs time is done in turns, on average a quarter of the time of one processor. Handshakes
//! wait for their turn; links that are up do not.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    mem,
    net::IpAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::net::{
    addr::network,
    time::{self, Instant, sleep_until},
    tls::failures::HandshakeFailure,
};

/// The most handshakes at the same time. Each takes some 40 KiB at most: what has arrived of it, and rustls.
const MAX_PLACES: usize = 256;

/// The most of one ip, or IPv6 network of 64 bits. One ip cannot make the others wait for long.
const MAX_OF_NETWORK: usize = 64;

/// Shorter steps did no cryptography and are not counted.
const CHEAP: Duration = Duration::from_micros(50);

/// After a step, handshakes pause for this many times as long as it took.
const SHARE: u32 = 3;

/// Time that may be used without a pause, so that nodes that restart together connect quickly.
const BURST: Duration = Duration::from_millis(20);

/// The longest that one step counts. A thread may have been held up by something else.
const MAX_STEP: Duration = Duration::from_millis(20);

/// The handshakes of one transport.
#[derive(Debug)]
pub(super) struct Places {
    inner: Mutex<Inner>,
    /// Whose turn it is, in the order in which they came.
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they began.
    running: VecDeque<Running>,
    /// How many of each network.
    networks: HashMap<IpAddr, usize>,
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

impl Default for Places {
    fn default() -> Self {
        Places {
            inner: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }
}

impl Places {
    /// Takes a place. If there is none, another handshake gives way.
    pub(super) fn enter(&self, ip: IpAddr) -> Place<'_> {
        let network = network(ip);
        let gives_way = CancellationToken::new();
        let mut inner = self.inner.lock();
        inner.make_room(network);
        inner.begun += 1;
        let number = inner.begun;
        *inner.networks.entry(network).or_default() += 1;
        inner.running.push_back(Running {
            number,
            network,
            gives_way: gives_way.clone(),
        });
        Place {
            places: self,
            number,
            gives_way,
        }
    }
}

impl Inner {
    /// Ends the oldest handshake of a network that has its share, or of the one with most if there is no place at
    /// all.
    fn make_room(&mut self, newcomer: IpAddr) {
        let of_newcomer = self.networks.get(&newcomer).copied().unwrap_or(0);
        let crowded = match of_newcomer >= MAX_OF_NETWORK {
            true => Some(newcomer),
            false if self.running.len() < MAX_PLACES => None,
            false => {
                let most = self.networks.iter().max_by_key(|(_, count)| **count);
                most.map(|(&network, _)| network)
            }
        };
        let oldest = |crowded| self.running.iter().position(|it| it.network == crowded);
        if let Some(at) = crowded.and_then(oldest) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(gone) = self.running.remove(at) else {
            return;
        };
        gone.gives_way.cancel();
        if let Some(count) = self.networks.get_mut(&gone.network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&gone.network);
            }
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
pub(super) struct Place<'p> {
    places: &'p Places,
    number: u64,
    gives_way: CancellationToken,
}

impl Place<'_> {
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
        loop {
            // Never closed.
            let turn = self.places.turn.acquire().await;
            loop {
                let wait = self.places.inner.lock().wait(time::now());
                match wait {
                    Some(until) => sleep_until(until).await,
                    None => break,
                }
            }
            let begun = time::now();
            let made = poll_fn(|cx| Poll::Ready(Pin::new(&mut handshake).poll(cx))).await;
            self.places.inner.lock().spent(begun, begun.elapsed());
            drop(turn);
            match made {
                Poll::Ready(output) => return output,
                Poll::Pending => until_woken().await,
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.places.inner.lock();
        let at = inner.running.iter().position(|it| it.number == self.number);
        if let Some(at) = at {
            inner.remove(at);
        }
    }
}

/// Waits until whatever was polled before in this task wakes it.
async fn until_woken() {
    let mut waited = false;
    poll_fn(|_| match mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_ip_has_its_share_and_one_more_takes_its_oldest_place() {
        let places = Places::default();
        let other = places.enter(ip(1));
        let mut many: Vec<_> = (0..MAX_OF_NETWORK).map(|_| places.enter(ip(2))).collect();
        let still = |place: &Place| !place.gives_way.is_cancelled();
        assert!(many.iter().all(still));
        let one_more = places.enter(ip(2));
        assert!(many[0].gives_way.is_cancelled());
        assert!(many[1..].iter().all(still) && still(&other) && still(&one_more));
        many.clear();
        drop((other, one_more));
        let inner = places.inner.lock();
        assert!(inner.running.is_empty() && inner.networks.is_empty());
    }

    #[test]
    fn if_there_is_no_place_the_oldest_of_the_ip_with_most_gives_way() {
        let places = Places::default();
        let most: Vec<_> = (0..MAX_OF_NETWORK).map(|_| places.enter(ip(1))).collect();
        let others: Vec<_> = (MAX_OF_NETWORK..MAX_PLACES)
            .map(|n| places.enter(ip((n % 100) as u8 + 2)))
            .collect();
        let one_more = places.enter(ip(200));
        assert!(most[0].gives_way.is_cancelled());
        let still = |place: &Place| !place.gives_way.is_cancelled();
        assert!(
            most[1..]
                .iter()
                .chain(&others)
                .chain([&one_more])
                .all(still)
        );
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
