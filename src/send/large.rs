//! [`Peer::send_large`]: a message in parts.
//!
//! The caller's task puts a few parts at a time into the queue, so that other frames of the lane get between them
//! and the queue holds little of the message. The receiver puts the parts of one link together. So if a link ends
//! before all of them have been written, the queue drops those that are left, and all of them are sent again on
//! the next one, as another message: what the receiver has of the former one it drops, and never delivers.

use bytes::Bytes;

use crate::{
    error::{LargeError, Refusal},
    ids::GroupId,
    net::clock::CoarseInstant,
    send::{
        peer::Peer,
        peer_state::{NoLink, PeerState},
        queue::{Parts, Terms},
    },
    session::open_link::Takes,
    wire::{
        frame::HEADER,
        part::{PART_HEAD, PartHead},
    },
};

/// Bytes of the message in one part. Large enough that its cost is that of its bytes, and so small that another
/// frame waits less than a millisecond for it at 1 Gbit/s.
const PART_BYTES: usize = 64 << 10;

/// How many parts of a message are in the queue at the same time. Together they keep a connection busy while the
/// sender's thread is woken.
const PARTS_QUEUED: usize = 16;

/// How many links may end in the middle of a message.
const MAX_TRIES: u32 = 3;

impl Peer {
    /// Sends a message that may be longer than a frame: up to what the receiver takes
    /// ([`Config::max_message`](crate::Config::max_message)), in parts. It arrives as one payload, or not at all.
    ///
    /// A payload of at most 64 KiB is sent as one frame, as with [`send`](Peer::send). A longer one needs a node with
    /// [`Sessions`](crate::Sessions) at both ends. Waits for a connection first, for as long as a frame may wait to be
    /// written, and then puts some 1 MiB of the message into the queue at a time; other frames of the lane go between
    /// the parts. Best sent on [`Lane::BULK`](crate::Lane::BULK). In the counters of this node, each part is a frame
    /// that may go stale as others do; in those of the receiver, the message is one frame.
    ///
    /// `Ok` means that the system took all of it on one connection, not that it was received. If the connection ends
    /// before that, the message is sent again from its beginning on the next one, twice at most. It arrives once at
    /// most. On each lane of a peer one message is sent at a time; others wait for their turn, and arrive in that
    /// order.
    ///
    /// Where groups have a share of the queue ([`Config::group_share`](crate::Config::group_share)), the parts count for
    /// this group, and no more than half of its share is filled at a time; if the share is less than two parts, they are
    /// sent one by one. With [`Overflow::DropOldest`](crate::Overflow::DropOldest), other frames of the group may evict a
    /// part, as they may where a group may fill all of the queue; then sending fails.
    ///
    /// Cancelling (dropping the future) ends the message, unless all of it is in the queue: the receiver drops
    /// what it has of it, and counts that as [`DropReason::Incomplete`](crate::DropReason::Incomplete). May be
    /// awaited on any thread and any runtime.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// use actix_transport::{GroupId, Identity, Lane, NodeId, Transport};
    ///
    /// # let identity = |node| Identity::new(NodeId::new(node)).incarnation(1);
    /// # let a = Transport::builder().identity(identity(1)).bind("127.0.0.1:0")?;
    /// # let b = Transport::builder().identity(identity(2)).bind("127.0.0.1:0")?;
    /// let checkpoint = vec![7; 30 << 20];
    /// let peer = a.peer(b.local_addr())?.lane(Lane::BULK);
    /// peer.send_large(GroupId::new(3), checkpoint).await?;
    /// # a.stop(actix_transport::Shutdown::Now).await;
    /// # b.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the receiver takes no messages in parts (this is only known on connections on which both nodes have
    /// introduced themselves; see [`Sessions::Optional`](crate::Sessions)), or none as long as this; if no
    /// connection comes in time; if a part is dropped, or connections end again and again; and as for
    /// [`send`](Peer::send). The payload does not come back: keep a clone, which is cheap for [`Bytes`].
    pub async fn send_large(
        &self,
        group: GroupId,
        payload: impl Into<Bytes>,
    ) -> Result<(), LargeError> {
        let payload = payload.into();
        let state = &self.state;
        if payload.len() <= PART_BYTES && HEADER + payload.len() <= state.queue.longest_frame() {
            let sent = self.send(group, payload).await;
            return sent.map_err(|err| LargeError::Refused(err.without_payload()));
        }
        if group == GroupId::RESERVED {
            state.queue.refuse(Refusal::ReservedGroup, payload.len());
            return Err(refused(Refusal::ReservedGroup));
        }
        let no_head = |_| Began::With(Bytes::new());
        state.send_in_parts(group, payload, no_head).await
    }
}

