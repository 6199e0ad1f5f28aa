//! Where the bytes of one connection come from, and what they cost while they wait.
//!
//! Owns the socket and the place that the connection takes. A peer may close its connection while the
//! handlers of its frames are busy. Socket and place are given back then, at once, because handlers may
//! take for ever. What the peer had sent before is kept here, and read when the handlers are done.

use std::{
    future::pending,
    io::{self, IoSlice},
    pin::pin,
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    ids::NodeId,
    net::{
        halves::{ReadHalf, WriteHalf},
        tcp::Stream,
        tls::Secured,
    },
    receive::admission::{Admission, Ended},
    runtime::load_counter::LoadGuard,
    session::open_link::OpenLink,
    wire::control::Control,
};

/// The most unread bytes that are kept of a connection that this node dialled and the peer has closed.
const MAX_KEPT: usize = 8 << 20;

/// The most bytes that a refused peer may send before its connection is closed.
pub(super) const MAX_DISCARDED: usize = 1 << 20;

/// A connection's socket, or what is left of a connection that has ended.
pub(super) struct Source {
    /// `None` once the connection has ended.
    open: Option<Open>,
    /// What was read before, and what had been sent and not read when the connection ended.
    rest: Bytes,
    _ended: Option<Ended>,
}

struct Open {
    reading: ReadHalf,
    /// `None` if somebody else writes, or may write.
    writing: Option<WriteHalf>,
    /// Both halves know each other through this, once the nodes have introduced themselves.
    link: Option<Arc<OpenLink>>,
    /// What an accepted connection takes. `None` if this node dialled.
    place: Option<(Admission, LoadGuard)>,
}

impl Drop for Open {
    /// Whoever writes to the connection must learn that nobody reads it any more, also if that is because
    /// its `Reader` panicked. If nobody writes, the half that writes ends here.
    fn drop(&mut self) {
        let _unclaimed = self.link.as_ref().and_then(|link| link.end_reading());
    }
}

impl Source {
    /// Takes an accepted connection.
    pub(super) fn accepted(stream: Stream, place: (Admission, LoadGuard)) -> Self {
        let (reading, writing) = stream.split();
        let open = Open {
            reading,
            writing: Some(writing),
            link: None,
            place: Some(place),
        };
        Source {
            open: Some(open),
            rest: Bytes::new(),
            _ended: None,
        }
    }

    /// Takes the half that reads of a connection that this node dialled, and what was read already.
    pub(super) fn dialled(reading: ReadHalf, begun: Bytes, link: Arc<OpenLink>) -> Self {
        let open = Open {
            reading,
            writing: None,
            link: Some(link),
            place: None,
        };
        Source {
            open: Some(open),
            rest: begun,
            _ended: None,
        }
    }

    /// Takes the half that writes, so that others may write.
    pub(super) fn take_writing(&mut self) -> Option<WriteHalf> {
        self.open.as_mut()?.writing.take()
    }

    /// Returns what encrypts the connection.
    pub(super) fn tls(&self) -> Option<Arc<Secured>> {
        self.open.as_ref()?.reading.tls().cloned()
    }

