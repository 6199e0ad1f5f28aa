//! From the socket to the mailboxes of the groups' actors.
//!
//! Datagrams of one sender are put one behind the other into a buffer, each with its length in front, as
//! if they had come over a connection. From there on they take the same way.

use std::{iter::Peekable, net::SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::{
    net::{
        addr,
        udp::{DatagramSocket, ReceivedDatagrams},
    },
    receive::{context::ReceiveContext, deliver::Deliverer, inbound::Via},
    wire::{
        count::Count,
        frame::{HEADER, PREFIX},
    },
};

/// The number of system calls to receive datagrams before other tasks get their turn.
const YIELD_AFTER_CALLS: usize = 16;

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
}

impl<'r> Receiving<'r> {
    pub(super) fn new(context: &'r ReceiveContext, socket: &'r DatagramSocket) -> Self {
        Receiving {
            context,
            socket,
            buffer: BytesMut::new(),
            sender: None,
            deliverer: Deliverer::new(
                context.groups.clone(),
                context.accounts.clone(),
                context.config.max_frame,
                Via::Udp,
            ),
        }
    }

    /// Returns when nothing may be received any more and everything received has been handled.
    pub(super) async fn run(mut self) {
        let _receiver = self.context.lifecycle.receiver();
        let mut received = ReceivedDatagrams::new();
        loop {
            tokio::select! {
                biased;
                () = self.context.lifecycle.receiving_ends() => break,
                // The next call finds an error of the socket.
                _ = self.socket.readable() => {}
            }
            for _ in 0..YIELD_AFTER_CALLS {
                // An error means that there is nothing more; or that an earlier datagram of ours could
                // not be delivered, which the system reports here and which does not concern receiving.
                if self.socket.try_receive(&mut received).is_err() {
                    break;
                }
                self.collect(received.iter()).await;
            }
            self.deliver().await;
            tokio::task::yield_now().await;
        }
        // An actor handles the frames in its mailbox only while somebody awaits the answer.
        self.deliverer.wait_until_handled().await;
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
                if self.sender != Some(from) || self.buffer.len() + len > DELIVER_BYTES {
                    self.deliver().await;
                }
                let length = u32::try_from(len).expect("datagrams are shorter than 64 KiB");
                self.sender = Some(from);
                self.buffer.put_u32(length);
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
        debug_assert_eq!(
            delivered,
            Ok(()),
            "the lengths were checked when they were written"
        );
        buffer.reserve(DELIVER_BYTES);
    }
}

/// Received datagrams that are not in the buffer yet. If the actor ends now, nobody will take them, and
/// they are counted so.
struct Uncollected<'r, 'd, D: Iterator<Item = (SocketAddr, &'d [u8])>> {
    context: &'r ReceiveContext,
    datagrams: Peekable<D>,
}

impl<'d, D: Iterator<Item = (SocketAddr, &'d [u8])>> Drop for Uncollected<'_, 'd, D> {
    fn drop(&mut self) {
        for (_, datagram) in self.datagrams.by_ref() {
            if let Some(len) = frame_len(self.context, datagram) {
                drop(self.context.accounts.receive(Count::one(len)));
            }
        }
    }
}

/// Returns the length that the datagram's frame would have on a connection, or `None`, counted as
/// malformed, if the datagram is too short or too long for a frame.
fn frame_len(context: &ReceiveContext, datagram: &[u8]) -> Option<usize> {
    let len = PREFIX + datagram.len();
    if len < HEADER || len > context.config.max_frame {
        context.accounts.malformed();
        return None;
    }
    Some(len)
}
