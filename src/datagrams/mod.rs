//! The way of datagrams, out and in: one socket on the number of the TCP port.
//!
//! Owns the socket's use. Out, datagrams wait in a [`SendQueue`] like frames do for a peer, with the
//! same bounds, ages and counters, and leave as many together as the system takes. In, they are put
//! behind one another into one buffer, each with a length before it, so that they take the way of
//! frames from a connection from there on. Nothing that arrives is ever answered here.

mod socket;

use std::{
    future::poll_fn,
    io,
    iter::Peekable,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix::{Actor, Context};
use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::time::sleep;

use self::socket::{Arrivals, SEGMENT, Socket, TOGETHER};
use crate::{
    config::{Config, Overflow},
    error::{Refusal, SendError},
    ids::GroupId,
    net,
    net::clock::CoarseInstant,
    observe::stats::Dropped,
    receive::deliver::Deliverer,
    receive::inbound::Via,
    runtime::failpoints::Failpoint,
    runtime::shared::{Counters, Shared, count},
    runtime::supervision::{Lifeline, Supervised, live},
    send::outbox,
    send::queue::{Batch, BurstLimits, Limits, SendQueue, Taken},
    wire::count::Count,
    wire::frame::{HEADER, PREFIX},
    wire::payload::Payload,
};

/// Reads in one turn, at most.
const TURN: usize = 16;

/// Bytes that are delivered together: room for the longest datagram.
const ENOUGH: usize = 64 << 10;

/// What waits to be sent, with where it goes. It outlives the actor.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// Kept here so that an actor that is started anew receives from the same backlog; none where
    /// datagrams are switched off, or the transport has stopped.
    socket: Mutex<Option<std::net::UdpSocket>>,
    on: bool,
    local: SocketAddr,
    queue: Arc<SendQueue<SocketAddr>>,
}

impl Datagrams {
    pub(crate) fn new(
        socket: Option<std::net::UdpSocket>,
        local: SocketAddr,
        config: &Config,
    ) -> Self {
        let limits = Limits {
            frames: config.udp_queue_frames,
            bytes: config.udp_queue_bytes,
            // Longer than what the others take as a frame, they do not take it as a datagram either.
            frame: (HEADER + config.max_datagram).min(config.max_frame),
            stale_after: config.stale_after,
            overflow: Overflow::RejectNewest,
            // A datagram is one piece of memory.
            chain_from: usize::MAX,
        };
        Datagrams {
            on: socket.is_some(),
            socket: Mutex::new(socket),
            local,
            queue: Arc::new(SendQueue::new(limits)),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Registers the socket with this thread's runtime; none if there is none.
    fn register(&self) -> io::Result<Option<Socket>> {
        let register = |socket| Socket::new(net::datagrams(socket)?);
        self.socket.lock().as_ref().map(register).transpose()
    }

    /// Frees the port.
    pub(crate) fn release(&self) {
        *self.socket.lock() = None;
    }

    pub(crate) fn queue(&self) -> &Arc<SendQueue<SocketAddr>> {
        &self.queue
    }

    pub(crate) fn send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        let refuse = |refusal, payload: P| {
            self.queue.refuse(refusal, payload.as_ref().len());
            Err(refusal.with(payload))
        };
        if !self.is_on() {
            return refuse(Refusal::NoDatagrams, payload);
        }
        let to = net::canonical(to);
        let Some(to) = net::reachable_from(self.local, to).filter(|to| net::is_usable(*to)) else {
            return refuse(Refusal::Address(to), payload);
        };
        let pushed = self.queue.push(to, group, payload, CoarseInstant::now());
        pushed
            .map(drop)
            .map_err(|(refusal, payload)| refusal.with(payload))
    }
}

/// The actor; one for a transport.
#[derive(Debug)]
pub(crate) struct UdpActor {
    shared: Arc<Shared>,
    datagrams: Arc<Datagrams>,
    lifeline: Lifeline,
}

impl UdpActor {
    pub(crate) fn start(shared: Arc<Shared>, datagrams: Arc<Datagrams>, lifeline: Lifeline) {
        Actor::start(UdpActor {
            shared,
            datagrams,
            lifeline,
        });
    }
}

impl Actor for UdpActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (shared, datagrams) = (self.shared.clone(), self.datagrams.clone());
        live(self, ctx, async move {
            let socket = match datagrams.register() {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                // Out of descriptors, say: this life is over before it began, the next has a try.
                Err(err) => panic!("cannot use the datagram socket: {err}"),
            };
            tokio::select! {
                () = shared.kill.cancelled() => {}
                () = shared.failpoints.strike(Failpoint::Udp) => {}
                ((), ()) = async {
                    tokio::join!(receive(&shared, &socket), send(&shared, &datagrams.queue, &socket))
                } => {}
            }
        });
    }
}

