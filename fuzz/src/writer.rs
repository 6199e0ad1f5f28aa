//! The writer of a peer against a socket that takes any part of what is written, stalls, ends,
//! writes back or is closed. On each link the frames arrive from the first one that was not written
//! before, each whole and once. At the end all frames have arrived or were lost with a link.

use std::{
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use actix_transport::{Config, DownReason, GroupId, Stats, test_internals::Writer};
use tokio::{runtime::Runtime, task::yield_now};

use super::script::Script;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
        .expect("a runtime");
}

pub fn run(data: &[u8]) {
    RUNTIME.with(|runtime| runtime.block_on(write(Script(data))));
}

async fn write(mut script: Script<'_>) {
    let config = Config::default()
        .max_frame(1 << 20)
        .queue_frames(200)
        .queue_bytes(1 << 20)
        .stale_after(Duration::from_secs(24 * 60 * 60));
    let writer = Writer::new(config);
    let mut sent = Sent {
        writer: &writer,
        lens: Vec::new(),
    };
    let mut begun_before = None;
    loop {
        let (ours, theirs) = pair();
        let mut link = Link::new(theirs, &sent);
        let (begun, cut_off) = (link.next, sent.cut_off());
        let mut writing = pin!(writer.link(ours));
        let end = link.play(&mut writing, &mut script, &mut sent).await;
        match end {
            End::Lost => {}
            End::Cancelled => link.read(usize::MAX),
            End::Script => {
                link.read_all(&mut writing, &sent).await;
                return assert_eq!(link.next, sent.lens.len());
            }
        }
        // The next link begins with the frame that this link did not take whole. The link has
        // returned its batch by now, so the counters are final.
        link.check(&sent, end);
        if sent.cut_off() > cut_off {
            // Only the frame that this link and the one before began with, and only if the link was lost.
            assert_eq!((sent.settled(), end), (begun + 1, End::Lost));
            assert_eq!(begun_before, Some(begun));
        }
        begun_before = Some(begun);
    }
}

/// The frames that were sent so far.
struct Sent<'w> {
    writer: &'w Writer,
    lens: Vec<usize>,
}

impl Sent<'_> {
    fn push(&mut self, len: usize) {
        let number = self.lens.len();
        let pushed = self
            .writer
            .send(GroupId::new(number as u32), vec![number as u8; len]);
        if pushed.is_ok() {
            self.lens.push(len);
        }
    }

    /// Returns how many frames were written, or dropped because they cost three links, after checking that
    /// the counters balance. It is also the number of the frame that the next link begins with.
    fn settled(&self) -> usize {
        let mut stats = Stats::default();
        stats.udp = self.writer.queue().stats();
        assert_eq!(stats.balance(), Ok(()));
        assert_eq!(stats.udp.accepted.frames, self.lens.len() as u64);
        let dropped = stats.udp.dropped;
        assert_eq!(dropped.total(), dropped.cut_off);
        (stats.udp.written + dropped.cut_off).frames as usize
    }

    /// Returns how many frames were dropped because they cost three links.
    fn cut_off(&self) -> u64 {
        self.writer.queue().stats().dropped.cut_off.frames
    }
}

/// Why the script left a link.
#[derive(Debug, Copy, Clone, PartialEq)]
enum End {
    /// The link ended, and the bytes on their way are lost.
    Lost,
    /// The writer was dropped, and everything it wrote can still be read.
    Cancelled,
    Script,
}

/// The peer's end of a link.
struct Link {
    stream: Option<UnixStream>,
    arrived: Vec<u8>,
    /// The number of the frame that comes next.
    next: usize,
    spoke: bool,
}

impl Link {
    fn new(stream: UnixStream, sent: &Sent<'_>) -> Self {
        Link {
            stream: Some(stream),
            arrived: Vec::new(),
            next: sent.settled(),
            spoke: false,
        }
    }

