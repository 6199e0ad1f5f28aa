//! One incoming connection.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use futures::{FutureExt, future::OptionFuture};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::{io::poll_read_buf, task::task_tracker::TaskTrackerToken};

use crate::{
    net,
    receive::{admission::Admission, dispatch::Splitter, inbound::Via},
    runtime::{load_counter::LoadGuard, shared::Shared},
    wire::frame,
};

/// The spare room of a read when a connection begins to talk.
const READ_FROM: usize = 2 << 10;

/// The spare room that reads grow to while they fill it: some thousand small frames, or a few large
/// ones, for one wake-up of the group's actor, and still within a core's own cache. With half of it
/// frames of 256 KiB woke the actor one by one, and took twice the time; with twice of it they did
/// worse, and small ones no better.
const READ_UP_TO: usize = 512 << 10;

/// How long a connection that has nothing to say keeps its buffer: this at least, twice this at most.
const KEEP_BUFFER: Duration = Duration::from_millis(100);

/// One connection, for as long as it lives.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    /// What has arrived and is not delivered: between two rounds, the beginning of a frame.
    buffer: BytesMut,
    /// When the frame it begins with began.
    begun: Option<Instant>,
    /// How much the next read may bring.
    room: usize,
    /// What it has while it has a buffer.
    busy: Option<Busy>,
    splitter: Splitter,
    _guards: (Admission, LoadGuard, TaskTrackerToken),
}

/// When a connection is to give back its buffer. The timer is not set anew for every read, which would
/// cost more than splitting it: what comes before it goes off is noted, and then it goes round again.
struct Busy {
    timer: Pin<Box<Sleep>>,
    /// The longest that the buffer has been since then; none if nothing was read.
    most: usize,
    /// The longest that it could have been.
    held: usize,
}