impl PeerState {
    /// Sends a message in parts, however short it is. `begins` is called with the number of each link that it is about
    /// to be sent on, and returns what comes before `body`.
    pub(crate) async fn send_in_parts(
        &self,
        group: GroupId,
        body: Bytes,
        begins: impl Fn(u64) -> Began,
    ) -> Result<(), LargeError> {
        // One at a time: each has the memory of the far end for itself.
        let mut number = self.messages.lock().await;
        for _ in 0..MAX_TRIES {
            let (link, takes) = self.until_takes().await.map_err(|why| match why {
                NoLink::Refused(refusal) => refused(refusal),
                NoLink::InTime => LargeError::NoConnection,
            })?;
            *number += 1;
            let takes = takes.ok_or(LargeError::Unsupported)?;
            let head = match begins(link) {
                Began::With(head) => head,
                Began::TooLate => continue,
                Began::NotWanted => return Ok(()),
                Began::Unsupported => return Err(LargeError::Unsupported),
            };
            let payload = LargePayload::new(head, body.clone());
            if payload.len() as u64 > takes.message {
                let (len, max) = (payload.len(), takes.message);
                return Err(LargeError::TooLarge { len, max });
            }
            let mut message = Message {
                state: self,
                group,
                number: *number,
                parts: Parts::on(link),
                total: payload.len() as u64,
                unfinished: true,
            };
            let outcome = message.send(&payload, takes).await?;
            message.unfinished = false;
            match outcome {
                Outcome::Written => return Ok(()),
                Outcome::Torn => {}
            }
        }
        Err(LargeError::Cut)
    }
}

/// Whether a message may be sent on a link.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) enum Began {
    /// It may, with this before its bytes.
    With(Bytes),
    /// The link has ended.
    TooLate,
    /// Nobody needs it any more.
    NotWanted,
    /// The far end does not understand it.
    Unsupported,
}

/// The bytes of a message: a short head, and what follows it.
#[derive(Debug, Clone)]
struct LargePayload {
    head: Bytes,
    body: Bytes,
}

impl LargePayload {
    fn new(head: Bytes, body: Bytes) -> Self {
        LargePayload { head, body }
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Returns the bytes of one part. Copies them only where the head ends.
    fn slice(&self, from: usize, to: usize) -> Bytes {
        let of_body = |at: usize| at.saturating_sub(self.head.len());
        let body = self.body.slice(of_body(from)..of_body(to));
        match self.head.get(from..) {
            None | Some([]) => body,
            Some(head) => {
                let head = &head[..head.len().min(to - from)];
                [head, &body].concat().into()
            }
        }
    }
}

fn refused(refusal: Refusal) -> LargeError {
    LargeError::Refused(refusal.with(()))
}

/// One try to send a message.
struct Message<'p> {
    state: &'p PeerState,
    group: GroupId,
    number: u64,
    parts: Parts,
    total: u64,
    /// Whether the receiver may wait for more of it.
    unfinished: bool,
}

enum Outcome {
    /// All of it was written on one link.
    Written,
    /// A link ended in the middle of it.
    Torn,
}

impl Message<'_> {
    async fn send(&self, payload: &LargePayload, takes: Takes) -> Result<Outcome, LargeError> {
        let (queue, parts) = (&self.state.queue, &self.parts);
        let frame = queue.longest_frame().min(takes.frame as usize);
        let step = PART_BYTES.min(frame.saturating_sub(HEADER + PART_HEAD));
        if step == 0 {
            return Err(LargeError::Unsupported);
        }
        // No more than half of the queue, or of what one group may have of it, or parts could push each other out of it.
        let at_once = queue.half_of_frames(HEADER + PART_HEAD + step);
        let at_once = PARTS_QUEUED.min(at_once).max(1);
        for offset in (0..payload.len()).step_by(step) {
            let known = parts
                .until(|known| known.queued < at_once || known.dropped || known.torn)
                .await;
            if known.dropped {
                return Err(LargeError::Dropped);
            }
            if known.torn || known.link != queue.link() {
                return Ok(Outcome::Torn);
            }
            let head = self.head(offset).encode();
            let bytes = payload.slice(offset, payload.len().min(offset + step));
            let terms = Terms {
                part: Some(parts.part()),
                ..Terms::default()
            };
            let frame = (self.group, (head, bytes));
            let queued = queue.push_apart_wait((), frame, terms, CoarseInstant::now);
            match queued.await {
                Ok(doorbell) => self.state.ring(doorbell),
                Err((refusal, _)) => return Err(refused(refusal)),
            }
        }
        let known = parts
            .until(|known| known.queued == 0 || known.dropped || known.torn)
            .await;
        match known {
            known if known.dropped => Err(LargeError::Dropped),
            known if known.torn => Ok(Outcome::Torn),
            _ => Ok(Outcome::Written),
        }
    }

    fn head(&self, offset: usize) -> PartHead {
        PartHead {
            message: self.number,
            group: self.group,
            total: self.total,
            offset: offset as u64,
        }
    }
}

impl Drop for Message<'_> {
    /// Tells the receiver that the rest will not come. If the queue has no room for that, it finds out by itself.
    fn drop(&mut self) {
        if !self.unfinished {
            return;
        }
        let terms = Terms {
            part: Some(self.parts.part()),
            ..Terms::default()
        };
        let frame = (self.group, self.head(0).encode_cancelled());
        let now = CoarseInstant::now();
        if let Ok(doorbell) = self.state.queue.push_apart((), frame, terms, now) {
            self.state.ring(doorbell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_payload_are_all_of_it() {
        let (head, body) = (Bytes::from_static(b"head"), Bytes::from_static(b"the body"));
        let whole = [&head[..], &body].concat();
        let payload = LargePayload::new(head, body);
        for step in 1..=whole.len() {
            let froms = (0..whole.len()).step_by(step);
            let parts = froms.map(|from| payload.slice(from, whole.len().min(from + step)));
            assert_eq!(parts.collect::<Vec<_>>().concat(), whole, "{step}");
        }
    }
}
