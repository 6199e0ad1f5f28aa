//! Load: threads that send frames, and actors that receive them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::{GroupId, Inbound, Peer, SendError, Transport};
use rustix::time::{ClockId, clock_gettime};

use crate::row::Failure;

/// Returns nanoseconds on a clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

// ---- out ----------------------------------------------------------------------------------------

/// How fast frames are offered.
#[derive(Debug, Copy, Clone)]
pub(crate) enum Pace {
    /// As fast as they are accepted.
    Flat,
    /// This many frames at each interval.
    Each(Duration, u64),
}

/// Result of an offer. After `Stopped` no more offers are accepted.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Offer {
    Taken,
    Full,
    Stopped,
}

/// Offers a frame to a peer.
pub(crate) fn offer(peer: &Peer, group: u32, payload: Vec<u8>) -> Offer {
    outcome(peer.try_send(GroupId::new(group), payload))
}

#[expect(clippy::needless_pass_by_value, reason = "drops a refused payload")]
pub(crate) fn outcome<P>(sent: Result<(), SendError<P>>) -> Offer {
    match sent {
        Ok(()) => Offer::Taken,
        Err(SendError::Full { .. }) => Offer::Full,
        Err(_) => Offer::Stopped,
    }
}

/// A thread that offers frames until it is stopped or the transport has stopped.
pub(crate) struct Offering {
    end: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Offering {
    /// Starts a thread. `send` gets the number of the frame; a refused frame's number is used
    /// again, so that numbers have no gaps.
    pub(crate) fn start(pace: Pace, mut send: impl FnMut(u64) -> Offer + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (taken, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, taken_count, refused_count) = (end.clone(), taken.clone(), refused.clone());
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            let mut number = 0;
            while !stop.load(Relaxed) {
                let at_once = match pace {
                    Pace::Flat => 64,
                    Pace::Each(every, at_once) => {
                        due += every;
                        // A late thread does not catch up: that would be another pace.
                        due = due.max(Instant::now() - every);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        at_once
                    }
                };
                for _ in 0..at_once {
                    match send(number) {
                        Offer::Taken => {
                            number += 1;
                            taken_count.store(number, Relaxed);
                        }
                        Offer::Full => {
                            refused_count.fetch_add(1, Relaxed);
                            if matches!(pace, Pace::Flat) {
                                thread::yield_now();
                            }
                            break;
                        }
                        Offer::Stopped => return,
                    }
                }
            }
        });
        Offering {
            end,
            taken,
            refused,
            thread: Some(thread),
        }
    }

    /// Returns the number of frames accepted so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Returns how often an offer was refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Stops the thread and returns the number of accepted frames.
    pub(crate) fn end(mut self) -> u64 {
        self.join();
        self.taken()
    }

    /// Stops the thread and returns the numbers of accepted and of refused frames.
    pub(crate) fn end_with_refused(mut self) -> (u64, u64) {
        self.join();
        (self.taken(), self.refused())
    }

    fn join(&mut self) {
        self.end.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("this thread does not panic");
        }
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
    }
}

// ---- in -----------------------------------------------------------------------------------------

/// An actor that calls a function for each message.
struct Sink<F>(F);

impl<F: Unpin + 'static> Actor for Sink<F> {
    type Context = Context<Self>;
}

impl<F: FnMut(Inbound) + Unpin + 'static> Handler<Inbound> for Sink<F> {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        (self.0)(inbound);
    }
}

/// Registers one actor for these groups.
pub(crate) fn serve(
    transport: &Transport,
    groups: impl IntoIterator<Item = u32>,
    take: impl FnMut(Inbound) + Unpin + 'static,
) -> Result<(), Failure> {
    let sink = Sink(take).start();
    for group in groups {
        transport.register(GroupId::new(group), sink.clone().recipient())?;
    }
    Ok(())
}

/// The same with the actor on its own thread, for rows that block while they wait for processes.
pub(crate) fn serve_on_own_thread(
    transport: &Transport,
    groups: impl IntoIterator<Item = u32>,
    take: impl FnMut(Inbound) + Send + Unpin + 'static,
) -> Result<(), Failure> {
    let sink = Sink::start_in_arbiter(&Arbiter::new().handle(), move |_| Sink(take));
    for group in groups {
        transport.register(GroupId::new(group), sink.clone().recipient())?;
    }
    Ok(())
}

/// A shared counter.
pub(crate) type Counter = Arc<AtomicU64>;

/// Registers one actor that counts the frames of these groups.
pub(crate) fn count(
    transport: &Transport,
    groups: impl IntoIterator<Item = u32>,
) -> Result<Counter, Failure> {
    let counter = Counter::default();
    let count = counter.clone();
    serve(transport, groups, move |mut inbound| {
        let mut frames = 0;
        while inbound.next_slice().is_some() {
            frames += 1;
        }
        count.fetch_add(frames, Relaxed);
    })?;
    Ok(counter)
}
