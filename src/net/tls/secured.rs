//! [`Secured`]: what encrypts one connection, below its two halves.
//!
//! Both halves use one rustls connection. It is locked while a batch is encrypted and written, or while a record
//! is read and decrypted. The halves may live on different threads.
//!
//! This is rustls' buffered interface, the one of the connection that tokio-rustls hands over after the
//! handshake. It encrypts batches of 64 KiB at 5.2 GB/s and decrypts them at 4.7 GB/s, both if they are one slice
//! with frames of 64 bytes and if they are slices with headers and 16 KiB payloads (one core, AES-256-GCM, medians
//! of ten runs). The unbuffered interface encrypts at 4.7 and 4.3 GB/s: it takes one slice and encrypts it into a
//! buffer of the caller, so several slices must be copied together first. It decrypts in place, at 5.7 and
//! 5.8 GB/s. But tokio-rustls makes no such connection, so the handshake would have to be written here.
//!
//! What is written is encrypted as a whole, up to [`MAX_ENCRYPTED`] at once, in records of 16 KiB. A record
//! counts as written when the system has taken all of it. So a frame of which a part is in a record that was
//! cut is not written whole: it goes out again on the next link, and the far end cannot have read it.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
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

/// The most bytes that are encrypted before the system has taken those before: four full records. With two or
/// four times as many, frames of 64 bytes took 4 and 11 % more processor time, and frames of 16 KiB the same.
const MAX_ENCRYPTED: usize = 64 << 10;

/// After so many encrypted bytes without payload the task yields: a record may hold nothing, and then 22 bytes are
/// enough for one. That is after about a millisecond. One step reads up to 18 KiB, and each counts as
/// [`MIN_STEP`] at least, so that bytes which come one by one do not make many steps.
const MAX_FRUITLESS: usize = 64 << 10;
const MIN_STEP: usize = 4 << 10;

/// What rustls puts into one record at most, and what the record adds to it.
const RECORD: usize = 16 << 10;
const RECORD_HEAD: usize = 22;

/// The encryption of one connection.
#[derive(Debug)]
pub(crate) struct Secured {
    trust: Trust,
    state: Mutex<State>,
    /// Whether there is more to read although the socket may have nothing.
    has_more: AtomicBool,
    /// Whether rustls wants to send a message of its own: an alert, or a change of keys.
    has_answer: AtomicBool,
}

#[derive(Debug)]
struct State {
    rustls: Connection,
    /// How many bytes are encrypted and not in records that are written whole.
    encrypted: usize,
    /// How many bytes of these records the system has taken.
    taken: usize,
    /// How many bytes are written, counted before they were encrypted.
    written: u64,
    /// The same, encrypted, with what the handshake took.
    sent: Sent,
    acknowledged: Acknowledged,
    /// Nothing more may be written.
    is_ended: bool,
}

impl Secured {
    /// Takes a connection whose handshake is done, and for which `sent` counts what was written.
    pub(super) fn new(mut rustls: Connection, sent: Sent, trust: Trust) -> Self {
        rustls.set_buffer_limit(Some(MAX_ENCRYPTED));
        // The far end may have sent more in the same packet as the end of its handshake.
        let state = State {
            rustls,
            encrypted: 0,
            taken: 0,
            written: 0,
            sent,
            acknowledged: Acknowledged::default(),
            is_ended: false,
        };
        Secured {
            trust,
            state: Mutex::new(state),
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
    /// The socket is read into the buffer of rustls, which has room for one record. Reading 64 KiB first, and
    /// copying them into that buffer, took 6 to 11 % more processor time for frames of 64 bytes and 12 to 15 % more
    /// for 16 KiB (both sides together, medians of 13 and of 9 alternating runs).
    ///
    /// A connection that ends without a word about it ends as one that is not encrypted. Whoever can cut it
    /// could cut it in the middle of a frame as well, and what is missing is told by the numbers of frames.
    pub(in crate::net) fn read(
        &self,
        out: &mut impl BufMut,
        fill: impl FnMut(&mut &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let mut encrypted = Encrypted(fill);
        let (mut done, mut fruitless) = (0, 0);
        let (end, has_more) = loop {
            // Unlocked between two steps, for the half that writes.
            let rustls = &mut self.state.lock().rustls;
            // Also asked before anything is read: after an error, rustls says the same again.
            let processed = rustls.process_new_packets();
            if rustls.wants_write() {
                self.has_answer.store(true, Relaxed);
            }
            let mut reader = rustls.reader();
            match reader.fill_buf() {
                Ok([]) => break (Ok(Some(0)), true),
                Ok(bytes) => {
                    let n = bytes.len().min(out.remaining_mut());
                    out.put_slice(&bytes[..n]);
                    reader.consume(n);
                    done += n;
                    fruitless = 0;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(err) = processed {
                        self.trust.failed(&err);
                        let err = io::Error::new(io::ErrorKind::InvalidData, err);
                        break (Err(err), true);
                    }
                    if fruitless >= MAX_FRUITLESS {
                        break (Ok(None), true);
                    }
                    match rustls.read_tls(&mut encrypted) {
                        Ok(0) => break (Ok(Some(0)), true),
                        Ok(n) => fruitless += n.max(MIN_STEP),
                        Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                            break (Ok(None), false);
                        }
                        Err(err) => break (Err(err), true),
                    }
                }
                // An earlier read has found the end.
                Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                    break (Ok(Some(0)), true);
                }
                Err(err) => break (Err(err), true),
            }
            if !out.has_remaining_mut() {
                break (Ok(None), true);
            }
        };
        self.has_more.store(has_more, Relaxed);
        match done {
            0 => end,
            // If there was an end, the next read finds it again.
            n => Ok(Some(n)),
        }
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
            state.taken = 0;
        }
        let flushed = state.flush(socket);
        let written = match &flushed {
            Ok(()) => state.encrypted,
            // Everything but the last record is full, and the last one is not whole yet.
            Err(_) => (state.taken / (RECORD + RECORD_HEAD) * RECORD).min(state.encrypted),
        };
        if written == 0 {
            flushed?;
        }
        state.wrote(written);
        Ok(written)
    }