impl Supervised for UdpActor {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Sends what is queued until there can be no more.
async fn send(shared: &Shared, queue: &Arc<SendQueue<SocketAddr>>, socket: &Socket) {
    let mut contents = Vec::new();
    loop {
        poll_fn(|cx| queue.poll_ready(cx)).await;
        loop {
            let Taken { batch, dropped } = queue.take(CoarseInstant::now());
            shared.events.tell_dropped(None, &dropped);
            let Some(mut batch) = batch else { break };
            send_batch(shared, queue, socket, &mut batch, &mut contents).await;
            tokio::task::yield_now().await;
        }
        if queue.is_done() {
            return;
        }
    }
}

async fn send_batch(
    shared: &Shared,
    queue: &SendQueue<SocketAddr>,
    socket: &Socket,
    batch: &mut Batch<SocketAddr>,
    contents: &mut Vec<u8>,
) {
    // Datagrams that were refused together, each of which is to be tried alone.
    let mut alone: usize = 0;
    loop {
        let limits = BurstLimits {
            number: match alone {
                0 => socket.together(),
                _ => 1,
            },
            each: SEGMENT,
            bytes: TOGETHER,
        };
        let Some(next) = batch.next_burst(contents, &limits) else {
            return;
        };
        match socket.try_send(next.to, contents, next.each) {
            Ok(()) => {
                batch.finish_datagrams(next.number, true);
                alone = alone.saturating_sub(1);
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let expiry = batch.next_expiry(CoarseInstant::now()).unwrap_or_default();
                tokio::select! {
                    // An error of the socket is found by the next send.
                    _ = socket.writable() => {}
                    () = sleep(expiry) => {}
                }
                let now = CoarseInstant::now();
                batch.expire(now);
                shared.events.tell_dropped(None, &queue.expire(now));
            }
            // It is about one of them, or about their going together.
            Err(_) if next.number > 1 => alone = next.number,
            Err(err) => {
                count(counter(&shared.counters, &err));
                batch.finish_datagrams(1, false);
                alone = alone.saturating_sub(1);
            }
        }
    }
}

/// Spends some time, and drops what goes stale meanwhile, with a word to the subscribers.
pub(crate) async fn expiring(shared: &Shared, datagrams: &Datagrams, time: Duration) {
    let tell = |dropped: &Dropped| shared.events.tell_dropped(None, dropped);
    outbox::expiring(datagrams.queue(), tell, sleep(time)).await;
}

/// Tells the subscribers what was dropped since the last time.
pub(crate) fn tell_dropped(shared: &Shared, queue: &SendQueue<SocketAddr>) {
    shared.events.tell_dropped(None, &queue.take_untold());
}

/// Which error this counts as.
fn counter<'c>(counters: &'c Counters, err: &io::Error) -> &'c AtomicU64 {
    const EMSGSIZE: [i32; 2] = [90, 40];

    match err.kind() {
        io::ErrorKind::ConnectionRefused => &counters.refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::PermissionDenied => &counters.unreachable,
        _ if err
            .raw_os_error()
            .is_some_and(|code| EMSGSIZE.contains(&code)) =>
        {
            &counters.too_long
        }
        _ => &counters.other,
    }
}