    /// Returns whether the far end may speak for this node; see [`ReadHalf::vouches_for`].
    pub(super) fn vouches_for(&self, node: NodeId) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.reading.vouches_for(node))
    }

    /// Notes the link that this connection has become.
    pub(super) fn joined(&mut self, link: Arc<OpenLink>) {
        if let Some(open) = &mut self.open {
            open.link = Some(link);
        }
    }

    /// Returns whether the next bytes have been taken out of the kernel, or whether the end has been reached.
    pub(super) fn is_at_hand(&self) -> bool {
        self.open.is_none() || !self.rest.is_empty()
    }

    /// Waits until there may be something to read: bytes, the end or an error.
    pub(super) async fn readable(&self) {
        if let Some(open) = &self.open
            && self.rest.is_empty()
        {
            // If the socket failed, the read will return the error.
            let _ = open.reading.readable().await;
        }
    }

    /// Reads once. `None`: there was nothing to read. Zero bytes: the connection has ended.
    pub(super) async fn read(&mut self, buffer: &mut impl BufMut) -> io::Result<Option<usize>> {
        let open = match &mut self.open {
            Some(open) if self.rest.is_empty() => open,
            _ => {
                let n = self.rest.len().min(buffer.remaining_mut());
                buffer.put(self.rest.split_to(n));
                return Ok(Some(n));
            }
        };
        let read = open.reading.read(buffer).await;
        if let (Some(link), Ok(Some(1..))) = (&open.link, &read) {
            link.note_read();
        }
        read
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let open = self.open.as_ref();
        match open.and_then(|open| open.writing.as_ref()) {
            Some(writing) => writing.write_whole(bytes).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more will be written, and discards what the peer sends until it closes the
    /// connection, or has sent `max` bytes. If the connection were closed while bytes come, the system would
    /// answer them with a reset, which may overtake what was written.
    pub(super) async fn end_writing_and_discard(&mut self, max: usize) {
        let Some(open) = &mut self.open else {
            return;
        };
        // The far end reads the end of the stream.
        open.writing = None;
        let mut discarded = 0;
        while discarded < max && open.reading.readable().await.is_ok() {
            let mut bytes = [0; 4 << 10];
            match open.reading.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => discarded += n,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Awaits `handlers`, or whatever else keeps the connection from being read, such as a wait for
    /// memory. If the peer closes the connection meanwhile, its place and its socket are given back at
    /// once, and what is left to be read is kept, up to 64 MiB for each address, or 8 MiB of a connection that
    /// this node dialled. More than that is lost.
    /// Then `ended` is called with what was kept.
    pub(super) async fn watch_during<T>(
        &mut self,
        handlers: impl Future<Output = T>,
        ended: impl FnOnce(&mut Bytes),
    ) -> T {
        let mut handlers = pin!(handlers);
        tokio::select! {
            biased;
            done = &mut handlers => return done,
            () = self.closed_by_peer() => {}
        }
        self.end(true);
        ended(&mut self.rest);
        handlers.await
    }

    /// As [`watch_during`](Source::watch_during), for work that is given up when `closing` resolves. Returns `None` then.
    /// But what has been taken out of the kernel already is read to its end, so it is waited for.
    pub(super) async fn watch_unless<T>(
        &mut self,
        closing: impl Future<Output = ()>,
        work: impl Future<Output = T>,
        ended: impl FnOnce(&mut Bytes),
    ) -> Option<T> {
        let (mut work, is_at_hand) = (pin!(work), self.is_at_hand());
        tokio::select! {
            biased;
            () = closing, if !is_at_hand => return None,
            done = &mut work => return Some(done),
            () = self.closed_by_peer() => {}
        }
        self.end(true);
        ended(&mut self.rest);
        Some(work.await)
    }

    /// Gives back the place and the socket. What the peer has sent is lost, unless it is to be `kept`.
    pub(super) fn end(&mut self, kept: bool) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let mut ended = open.place.take().map(|(admission, _load)| admission.end());
        if kept {
            let room = ended.as_ref().map_or(MAX_KEPT, Ended::room);
            let mut rest = BytesMut::from(self.rest.as_ref());
            rest.extend_from_slice(&open.reading.rest(room));
            self.rest = rest.freeze();
            if let Some(ended) = &mut ended {
                ended.hold(self.rest.len());
            }
        } else {
            self.rest = Bytes::new();
        }
        self._ended = ended;
    }

    /// Says that this node stops, if nobody writes to the connection who could say so.
    pub(super) fn say_goodbye(&self) {
        let link = self.open.as_ref().and_then(|open| open.link.as_ref());
        if let Some(unclaimed) = link.and_then(|link| link.end_reading()) {
            let goodbye = Control::Goodbye.encode();
            // The connection ends in any case, and the far end notices that.
            let _ = unclaimed.try_write(&[IoSlice::new(&goodbye)]);
        }
    }

    pub(super) fn delay_acks(&self) {
        if let Some(open) = &self.open {
            open.reading.delay_acks();
        }
    }

    async fn closed_by_peer(&self) {
        match &self.open {
            Some(open) => open.reading.closed_by_peer().await,
            None => pending().await,
        }
    }
}