    /// Returns how many bytes are encrypted and not in records that are written whole.
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
    /// Notes that so many of the encrypted bytes are in records that are written whole.
    fn wrote(&mut self, bytes: usize) {
        self.encrypted -= bytes;
        self.taken -= match self.encrypted {
            0 => self.taken,
            _ => bytes / RECORD * (RECORD + RECORD_HEAD),
        };
        self.written += bytes as u64;
        if let Some(sent) = self.sent.written() {
            // What is taken of the next record is no part of it.
            let whole = sent - self.taken as u64;
            self.acknowledged.note(whole, self.written);
        }
    }

    /// Writes what is encrypted. Fails if the system does not take all of it.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        let State {
            rustls,
            sent,
            taken,
            ..
        } = self;
        while rustls.wants_write() {
            *taken += rustls.write_tls(&mut Socket { socket, sent })?;
        }
        Ok(())
    }
}

/// Where rustls reads from.
struct Encrypted<F>(F);

impl<F: FnMut(&mut &mut [u8]) -> io::Result<usize>> Read for Encrypted<F> {
    fn read(&mut self, mut bytes: &mut [u8]) -> io::Result<usize> {
        (self.0)(&mut bytes)
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rcgen::{CertificateParams, KeyPair};
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::Config,
        net::{
            halves::{ReadHalf, WriteHalf},
            tcp::Stream,
            tls::{Endpoint, Expected, Tls},
        },
    };

    /// Keys of node 1, which this node trusts itself.
    fn endpoint() -> Arc<Endpoint> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["node-1.test".to_owned()]).expect("a name");
        let cert = params.self_signed(&key).expect("a certificate").pem();
        let key = key.serialize_pem();
        let tls = Tls::from_pem(cert.as_bytes(), cert.as_bytes(), key.as_bytes());
        let tls = tls.expect("keys that fit together").allow(["node-*.test"]);
        let limit = Duration::from_secs(10);
        Arc::new(Endpoint::new(&tls, NodeId::new(1), 1 << 20, limit).expect("good keys"))
    }

    /// An encrypted connection: the half that writes at one end, and the half that reads at the other. The system
    /// holds about so many bytes of what is written.
    async fn connection(buffer: usize) -> (WriteHalf, ReadHalf, impl Sized) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let options = SockRef::from(&listener);
        options.set_recv_buffer_size(2 << 10).expect("open");
        let addr = listener.local_addr().expect("bound");
        let dialled = Stream::dial(addr, &Config::default()).await;
        let dialled = dialled.expect("it listens");
        let options = SockRef::from(&dialled.tcp);
        options.set_send_buffer_size(buffer).expect("open");
        let (tcp, from) = listener.accept().await.expect("dialled");
        let accepted = Stream {
            sent: Sent::on(&tcp),
            tcp,
            tls: None,
        };
        let endpoint = endpoint();
        let expected = Expected {
            host: Some("node-1.test"),
            node: None,
        };
        let (dialled, accepted) = tokio::join!(
            endpoint.connect(dialled, addr, expected),
            endpoint.accept(accepted, from),
        );
        let (back, writing) = dialled.expect("trusted").split();
        let (reading, there) = accepted.expect("trusted").split();
        (writing, reading, (back, there))
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 31 % 251) as u8).collect()
    }

    async fn read_to_end(mut reading: ReadHalf) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            reading.readable().await.expect("open");
            match reading.read(&mut all).await {
                Ok(Some(0)) | Err(_) => return all,
                Ok(_) => {}
            }
        }
    }

    /// Otherwise frames would go out twice, or be lost without being counted.
    #[tokio::test]
    async fn what_the_far_end_can_read_is_what_counts_as_written() {
        const LEN: usize = 1 << 20;

        let (payload, mut cut) = (pattern(LEN), 0);
        for buffer in (4 << 10..120 << 10).step_by(5 << 10) {
            let (writing, reading, _others) = connection(buffer).await;
            let mut written = 0;
            while let Ok(n) = writing.try_write(&[IoSlice::new(&payload[written..])]) {
                written += n;
                assert!(written < LEN, "the system takes everything");
            }
            assert!(writing.encrypted() > 0);
            assert_eq!(writing.written().unwrap_or(written as u64), written as u64);
            cut += usize::from(written % MAX_ENCRYPTED > 0);
            // In the middle of a record.
            drop(writing);
            let read = read_to_end(reading).await;
            assert_eq!(read.len(), written);
            assert_eq!(read, payload[..written]);
        }
        assert!(cut > 0, "always between two batches");
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_and_all_of_it_is_acknowledged() {
        const LEN: usize = 1 << 20;

        let payload = pattern(LEN);
        let (writing, reading, _others) = connection(20 << 10).await;
        let reading = tokio::spawn(async move {
            let mut reading = reading;
            let mut all = Vec::with_capacity(LEN);
            while all.len() < LEN {
                reading.readable().await.expect("open");
                let mut room = bytes::BufMut::limit(&mut all, 100_000);
                reading.read(&mut room).await.expect("no error");
            }
            all
        });
        writing.write_whole(&payload).await.expect("open");
        assert_eq!(writing.encrypted(), 0);
        assert_eq!(reading.await.expect("no panic"), payload);
        if writing.written().is_some() {
            while writing.acknowledged() != Some(LEN as u64) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