/// Receives until nothing may come in any more.
async fn receive(shared: &Shared, socket: &Socket) {
    let _receiving = shared.receiving.token();
    let mut inbox = Inbox::new(shared);
    let mut arrivals = Arrivals::new();
    loop {
        let readable = shared.closing.run_until_cancelled(socket.readable());
        if readable.await.is_none() {
            // What lies in a mailbox is only taken from it while somebody waits for the answer.
            return inbox.deliverer.wait_until_handled().await;
        }
        // An error is that there is nothing more; or an earlier datagram of ours came to nothing,
        // which is told here and is nothing to us.
        let mut turn = 0..TURN;
        while turn.next().is_some() && socket.try_receive(&mut arrivals).is_ok() {
            inbox.put_all(shared, arrivals.datagrams()).await;
        }
        inbox.deliver().await;
        tokio::task::yield_now().await;
    }
}

/// Datagrams that have been read and not delivered, as frames behind one another.
struct Inbox {
    buffer: BytesMut,
    /// Whom they come from.
    sender: Option<SocketAddr>,
    deliverer: Deliverer,
}

/// Datagrams that have been read and lie where they were read into. Those that are left there when the
/// actor ends are counted as what they are: taken by nobody.
struct Unread<'s, D: Iterator<Item = (SocketAddr, &'s [u8])>> {
    shared: &'s Shared,
    datagrams: Peekable<D>,
}

impl<'s, D: Iterator<Item = (SocketAddr, &'s [u8])>> Drop for Unread<'s, D> {
    fn drop(&mut self) {
        for (_, datagram) in self.datagrams.by_ref() {
            if let Some(len) = frame_len(self.shared, datagram) {
                drop(self.shared.accounts.receive(Count::one(len)));
            }
        }
    }
}

/// The length of the frame that a datagram is; none, which is counted, if it is no frame.
fn frame_len(shared: &Shared, datagram: &[u8]) -> Option<usize> {
    let len = PREFIX + datagram.len();
    if len < HEADER || len > shared.config.max_frame {
        shared.accounts.malformed();
        return None;
    }
    Some(len)
}

impl Inbox {
    fn new(shared: &Shared) -> Self {
        let (groups, accounts) = (shared.groups.clone(), shared.accounts.clone());
        Inbox {
            buffer: BytesMut::new(),
            sender: None,
            deliverer: Deliverer::new(groups, accounts, shared.config.max_frame, Via::Udp),
        }
    }

    /// Puts the datagrams that are frames behind one another. Those of another sender, or enough of
    /// the same, are delivered before.
    async fn put_all<'s>(
        &mut self,
        shared: &'s Shared,
        datagrams: impl Iterator<Item = (SocketAddr, &'s [u8])>,
    ) {
        let mut unread = Unread {
            shared,
            datagrams: datagrams.peekable(),
        };
        while let Some(&(from, datagram)) = unread.datagrams.peek() {
            let from = net::canonical(from);
            if let Some(len) = frame_len(shared, datagram) {
                if self.sender != Some(from) || self.buffer.len() + len > ENOUGH {
                    self.deliver().await;
                }
                let length = u32::try_from(len).expect("datagrams are shorter than 64 KiB");
                self.sender = Some(from);
                self.buffer.put_u32(length);
                self.buffer.put_slice(datagram);
            }
            unread.datagrams.next();
        }
    }

    async fn deliver(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let buffer = &mut self.buffer;
        let delivered = self.deliverer.deliver(sender, buffer).await;
        debug_assert_eq!(
            delivered,
            Ok(()),
            "the lengths were checked when they were written"
        );
        buffer.reserve(ENOUGH);
    }
}
