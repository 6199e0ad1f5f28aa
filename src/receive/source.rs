//! Where the bytes of one connection come from, and what they cost while they wait.
//!
//! Owns the socket and the place that the connection takes. A peer may close its connection while the
//! handlers of its frames are busy. Socket and place are given back then, at once, because handlers may
//! take for ever. What the peer had sent before is kept here, and read when the handlers are done.

use std::{future::pending, io, pin::pin};

use bytes::{BufMut, Bytes};

use crate::{
    net::tcp::Stream,
    receive::admission::{Admission, Ended},
    runtime::load_counter::LoadGuard,
};

/// The most bytes that a refused peer may send before its connection is closed.
const MAX_DISCARDED: usize = 1 << 20;

/// A connection's socket, or what is left of a connection that has ended.
pub(super) struct Source {
    /// `None` once the connection has ended.
    open: Option<Open>,
    /// What had been sent and not read when it ended.
    rest: Bytes,
    _ended: Option<Ended>,
}

struct Open {
    stream: Stream,
    admission: Admission,
    _load: LoadGuard,
}

impl Source {
    pub(super) fn new(stream: Stream, admission: Admission, load: LoadGuard) -> Self {
        let open = Open {
            stream,
            admission,
            _load: load,
        };
        Source {
            open: Some(open),
            rest: Bytes::new(),
            _ended: None,
        }
    }

    /// Waits until there may be something to read: bytes, the end or an error.
    pub(super) async fn readable(&self) {
        if let Some(open) = &self.open {
            // If the socket failed, the read will return the error.
            let _ = open.stream.readable().await;
        }
    }

    /// Reads once. `None`: there was nothing to read. Zero bytes: the connection has ended.
    pub(super) async fn read(&mut self, buffer: &mut impl BufMut) -> io::Result<Option<usize>> {
        let Some(open) = &mut self.open else {
            let n = self.rest.len().min(buffer.remaining_mut());
            buffer.put(self.rest.split_to(n));
            return Ok(Some(n));
        };
        open.stream.read(buffer).await
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.open {
            Some(open) => open.stream.write_whole(bytes).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more will be written, and discards what the peer sends until it closes the
    /// connection, or has sent [`MAX_DISCARDED`] bytes.
    pub(super) async fn end_writing_and_discard(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        if open.stream.end_writing().is_err() {
            return;
        }
        let mut discarded = 0;
        while discarded < MAX_DISCARDED && open.stream.readable().await.is_ok() {
            let mut bytes = [0; 4 << 10];
            match open.stream.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => discarded += n,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Awaits `handlers`, or whatever else keeps the connection from being read, such as a wait for
    /// memory. If the peer closes the connection meanwhile, its place and its socket are given back at
    /// once, and what is left to be read is kept, up to 64 MiB for each address. More than that is lost.
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

    /// Gives back the place and the socket. What the peer has sent is lost, unless it is to be `kept`.
    pub(super) fn end(&mut self, kept: bool) {
        let Some(open) = self.open.take() else {
            return;
        };
        let mut ended = open.admission.end();
        if kept {
            self.rest = open.stream.rest(ended.room());
            ended.hold(self.rest.len());
        }
        self._ended = Some(ended);
    }

    pub(super) fn delay_acks(&self) {
        if let Some(open) = &self.open {
            open.stream.delay_acks();
        }
    }

    async fn closed_by_peer(&self) {
        match &self.open {
            Some(open) => open.stream.closed_by_peer().await,
            None => pending().await,
        }
    }
}