    async fn play<F>(
        &mut self,
        writing: &mut Pin<&mut F>,
        script: &mut Script<'_>,
        sent: &mut Sent<'_>,
    ) -> End
    where
        F: Future<Output = DownReason>,
    {
        loop {
            for _ in 0..3 {
                let polled = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
                if let Poll::Ready(reason) = polled {
                    self.explains(reason);
                    return End::Lost;
                }
                yield_now().await;
            }
            let Some(step) = script.step() else {
                return match self.stream {
                    Some(_) if !self.spoke => End::Script,
                    // The link was ended, so the writer must still notice that.
                    _ => continue,
                };
            };
            match step % 16 {
                0..5 => sent.push(script.number()),
                5 => sent.push(script.number() * 40),
                6 => sent.push(script.number() * 400),
                7 => (0..script.number()).for_each(|len| sent.push(len)),
                8 => self.read(script.number()),
                9 => self.read(script.number() * 256),
                10 => self.read(usize::MAX),
                11 => self.stream = None,
                12 => return End::Cancelled,
                13 => self.speak(),
                _ => {}
            }
            assert!(self.next <= sent.settled() + 1);
        }
    }

    /// Reads the bytes that are there, at most this many.
    fn read(&mut self, mut at_most: usize) {
        let mut buffer = [0; 4096];
        while let Some(stream) = &mut self.stream
            && at_most > 0
        {
            let room = buffer.len().min(at_most);
            match stream.read(&mut buffer[..room]) {
                Ok(0) => break,
                Ok(n) => {
                    self.arrived.extend_from_slice(&buffer[..n]);
                    at_most -= n;
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) => panic!("{err}"),
            }
        }
        self.take();
    }

    /// Takes the whole frames that have arrived.
    fn take(&mut self) {
        let mut at = 0;
        while let Some(length) = self.arrived[at..].first_chunk::<4>() {
            let len = u32::from_be_bytes(*length) as usize;
            let Some(frame) = self.arrived[at..].get(..len) else {
                break;
            };
            assert_eq!(frame[4..8], (self.next as u32).to_le_bytes());
            assert!(frame[8..].iter().all(|byte| *byte == self.next as u8));
            self.next += 1;
            at += len;
        }
        self.arrived.drain(..at);
    }

    async fn read_all<F>(&mut self, writing: &mut Pin<&mut F>, sent: &Sent<'_>)
    where
        F: Future<Output = DownReason>,
    {
        while self.next < sent.lens.len() {
            let polled = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            yield_now().await;
            self.read(usize::MAX);
        }
        assert_eq!(sent.settled(), sent.lens.len());
        assert!(self.arrived.is_empty());
    }

    fn speak(&mut self) {
        self.spoke = true;
        if let Some(stream) = &mut self.stream {
            // Fails if the buffer is still full of bytes written before.
            let _ = stream.write(&[1]);
        }
    }

    /// Asserts that the script did what the link gives as its reason for ending.
    fn explains(&self, reason: DownReason) {
        match reason {
            DownReason::Spoke => assert!(self.spoke),
            DownReason::Closed | DownReason::Lost(_) => assert!(self.stream.is_none()),
            reason => panic!("{reason:?}"),
        }
    }

    /// Asserts that no frame arrived that is not counted, and that all written frames arrived if they
    /// could.
    fn check(&self, sent: &Sent<'_>, end: End) {
        let settled = sent.settled();
        assert!(self.next <= settled, "{} of {settled} arrived", self.next);
        if end == End::Cancelled && self.stream.is_some() {
            assert_eq!(self.next, settled);
        }
    }
}

/// A connection within this process, with small buffers.
fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("descriptors");
    socket2::SockRef::from(&ours)
        .set_send_buffer_size(4096)
        .expect("open");
    for stream in [&ours, &theirs] {
        stream.set_nonblocking(true).expect("open");
    }
    (ours.into(), theirs)
}
