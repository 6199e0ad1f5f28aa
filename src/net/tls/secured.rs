//! [`Secured`]: what encrypts one connection, below its two halves.
//!
//! Both halves use one rustls connection, which is locked for as long as one batch takes: to encrypt and
//! write it, or to decrypt what one read of the socket brought. The halves may live on different threads.
//!
//! What is written is encrypted as a whole, up to [`MAX_ENCRYPTED`] at once, in records of 16 KiB. It counts
//! as written when the system has taken all of it, so a frame in a record that was cut is not written:
//! it goes out again on the next link, and the far end cannot have read it.

use std::{
    io::{self, BufRead, IoSlice, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::BufMut;
use parking_lot::Mutex;
use rustls::Connection;
use tokio::net::TcpStream;

use crate::{
    ids::NodeId,
    net::{
        sent::Sent,
        tls::{acknowledged::Acknowledged, certificate::Certificate, trust::Trust},
        write,
    },
};

/// The most bytes that are encrypted before the system has taken those before: four full records. Twice as
/// many did not make 16 KiB frames faster.
const MAX_ENCRYPTED: usize = 64 << 10;

/// The most encrypted bytes that are read from the socket at once, and the fewest that room is made for.
const MAX_READ: usize = 64 << 10;
const MIN_READ: usize = 4 << 10;

/// rustls takes 4 KiB in one step, and five steps make a full record. A record may also hold nothing. After this
/// many steps without payload the task yields, which is after less than a millisecond.
const MAX_FRUITLESS: usize = 16;

/// Bytes that a record adds to its content.
const RECORD: usize = 22;

/// The encryption of one connection.
#[derive(Debug)]
pub(crate) struct Secured {
    trust: Trust,
    state: Mutex<State>,
    incoming: Mutex<Incoming>,
    /// Whether there is more to read although the socket may have nothing.
    has_more: AtomicBool,
    /// Whether rustls wants to send a message of its own: an alert, or a change of keys.
    has_answer: AtomicBool,
}

#[derive(Debug)]
struct State {
    rustls: Connection,
    /// How many bytes are encrypted and not written whole.
    encrypted: usize,
    /// How many bytes are written, counted before they were encrypted.
    written: u64,
    /// The same, encrypted, with what the handshake took.
    sent: Sent,
    acknowledged: Acknowledged,
    /// Nothing more may be written.
    is_ended: bool,
}

/// What was read from the socket and is not decrypted yet.
#[derive(Debug, Default)]
struct Incoming {
    bytes: Vec<u8>,
    begin: usize,
}

impl Secured {
    /// Takes a connection whose handshake is done, and for which `sent` counts what was written.
    pub(super) fn new(mut rustls: Connection, sent: Sent, trust: Trust) -> Self {
        rustls.set_buffer_limit(Some(MAX_ENCRYPTED));
        // The far end may have sent more in the same packet as the end of its handshake.
        let state = State {
            rustls,
            encrypted: 0,
            written: 0,
            sent,
            acknowledged: Acknowledged::default(),
            is_ended: false,
        };
        Secured {
            trust,
            state: Mutex::new(state),
            incoming: Mutex::default(),
            has_more: AtomicBool::new(true),
            has_answer: AtomicBool::new(false),
        }
    }

    /// Returns who the far end is, as far as its certificate tells.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns the certificate of the far end.
    pub(crate) fn certificate(&self) -> &Arc<Certificate> {
        self.trust.certificate()
    }

    /// Returns what rustls said when it ended the connection.
    pub(crate) fn failure(&self) -> Option<String> {
        self.trust.failure()
    }

    /// Returns whether the far end may speak for this node, by what counts now.
    pub(crate) fn vouches_for(&self, node: NodeId) -> bool {
        self.trust.vouches_for(node)
    }

    /// Notes that the far end says to be a node that its certificate does not cover.
    pub(in crate::net) fn is_of_another_node(&self, node: NodeId) {
        self.trust.is_of_another_node(node);
    }

    // ---- reading -----------------------------------------------------------------------------------

    /// Returns whether there is more to read although the socket may have nothing.
    pub(in crate::net) fn has_more(&self) -> bool {
        self.has_more.load(Relaxed)
    }

    /// Reads into the spare room of `out`. `fill` reads once from the socket. `None`: there was nothing to
    /// read, or others should get their turn first. Zero bytes: the far end has ended the connection.
    ///
    /// A connection that ends without a word about it ends as one that is not encrypted. Whoever can cut it
    /// could cut it in the middle of a frame as well, and what is missing is told by the numbers of frames.
    pub(in crate::net) fn read(
        &self,
        out: &mut impl BufMut,
        mut fill: impl FnMut(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let mut incoming = self.incoming.lock();
        let (mut done, mut fruitless) = (0, 0);
        let (end, has_more) = loop {
            match self.decrypt(&mut incoming, out, &mut fruitless) {
                Ok(Some(n)) => done += n,
                Ok(None) => break (Ok(Some(0)), true),
                Err(err) => break (Err(err), true),
            }
            if !out.has_remaining_mut() || !incoming.unread().is_empty() {
                break (Ok(None), true);
            }
            match incoming.fill(out.remaining_mut(), &mut fill) {
                Ok(0) => break (Ok(Some(0)), true),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break (Ok(None), false),
                Err(err) => break (Err(err), true),
            }
        };
        self.has_more.store(has_more, Relaxed);
        incoming.release();
        match done {
            0 => end,
            // If there was an end, the next read finds it again.
            n => Ok(Some(n)),
        }
    }

    /// Decrypts what was received, as far as there is room, and until [`MAX_FRUITLESS`] steps in a row have come
    /// to nothing. `None`: the far end has ended the connection.
    fn decrypt(
        &self,
        incoming: &mut Incoming,
        out: &mut impl BufMut,
        fruitless: &mut usize,
    ) -> io::Result<Option<usize>> {
        let mut state = self.state.lock();
        let rustls = &mut state.rustls;
        let mut done = 0;
        while out.has_remaining_mut() {
            let mut reader = rustls.reader();
            match reader.fill_buf() {
                Ok([]) if done == 0 => return Ok(None),
                Ok([]) => break,
                Ok(bytes) => {
                    let n = bytes.len().min(out.remaining_mut());
                    out.put_slice(&bytes[..n]);
                    reader.consume(n);
                    done += n;
                    *fruitless = 0;
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err),
            }
            if incoming.unread().is_empty() || *fruitless == MAX_FRUITLESS {
                break;
            }
            *fruitless += 1;
            let taken = rustls.read_tls(&mut incoming.unread())?;
            if taken == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            incoming.begin += taken;
            let processed = rustls.process_new_packets();
            if rustls.wants_write() {
                self.has_answer.store(true, Relaxed);
            }
            if let Err(err) = processed {
                self.trust.failed(&err);
                return match done {
                    0 => Err(io::Error::new(io::ErrorKind::InvalidData, err)),
                    // rustls says the same again.
                    done => Ok(Some(done)),
                };
            }
        }
        Ok(Some(done))
    }

    /// Writes what rustls has to say by itself, if the system takes it at once. Otherwise it goes out before
    /// what is written next.
    pub(in crate::net) fn answer(&self, socket: &TcpStream) {
        if !self.has_answer.load(Relaxed) {
            return;
        }
        self.has_answer.store(false, Relaxed);
        let mut state = self.state.lock();
        // What is encrypted and not written belongs to the half that writes.
        if state.encrypted == 0 && !state.is_ended {
            let _ = state.flush(socket);
        }
    }

    // ---- writing -----------------------------------------------------------------------------------

    /// Writes once; see [`WriteHalf::try_write`](crate::net::halves::WriteHalf::try_write).
    pub(in crate::net) fn try_write(
        &self,
        socket: &TcpStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.encrypted == 0 {
            // What rustls had to say by itself may take the place.
            state.flush(socket)?;
            state.encrypted = state.rustls.writer().write_vectored(slices)?;
        }
        state.flush(socket)?;
        let written = mem::take(&mut state.encrypted);
        state.written += written as u64;
        let (sent, plain) = (state.sent.written(), state.written);
        if let Some(sent) = sent {
            state.acknowledged.note(sent, plain);
        }
        Ok(written)
    }

    /// Returns how many bytes are encrypted and not written whole.
    pub(in crate::net) fn encrypted(&self) -> usize {
        self.state.lock().encrypted
    }

    /// Returns how many bytes are written, counted before they were encrypted. `None` if the system does not
    /// tell what is acknowledged.
    pub(in crate::net) fn written(&self) -> Option<u64> {
        let state = self.state.lock();
        state.sent.written().map(|_| state.written)
    }

    /// Returns how many of those are acknowledged. `None` if the system does not tell.
    pub(in crate::net) fn acknowledged(&self, socket: &TcpStream) -> Option<u64> {
        let mut state = self.state.lock();
        let bytes = state.sent.acknowledged(socket)?;
        Some(state.acknowledged.of(bytes))
    }

    /// Tells the far end that nothing more comes, if the system takes that at once. A batch that was not
    /// written whole stays cut: its frames may go out on another link now.
    pub(in crate::net) fn end_writing(&self, socket: &TcpStream) {
        let mut state = self.state.lock();
        if !mem::replace(&mut state.is_ended, true) && state.encrypted == 0 {
            state.rustls.send_close_notify();
            let _ = state.flush(socket);
        }
    }
}

impl State {
    /// Writes what is encrypted. Fails if the system does not take all of it.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        let State { rustls, sent, .. } = self;
        while rustls.wants_write() {
            rustls.write_tls(&mut Socket { socket, sent })?;
        }
        Ok(())
    }
}

impl Incoming {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    /// Reads once from the socket, for `room` bytes of what comes of it. Everything before was decrypted.
    fn fill(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.bytes.clear();
        self.begin = 0;
        self.bytes
            .reserve((room + RECORD).clamp(MIN_READ, MAX_READ));
        fill(&mut self.bytes)
    }

    /// Gives back the memory if nothing is in it: most connections are idle.
    fn release(&mut self) {
        if self.unread().is_empty() {
            *self = Incoming::default();
        }
    }
}

/// Where rustls writes to.
struct Socket<'s> {
    socket: &'s TcpStream,
    sent: &'s Sent,
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = write::try_write(self.socket, slices)?;
        self.sent.wrote(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
