//! From the queue of datagrams to the socket.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc};

use crate::{
    net::{
        clock::CoarseInstant,
        time::sleep,
        udp::{self, DatagramSocket, MAX_BURST_BYTES, MAX_BURST_SEGMENT},
    },
    observe::{reporter::Reporter, stats::Dropped},
    send::queue::{Batch, BurstLimits, SendQueue},
};

/// Sends what is queued, as many datagrams together as the system takes.
pub(super) struct Sending<'s> {
    queue: &'s Arc<SendQueue<SocketAddr>>,
    socket: &'s DatagramSocket,
    reporter: &'s Reporter,
    /// The datagrams that are sent together, one behind the other. Kept for its memory.
    contents: Vec<u8>,
}

impl<'s> Sending<'s> {
    pub(super) fn new(
        queue: &'s Arc<SendQueue<SocketAddr>>,
        socket: &'s DatagramSocket,
        reporter: &'s Reporter,
    ) -> Self {
        Sending {
            queue,
            socket,
            reporter,
            contents: Vec::new(),
        }
    }

    /// Returns when the queue has ended, or when the socket fails. What has not been sent then is in the
    /// queue again.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            poll_fn(|cx| self.queue.poll_ready(cx)).await;
            while let Some(mut batch) = self.take() {
                self.send(&mut batch).await?;
                drop(batch);
                self.report(&self.queue.take_untold());
                tokio::task::yield_now().await;
            }
            if self.queue.is_done() {
                return Ok(());
            }
        }
    }

    fn take(&self) -> Option<Batch<SocketAddr>> {
        let taken = self.queue.take(CoarseInstant::now());
        self.report(&taken.dropped);
        taken.batch
    }

    async fn send(&mut self, batch: &mut Batch<SocketAddr>) -> io::Result<()> {
        // How many datagrams must go one by one, because the system refused them together.
        let mut singly: usize = 0;
        loop {
            let limits = BurstLimits {
                number: match singly {
                    0 => self.socket.max_burst(),
                    _ => 1,
                },
                each: MAX_BURST_SEGMENT,
                bytes: MAX_BURST_BYTES,
            };
            let Some(burst) = batch.next_burst(&mut self.contents, &limits) else {
                return Ok(());
            };
            match self.socket.try_send(burst.to, &self.contents, burst.each) {
                Ok(()) => {
                    batch.finish_datagrams(burst.number, true);
                    singly = singly.saturating_sub(1);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_until_writable(batch).await;
                }
                Err(err) if udp::is_broken(&err) => return Err(err),
                // The error is about one of them, or about sending them together.
                Err(_) if burst.number > 1 => singly = burst.number,
                Err(err) => {
                    self.reporter.datagram_failed(&err);
                    batch.finish_datagrams(1, false);
                    singly = singly.saturating_sub(1);
                }
            }
        }
    }

    /// Waits until the socket takes more, or the oldest datagram is stale, and drops what is stale.
    async fn wait_until_writable(&self, batch: &mut Batch<SocketAddr>) {
        let expiry = batch.next_expiry(CoarseInstant::now()).unwrap_or_default();
        tokio::select! {
            // The next send finds an error of the socket.
            _ = self.socket.writable() => {}
            () = sleep(expiry) => {}
        }
        let now = CoarseInstant::now();
        batch.expire(now);
        self.report(&self.queue.expire(now));
    }

    fn report(&self, dropped: &Dropped) {
        self.reporter.dropped(None, dropped);
    }
}