/// What a connection that is waited for does.
enum Woken {
    Readable,
    /// Its frame did not complete in time.
    Late,
    /// The transport reads no more.
    Closing,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: TcpStream,
        from: SocketAddr,
        guards: (Admission, LoadGuard, TaskTrackerToken),
    ) -> Self {
        Connection {
            shared,
            stream,
            from,
            buffer: BytesMut::new(),
            begun: None,
            room: READ_FROM,
            busy: None,
            splitter: Splitter::default(),
            _guards: guards,
        }
    }

    pub(crate) async fn run(mut self) {
        self.talk().await;
        // What lies in a mailbox is only taken from it while somebody waits for the answer.
        self.splitter.settle().await;
    }

    /// Reads and delivers until the connection is over, for whatever reason.
    async fn talk(&mut self) {
        let shared = self.shared.clone();
        // Waited for all along: to begin to wait for it takes longer than to ask it again.
        let mut closing = pin!(shared.closing.cancelled());
        loop {
            let woken = tokio::select! {
                biased;
                () = &mut closing => Woken::Closing,
                woken = self.readable() => woken,
            };
            match woken {
                Woken::Readable => {}
                Woken::Closing => return,
                Woken::Late => {
                    tracing::debug!(from = %self.from, "a frame did not complete in time");
                    return shared.accounts.timed_out();
                }
            }
            self.settle().await;
            let filled = match self.read().await {
                Ok(Some(filled)) => filled,
                Ok(None) => continue,
                Err(err) => {
                    tracing::trace!(from = %self.from, %err, "connection ended");
                    if !self.buffer.is_empty() {
                        shared.accounts.truncated();
                    }
                    return;
                }
            };
            let arrived = self.buffer.len();
            let buffer = &mut self.buffer;
            let delivered = self
                .splitter
                .deliver(&shared, self.from, Via::Tcp, buffer)
                .await;
            self.note_beginning(arrived - self.buffer.len());
            if let Err(malformed) = delivered {
                let length = malformed.length;
                tracing::debug!(from = %self.from, length, "not a frame, connection closed");
                return shared.accounts.malformed();
            }
            // There is more where that came from, and others want their turn.
            if filled {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until what was delivered has been handled. The time that our own actors take is nobody's
    /// fault out there: the frame of which we have the beginning begins when it is over.
    async fn settle(&mut self) {
        if !self.splitter.is_settled() {
            self.splitter.settle().await;
            self.begun = self.begun.map(|_| Instant::now());
        }
    }

    /// Waits until there is something to read, for as long as that may take.
    async fn readable(&mut self) -> Woken {
        // A frame that trickles in has something to read time and again; its time is over all the
        // same. But what is here already came in time, and it was we who came late.
        if self
            .deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return match self.stream.readable().now_or_never() {
                Some(_) => Woken::Readable,
                None => Woken::Late,
            };
        }
        loop {
            let late = OptionFuture::from(self.deadline().map(sleep_until));
            let quiet = OptionFuture::from(self.busy.as_mut().map(|busy| busy.timer.as_mut()));
            tokio::select! {
                biased;
                // An error of the socket is found by the read.
                _ = self.stream.readable() => return Woken::Readable,
                Some(()) = late => return Woken::Late,
                Some(()) = quiet => {}
            }
            // Who has been quiet for so long is not held up by this, and its frame's time begins.
            self.settle().await;
            match self.busy.take() {
                Some(busy) if busy.most > 0 => self.go_on(busy),
                _ => self.rest(),
            }
        }
    }

    /// Keeps the memory that what was read lately needed: a large frame leaves none to the small ones
    /// behind it.
    fn go_on(&mut self, mut busy: Busy) {
        if busy.held > 2 * (busy.most + READ_UP_TO) {
            self.fit();
        }
        (busy.most, busy.held) = (0, 0);
        busy.timer.as_mut().reset(Instant::now() + KEEP_BUFFER);
        self.busy = Some(busy);
    }

    /// Keeps no more memory than what has arrived needs.
    fn rest(&mut self) {
        self.fit();
        self.splitter.trim();
        self.room = READ_FROM;
        net::delay_acks(&self.stream);
    }

    fn fit(&mut self) {
        // What is mostly full is not worth copying, least of all a large frame at each pause of a
        // peer that sends it byte by byte.
        if self.buffer.is_empty() || self.buffer.capacity() > self.buffer.len() * 3 / 2 {
            // Makes a copy that is just long enough, and for nothing allocates nothing.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }

    /// Reads once. Says whether that filled the room there was, or that there was nothing to read.
    async fn read(&mut self) -> io::Result<Option<bool>> {
        self.buffer.reserve(self.room);
        let busy = self.busy.get_or_insert_with(|| Busy {
            timer: Box::pin(sleep(KEEP_BUFFER)),
            most: 0,
            held: 0,
        });
        busy.held = busy.held.max(self.buffer.capacity());
        // Unlike `try_read_buf`, this knows that a read which left room has read all there was, and
        // saves the system call that would say so.
        let (stream, mut buffer) = (&mut self.stream, (&mut self.buffer).limit(self.room));
        let read =
            poll_fn(|cx| Poll::Ready(poll_read_buf(Pin::new(&mut *stream), cx, &mut buffer)));
        let n = match read.await {
            Poll::Ready(n) => n?,
            Poll::Pending => return Ok(None),
        };
        busy.most = busy.most.max(self.buffer.len());
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let filled = n == self.room;
        if filled {
            self.room = (self.room * 2).min(READ_UP_TO);
        } else if n < self.room / 4 {
            self.room = (self.room / 2).max(READ_FROM);
        }
        Ok(Some(filled))
    }

    /// Notes when the frame that the buffer begins with began, given how much of the last read was
    /// delivered.
    fn note_beginning(&mut self, delivered: usize) {
        if self.buffer.is_empty() {
            self.begun = None;
        } else if delivered > 0 || self.begun.is_none() {
            self.begun = Some(Instant::now());
        }
    }

    /// When the frame that has begun must be complete. None, too, until those before it are handled.
    fn deadline(&self) -> Option<Instant> {
        if !self.splitter.is_settled() {
            return None;
        }
        let config = &self.shared.config;
        let floor = self.announced().unwrap_or(0) as f64 / config.frame_floor as f64;
        let allowed = config.frame_timeout.max(Duration::from_secs_f64(floor));
        Some(self.begun? + allowed)
    }

    /// The length of the frame that the buffer begins with, once it is known.
    fn announced(&self) -> Option<usize> {
        let max = self.shared.config.max_frame;
        frame::announced(&self.buffer, max).ok().flatten()
    }
}
