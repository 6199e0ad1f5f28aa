//! From the socket to the mailboxes of the groups' actors.
//!
//! Datagrams of one sender are put one behind the other into a buffer, each with its length in front, as
//! if they had come over a connection. From there on they take the same way, except that nothing here
//! waits for a handler: a group that is slow may hold a bounded number of bytes, and what does not fit is
//! dropped and counted. So no group and no sender delays the datagrams of the others.

use std::{io, iter::Peekable, net::SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::{
    datagrams::losses::Losses,
    net::{
        addr,
        udp::{DatagramSocket, ReceivedDatagrams},
    },
    observe::{intake::Intake, reporter::Reporter},
    receive::{
        context::ReceiveContext,
        deliver::{Delivered, Deliverer},
        inbound::Via,
    },
    wire::{
        count::Count,
        frame::{HEADER, PREFIX},
    },
};

/// The number of system calls to receive datagrams before other tasks get their turn.
const YIELD_AFTER_CALLS: usize = 16;

/// After this many errors with no datagram in between, receiving pauses instead of spinning.
const MAX_ERRORS_IN_A_ROW: u32 = 1000;

/// The most bytes that are delivered together. Must hold the longest datagram.
const DELIVER_BYTES: usize = 64 << 10;

/// Receives datagrams and delivers them.
pub(super) struct Receiving<'r> {
    context: &'r ReceiveContext,
    socket: &'r DatagramSocket,
    /// Frames that have not been delivered, all from one sender.
    buffer: BytesMut,
    sender: Option<SocketAddr>,
    deliverer: Deliverer,
    losses: Losses<'r>,
}

impl<'r> Receiving<'r> {
    pub(super) fn new(
        context: &'r ReceiveContext,
        socket: &'r DatagramSocket,
        reporter: &'r Reporter,
    ) -> Self {
        Receiving {
            context,
            socket,
            buffer: BytesMut::new(),
            sender: None,
            deliverer: Deliverer::new(context, Via::Udp)
                .without_waiting(context.config.udp_group_bytes),
            losses: Losses::new(socket, reporter),
        }
    }

    /// Returns when nothing may be received any more and everything received is in mailboxes, or when the
    /// socket fails.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let _receiver = self.context.lifecycle.receiver();
        let ended = self.receive().await;
        self.losses.look();
        ended
    }

    async fn receive(&mut self) -> io::Result<()> {
        let mut received = ReceivedDatagrams::new();
        let mut errors_in_a_row = 0;
        loop {
            tokio::select! {
                biased;
                () = self.context.lifecycle.receiving_ends() => return Ok(()),
                () = self.losses.due() => {
                    self.losses.look();
                    continue;
                }
                readable = self.socket.readable() => readable?,
            }
            self.losses.arrived();
            for _ in 0..YIELD_AFTER_CALLS {
                match self.socket.try_receive(&mut received) {
                    Ok(()) => errors_in_a_row = 0,
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                        errors_in_a_row = 0;
                        break;
                    }
                    // It may be that an earlier datagram of ours could not be delivered, which the
                    // system reports here and which does not concern receiving.
                    Err(_) if errors_in_a_row < MAX_ERRORS_IN_A_ROW => {
                        errors_in_a_row += 1;
                        break;
                    }
                    Err(err) => return Err(err),
                }
                self.collect(received.iter()).await;
            }
            self.deliver().await;
            tokio::task::yield_now().await;
        }
    }

    /// Puts the datagrams that are frames into the buffer. Before one of another sender, and before the
    /// buffer gets too long, what is in it is delivered.
    async fn collect<'d>(&mut self, datagrams: impl Iterator<Item = (SocketAddr, &'d [u8])>) {
        let mut uncollected = Uncollected {
            context: self.context,
            datagrams: datagrams.peekable(),
        };
        while let Some(&(from, datagram)) = uncollected.datagrams.peek() {
            let from = addr::canonical(from);
            if let Some(len) = frame_len(self.context, datagram) {
                if self.sender != Some(from) || self.buffer.len() + len as usize > DELIVER_BYTES {
                    self.deliver().await;
                }
                self.sender = Some(from);
                self.buffer.put_u32(len);
                self.buffer.put_slice(datagram);
            }
            uncollected.datagrams.next();
        }
    }

    async fn deliver(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let (deliverer, buffer) = (&mut self.deliverer, &mut self.buffer);
        let delivered = deliverer.deliver(sender, buffer).await;
        debug_assert!(
            matches!(delivered, Ok(Delivered::All)),
            "the lengths were checked when they were written"
        );
        buffer.reserve(DELIVER_BYTES);
    }
}

/// Received datagrams that are not in the buffer yet. If the actor ends during a delivery, nobody will
/// take them, and they are counted so.
struct Uncollected<'r, 'd, D: Iterator<Item = (SocketAddr, &'d [u8])>> {
    context: &'r ReceiveContext,
    datagrams: Peekable<D>,
}

impl<'d, D: Iterator<Item = (SocketAddr, &'d [u8])>> Drop for Uncollected<'_, 'd, D> {
    fn drop(&mut self) {
        for (from, datagram) in self.datagrams.by_ref() {
            if let Some(len) = frame_len(self.context, datagram) {
                // An intake that is dropped counts its frames as not delivered.
                let from = addr::canonical(from);
                Intake::new(&self.context.accounts, from).receive(Count::one(len as usize));
            }
        }
    }
}

/// Returns the length that the datagram's frame would have on a connection, or `None`, counted as
/// malformed, if the datagram is too short or too long for a frame.
fn frame_len(context: &ReceiveContext, datagram: &[u8]) -> Option<u32> {
    let len = PREFIX + datagram.len();
    if len < HEADER || len > context.config.max_frame {
        context.accounts.malformed();
        return None;
    }
    u32::try_from(len).ok()
}
