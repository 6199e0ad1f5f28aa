//! The datagrams that wait to be sent, and the socket. Both outlive the actor that uses them.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

use crate::{
    config::Config,
    error::{Refusal, SendError},
    ids::GroupId,
    net::{
        addr,
        clock::CoarseInstant,
        udp::{DatagramSocket, UnattachedUdp},
        udp_buffers::DatagramBuffers,
    },
    observe::{reporter::Reporter, stats::SendStats},
    send::{
        expiry::expire_while,
        queue::{CloseOnDrop, Limits, SendQueue},
    },
    wire::{count::Count, frame::HEADER, payload::Payload},
};

/// The datagrams of one transport on their way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// `None` where datagrams are switched off, and after the transport has stopped.
    socket: Mutex<Option<UnattachedUdp>>,
    switched_on: bool,
    local: SocketAddr,
    pub(super) queue: Arc<SendQueue<SocketAddr>>,
    reporter: Reporter,
}

impl Outgoing {
    pub(crate) fn new(
        socket: Option<UnattachedUdp>,
        local: SocketAddr,
        config: &Config,
        reporter: Reporter,
    ) -> Self {
        Outgoing {
            switched_on: socket.is_some(),
            socket: Mutex::new(socket),
            local,
            queue: Arc::new(SendQueue::new(Limits::of_datagrams(config))),
            reporter,
        }
    }

    pub(crate) fn is_switched_on(&self) -> bool {
        self.switched_on
    }

    /// Returns whether a datagram can go to an address of this ip version: datagrams are switched on,
    /// and the socket reaches it.
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.switched_on && addr::reachable_from(self.local, addr::canonical(to)).is_some()
    }

    /// Returns how much room the system gave the socket. `None` if there is no socket.
    pub(crate) fn buffers(&self) -> Option<DatagramBuffers> {
        self.socket.lock().as_ref()?.buffers()
    }

    /// Queues a datagram, or gives the payload back.
    pub(crate) fn send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        if !self.switched_on {
            return Err(self.reject(Refusal::NoDatagrams, payload));
        }
        let to = addr::canonical(to);
        let reachable = addr::reachable_from(self.local, to);
        let Some(to) = reachable.filter(|to| addr::is_usable(*to)) else {
            return Err(self.reject(Refusal::Address(to), payload));
        };
        match self.queue.push(to, group, payload, CoarseInstant::now()) {
            // Dropping the doorbell wakes the actor.
            Ok(_doorbell) => Ok(()),
            Err((refusal, payload)) => {
                let frame = Count::one(HEADER + payload.byte_len());
                self.reporter.refused(None, refusal, frame);
                Err(refusal.with(payload))
            }
        }
    }

    fn reject<P: Payload>(&self, refusal: Refusal, payload: P) -> SendError<P> {
        self.queue.refuse(refusal, payload.byte_len());
        refusal.with(payload)
    }

    pub(crate) fn stats(&self) -> SendStats {
        self.queue.stats()
    }

    // ---- for the actor -----------------------------------------------------------------------------

    /// Attaches the socket to the runtime of this thread. Returns `None` if there is no socket.
    pub(super) fn attach(&self) -> io::Result<Option<DatagramSocket>> {
        let mut socket = self.socket.lock();
        socket.as_mut().map(UnattachedUdp::attach).transpose()
    }

    /// Closes a socket that was found to be broken. The next [`attach`](Outgoing::attach) binds it again.
    pub(super) fn close_broken(&self) {
        if let Some(socket) = &mut *self.socket.lock() {
            socket.close_broken();
        }
    }

    /// Runs `work` to its end. Meanwhile drops and reports the datagrams that go stale.
    pub(crate) async fn expire_while<F: Future>(&self, work: F) -> F::Output {
        expire_while(
            &self.queue,
            |dropped| self.reporter.dropped(None, &dropped),
            work,
        )
        .await
    }

    /// Returns what ends the queue when it is dropped.
    pub(crate) fn close_on_drop(&self) -> CloseOnDrop<SocketAddr> {
        CloseOnDrop::new(self.queue.clone())
    }

    // ---- the end -----------------------------------------------------------------------------------

    /// Accepts no more datagrams. What is queued may still be sent.
    pub(crate) fn seal(&self) {
        self.queue.seal();
    }

    /// Ends the queue.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Waits until nothing is queued or in flight.
    pub(crate) async fn drained(&self) {
        self.queue.drained().await;
    }

    /// Closes the socket, which frees the port.
    pub(crate) fn close_socket(&self) {
        *self.socket.lock() = None;
    }

    /// Reports what was dropped when the queue ended.
    pub(crate) fn report_dropped(&self) {
        self.reporter.dropped(None, &self.queue.take_untold());
    }
}
