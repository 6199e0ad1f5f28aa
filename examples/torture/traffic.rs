//! Traffic: threads that offer frames, actors that take them, and what became of each sequence on
//! the way.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
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

/// Now, in nanoseconds, on the clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

// ---- out -----------------------------------------------------------------------------------------

/// How fast frames are offered.
#[derive(Debug, Copy, Clone)]
pub(crate) enum Pace {
    /// As fast as they are taken.
    Flat,
    /// So many at a time, every so often.
    Each(Duration, u64),
}

/// What became of an offer. Nobody takes what is offered after `Stopped`.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Offer {
    Taken,
    Full,
    Stopped,
}

/// What a peer said to a frame.
pub(crate) fn offer(peer: &Peer, group: u32, payload: Vec<u8>) -> Offer {
    said(peer.try_send(GroupId::new(group), payload))
}

#[expect(clippy::needless_pass_by_value, reason = "what is refused goes here")]
pub(crate) fn said<P>(sent: Result<(), SendError<P>>) -> Offer {
    match sent {
        Ok(()) => Offer::Taken,
        Err(SendError::Full { .. }) => Offer::Full,
        Err(_) => Offer::Stopped,
    }
}

/// A thread that offers frames until it is told to end, or nobody takes them any more.
pub(crate) struct Offering {
    end: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Offering {
    /// Starts one. `send` is given the number of the frame, which is the next one's as well if this
    /// one is refused: numbers have no gaps.
    pub(crate) fn start(pace: Pace, mut send: impl FnMut(u64) -> Offer + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (taken, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (over, took, full) = (end.clone(), taken.clone(), refused.clone());
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            let mut number = 0;
            while !over.load(Relaxed) {
                let at_once = match pace {
                    Pace::Flat => 64,
                    Pace::Each(every, at_once) => {
                        due += every;
                        // Who was late does not make up for it: that would be another pace.
                        due = due.max(Instant::now() - every);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        at_once
                    }
                };
                for _ in 0..at_once {
                    match send(number) {
                        Offer::Taken => {
                            number += 1;
                            took.store(number, Relaxed);
                        }
                        Offer::Full => {
                            full.fetch_add(1, Relaxed);
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

    /// How many frames were taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// How many times there was no room so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Ends it; says how many frames were taken.
    pub(crate) fn end(mut self) -> u64 {
        self.join();
        self.taken()
    }

    fn join(&mut self) {
        self.end.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("offers and panics not");
        }
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
    }
}

// ---- in ------------------------------------------------------------------------------------------

/// An actor that does one thing with what it gets.
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

/// Has one actor serve these groups.
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

/// The same on a thread of its own, for rows that wait for other processes on theirs.
pub(crate) fn serve_apart(
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

/// A number that only grows, shared.
pub(crate) type Tally = Arc<AtomicU64>;

/// Has one actor count the frames of these groups.
pub(crate) fn count(
    transport: &Transport,
    groups: impl IntoIterator<Item = u32>,
) -> Result<Tally, Failure> {
    let tally = Tally::default();
    let count = tally.clone();
    serve(transport, groups, move |mut inbound| {
        let mut frames = 0;
        while inbound.next_slice().is_some() {
            frames += 1;
        }
        count.fetch_add(frames, Relaxed);
    })?;
    Ok(tally)
}

// ---- on the way ----------------------------------------------------------------------------------

/// What became of the frames of one sender for one group, by their sequence, which has no gaps when
/// it is sent. Takes as much memory for an hour as for a second.
#[derive(Debug)]
pub(crate) struct Track {
    /// Which of the last sequences came, a bit for each, from `first` on.
    seen: VecDeque<u64>,
    first: u64,
    lost: Lost,
    /// What is expected next on each of the last connections.
    next: HashMap<SocketAddr, u64>,
    links: VecDeque<SocketAddr>,
    pub(crate) came: u64,
    /// One more than the highest sequence that came.
    pub(crate) end: u64,
    pub(crate) doubled: u64,
    /// Came behind a later one of the same connection.
    pub(crate) disordered: u64,
    /// Gaps in the middle of a connection.
    pub(crate) holes: u64,
}

/// What did not come.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Lost {
    pub(crate) frames: u64,
    /// Runs of frames that they make.
    pub(crate) runs: u64,
    /// Whether the last one looked at is one.
    open: bool,
}

impl Lost {
    fn look(&mut self, word: u64, bits: u64) {
        for bit in 0..bits {
            let lost = word & (1 << bit) == 0;
            self.frames += u64::from(lost);
            self.runs += u64::from(lost && !self.open);
            self.open = lost;
        }
    }
}

impl Default for Track {
    fn default() -> Self {
        Track {
            seen: VecDeque::from(vec![0; Self::WORDS]),
            first: 0,
            lost: Lost::default(),
            next: HashMap::new(),
            links: VecDeque::new(),
            came: 0,
            end: 0,
            doubled: 0,
            disordered: 0,
            holes: 0,
        }
    }
}

impl Track {
    /// Words of 64 sequences that are looked back to: some 50 s of 5,000 frames a second.
    const WORDS: usize = 4_096;

    /// Connections that are looked back to. Ports come round again some day.
    const LINKS: usize = 64;

    pub(crate) fn note(&mut self, from: SocketAddr, sequence: u64) {
        self.came += 1;
        self.end = self.end.max(sequence + 1);
        self.doubled += u64::from(!self.mark(sequence));
        match self.next.insert(from, sequence + 1) {
            Some(next) if sequence < next => self.disordered += 1,
            Some(next) if sequence > next => self.holes += 1,
            Some(_) => {}
            None => {
                self.links.push_back(from);
                if self.links.len() > Self::LINKS
                    && let Some(oldest) = self.links.pop_front()
                {
                    self.next.remove(&oldest);
                }
            }
        }
    }

    /// Says whether it was not there, as far as is known.
    fn mark(&mut self, sequence: u64) -> bool {
        let Some(at) = sequence.checked_sub(self.first) else {
            return false;
        };
        let (mut word, bit) = (at as usize / 64, 1 << (sequence % 64));
        while word >= Self::WORDS {
            let oldest = self.seen.pop_front().unwrap_or(0);
            self.lost.look(oldest, 64);
            self.seen.push_back(0);
            self.first += 64;
            word -= 1;
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    /// What did not come of the sequences below `end`.
    pub(crate) fn lost(&self, end: u64) -> Lost {
        let mut lost = self.lost;
        let mut left = end.saturating_sub(self.first);
        for word in &self.seen {
            lost.look(*word, left.min(64));
            left = left.saturating_sub(64);
        }
        // Farther than anything that came.
        lost.frames += left;
        lost.runs += u64::from(left > 0 && !lost.open);
        lost
    }
}
