//! The face: [`Transport`], how it is made and how it ends.
//!
//! Owns the order of starting and stopping and nothing else: every call goes straight to the part
//! that does it.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use actix::{Addr, Recipient};
use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::sleep};

use crate::{
    api::node::Node,
    config::{Config, Placement},
    datagrams::{self, Datagrams, UdpActor},
    error::{BindError, PeerError, RegisterError, SendError},
    ids::GroupId,
    net,
    observe::event::{Component, PeerEvent},
    observe::stats::{PeerStats, Stats},
    receive::groups::{Group, GroupOverflow},
    receive::inbound::Inbound,
    receive::listener::{Listener, Seats},
    receive::reader::Reader,
    runtime::arbiters::Pool,
    runtime::failpoints::Failpoints,
    runtime::shared::Shared,
    send::peer::Peer,
    send::peers::Peers,
    send::queue::CloseOnDrop,
    wire::count::Count,
    wire::payload::Payload,
};

/// A node's end of the network: sends frames to others and has those that come in delivered.
///
/// A cheap handle; clone it into whatever thread or actor needs it. Several transports may live in
/// one process and never meet, save over the network. Dropping the last handle stops the transport
/// as [`Shutdown::Now`] does, without waiting for it: the port is free and the threads end within 50 ms
/// or so, and of what a writer has in hand then, which is counted, subscribers may not hear any more.
/// [`Peer`]s are not handles to it.
///
/// ```
/// use actix_transport::{GroupId, Shutdown, Transport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// actix::System::new().block_on(async {
///     let transport = Transport::builder().bind("127.0.0.1:0")?;
///     let somewhere = "127.0.0.1:9".parse()?;
///     transport.try_send(somewhere, GroupId::new(3), "anybody there?")?;
///     let report = transport.stop(Shutdown::Now).await;
///     assert!(transport.stats().balance().is_ok());
///     # let _ = report;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Transport(Arc<Handle>);

/// What the handles have in common. Its end is the transport's.
struct Handle {
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    datagrams: Arc<Datagrams>,
    pool: Arc<Pool>,
    node: Arc<Mutex<Option<Addr<Node>>>>,
    stopped: OnceCell<StopReport>,
}

/// Makes a [`Transport`]; see [`Transport::builder`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    config: Config,
    failpoints: Failpoints,
}

impl Builder {
    /// Sets the configuration; without, it is [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Lets a test make the transport's actors panic.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Opens the sockets and starts the actors: from here on, others can connect. Port 0 lets the
    /// system choose; see [`Transport::local_addr`].
    ///
    /// Must be called where an actix `System` runs; with [`Placement::Current`] a tokio `LocalSet`
    /// will do, and on a runtime without one it panics, as `tokio::task::spawn_local` does. A host
    /// name is resolved here, which blocks; of several addresses the first that can be bound is taken.
    ///
    /// # Errors
    ///
    /// Names the address that cannot be bound, or the configuration's field that cannot be used.
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<Transport, BindError> {
        self.config.validate()?;
        let ready = match self.config.placement {
            Placement::Dedicated { .. } => actix_rt::System::is_registered(),
            Placement::Current => tokio::runtime::Handle::try_current().is_ok(),
        };
        if !ready {
            return Err(BindError::NoSystem);
        }
        let failed = |source| BindError::Bind {
            addr: format!("{addr:?}"),
            source,
        };
        let mut bound = Err(std::io::ErrorKind::AddrNotAvailable.into());
        for addr in addr.to_socket_addrs().map_err(failed)? {
            bound = net::bind(addr, &self.config);
            if bound.is_ok() {
                break;
            }
        }
        let bound = bound.map_err(failed)?;
        let shared = Arc::new(Shared::new(self.config, bound.addr, self.failpoints));
        let pool = Arc::new(Pool::start(&shared).map_err(failed)?);
        let peers = Peers::new(shared.clone(), pool.clone());
        let datagrams = Datagrams::new(bound.udp, bound.addr, &shared.config);
        let handle = Handle {
            shared,
            peers,
            datagrams: Arc::new(datagrams),
            pool,
            node: Arc::default(),
            stopped: OnceCell::new(),
        };
        handle.start(bound.tcp);
        Ok(Transport(Arc::new(handle)))
    }
}

impl Handle {
    /// Starts the actors, each where it belongs, and keeps them alive.
    fn start(&self, socket: std::net::TcpListener) {
        let seats = Arc::new(Seats::new(self.pool.readers.len()));
        for (index, place) in self.pool.readers.iter().enumerate() {
            let (shared, seats) = (self.shared.clone(), seats.clone());
            place.spawn(move || async move {
                let start = |lifeline| {
                    seats.seat(index, Some(Reader::start(shared.clone(), lifeline)));
                };
                shared
                    .keep_alive(Component::Reader(index), start, sleep)
                    .await;
                seats.seat(index, None);
            });
        }

        // Those that have little to do share the first reader's arbiter.
        let place = &self.pool.readers[0];
        let (shared, socket) = (self.shared.clone(), Arc::new(socket));
        place.spawn(move || async move {
            let start = |lifeline| {
                Listener::start(shared.clone(), socket.clone(), seats.clone(), lifeline);
            };
            shared.keep_alive(Component::Listener, start, sleep).await;
        });
        let (shared, peers, node) = (self.shared.clone(), self.peers.clone(), self.node.clone());
        place.spawn(move || async move {
            let start = |lifeline| {
                *node.lock() = Some(Node::start(shared.clone(), peers.clone(), lifeline));
            };
            shared.keep_alive(Component::Node, start, sleep).await;
            *node.lock() = None;
        });
        if self.datagrams.is_on() {
            let (shared, datagrams) = (self.shared.clone(), self.datagrams.clone());
            let end = CloseOnDrop::new(datagrams.queue().clone());
            place.spawn(move || async move {
                let _end = end;
                let start = |lifeline| UdpActor::start(shared.clone(), datagrams.clone(), lifeline);
                // Between two actors the datagrams go on ageing.
                let rest = |time| crate::datagrams::expiring(&shared, &datagrams, time);
                shared.keep_alive(Component::UdpActor, start, rest).await;
            });
        }
    }

    async fn stop(&self, how: Shutdown) -> StopReport {
        let Handle {
            shared,
            peers,
            datagrams,
            ..
        } = self;
        peers.seal();
        datagrams.queue().seal();
        if let Shutdown::Drain(limit) = how {
            let drained = async {
                // Others may be draining towards us, and we towards ourselves: we read until all
                // we had to say is said, and then handle what was read.
                tokio::join!(peers.drained(), datagrams.queue().drained());
                shared.closing.cancel();
                // A read of many groups is delivered in rounds, and between two nothing is in delivery.
                shared.receiving.close();
                shared.receiving.wait().await;
                shared.accounts.drained().await;
            };
            // What is left when the time is over stands in the report.
            let _ = tokio::time::timeout(limit, drained).await;
        }
        self.end();
        shared.tasks.wait().await;
        datagrams.release();
        crate::datagrams::tell_dropped(shared, datagrams.queue());
        // The actors that were registered may hold handles of ours.
        shared.groups.close();
        let report = StopReport {
            undelivered: peers.undelivered(),
            datagrams: datagrams.queue().stats().dropped.stopped,
        };
        shared.events.end().await;
        self.pool.stop().await;
        report
    }

    /// Tells everything to end, without waiting for it.
    fn end(&self) {
        self.shared.accounts.stopping();
        self.shared.closing.cancel();
        self.peers.close();
        self.datagrams.queue().close();
        self.shared.kill.cancel();
        self.shared.tasks.close();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.stopped.get().is_none() {
            self.end();
            self.peers.undelivered();
            datagrams::tell_dropped(&self.shared, self.datagrams.queue());
            self.shared.events.close();
        }
    }
}

impl Transport {
    /// Returns what makes a transport.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the address that is listened at, with the port that the system chose for port 0: what
    /// others send to, unless it is the one for all of a machine's (`0.0.0.0`). It is the same for
    /// connections and datagrams.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.shared.local
    }

    /// Returns the configuration the transport was made with.
    pub fn config(&self) -> &Config {
        &self.0.shared.config
    }

    /// Returns the actor that takes what these methods do as actix messages. None for the moment
    /// before its first life and between two, and once the transport has stopped.
    pub fn node(&self) -> Option<Addr<Node>> {
        self.0.node.lock().clone().filter(Addr::connected)
    }

    // ---- in ----------------------------------------------------------------------------------------

    /// Lets `actor` have the frames of `group`, from the next one that is read on. While it is slow,
    /// the connections that bring its frames wait ([`GroupOverflow::Wait`]).
    ///
    /// The registration keeps the actor alive until it is taken back or the transport has stopped.
    /// An actor that holds a `Transport` to answer with keeps the transport alive in turn: such a
    /// pair ends by [`stop`](Transport::stop) or [`unregister`](Transport::unregister), not by
    /// dropping the last handle elsewhere. A [`Peer`] is no such handle.
    ///
    /// # Errors
    ///
    /// When an actor that lives serves the group already, the group is reserved, or the transport has
    /// stopped. An actor that has ended gives way.
    pub fn register(&self, group: GroupId, actor: Recipient<Inbound>) -> Result<(), RegisterError> {
        self.register_with(group, actor, GroupOverflow::Wait)
    }

    /// The same, with a choice of what happens while the actor is slow.
    ///
    /// # Errors
    ///
    /// As for [`register`](Transport::register).
    pub fn register_with(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
        overflow: GroupOverflow,
    ) -> Result<(), RegisterError> {
        self.0
            .shared
            .groups
            .register(group, Group::new(actor, overflow))
    }

    /// Lets `actor` have the frames of `group` in place of whoever had them, and returns that one.
    /// What was on its way to the former actor still reaches it. The way of being slow is kept, or
    /// [`GroupOverflow::Wait`] where nobody served the group.
    ///
    /// # Errors
    ///
    /// When the group is reserved, or the transport has stopped.
    pub fn replace(
        &self,
        group: GroupId,
        actor: Recipient<Inbound>,
    ) -> Result<Option<Recipient<Inbound>>, RegisterError> {
        let old = self.0.shared.groups.replace(group, actor)?;
        Ok(old.map(|row| row.actor.clone()))
    }

    /// Takes the frames of `group` from whoever has them, and returns that one. They go to the actor for
    /// [all others](Transport::catch_all) then, if there is one.
    pub fn unregister(&self, group: GroupId) -> Option<Recipient<Inbound>> {
        let row = self.0.shared.groups.unregister(group)?;
        Some(row.actor.clone())
    }

    /// Lets `actor` have the frames of all groups that nobody serves; `None` takes that back. While it
    /// is slow, they wait ([`GroupOverflow::Wait`]). What nobody has at all is counted as
    /// [`DropReason::NoGroup`](crate::DropReason::NoGroup). Nothing happens once the transport has
    /// stopped.
    pub fn catch_all(&self, actor: Option<Recipient<Inbound>>) {
        let row = actor.map(|actor| Group::new(actor, GroupOverflow::Wait));
        self.0.shared.groups.catch_all(row);
    }

    // ---- out ---------------------------------------------------------------------------------------

    /// Returns a handle to the peer that listens at `addr`, for many sends without a look-up each.
    /// Connects nowhere: the first frame does.
    ///
    /// # Errors
    ///
    /// When the address is unusable, or the peer is not known yet and the cap on peers is reached or
    /// the transport has stopped.
    pub fn peer(&self, addr: SocketAddr) -> Result<Peer, PeerError> {
        self.0.peers.get(addr)
    }

    /// Sends a frame to `group` of the node that listens at `to`, if there is room for it now; see
    /// [`Peer::try_send`].
    ///
    /// # Errors
    ///
    /// Those of [`Peer::try_send`] and of [`peer`](Transport::peer), with the payload in them.
    pub fn try_send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.peers.try_send(to, group, payload)
    }

    /// Sends a frame to `group` of the node that listens at `to`, as soon as there is room for it;
    /// see [`Peer::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Peer::send`] and of [`peer`](Transport::peer), with the payload in them.
    pub async fn send<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.peers.send(to, group, payload).await
    }

    /// Sends a frame as a datagram, if there is room for it now. It may be lost, doubled or
    /// overtaken on its way without a word, and where it arrives, if a group there is slow
    /// ([`GroupOverflow::Wait`]); what is lost on this side is counted.
    ///
    /// # Errors
    ///
    /// Gives the payload back when the queue of datagrams is full, the payload longer than
    /// [`Config::max_datagram`], the address unusable or of the other ip version, the group
    /// reserved, datagrams switched off, or the transport stopped.
    pub fn send_datagram<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.datagrams.send(to, group, payload)
    }

    /// Sends a frame as a datagram if it is no longer than [`Config::max_datagram`] and over a
    /// connection if it is, as PhxPaxos does; at once, or not at all. Frames sent so have no order.
    ///
    /// # Errors
    ///
    /// Those of [`send_datagram`](Transport::send_datagram) or [`try_send`](Transport::try_send).
    pub fn send_auto<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        if self.0.datagrams.is_on() && payload.as_ref().len() <= self.config().max_datagram {
            return self.send_datagram(to, group, payload);
        }
        self.try_send(to, group, payload)
    }

    // ---- about -------------------------------------------------------------------------------------

    /// Tells `observer` what happens from now on, until it or the transport ends; see [`PeerEvent`]. A
    /// transport that has stopped tells nothing.
    pub fn subscribe(&self, observer: Recipient<PeerEvent>) {
        let telling = self.0.shared.events.subscribe(observer);
        self.0.pool.readers[0].spawn_untracked(telling);
    }

    /// Returns a snapshot of all counters. It is exact: every frame is in one place, at every moment.
    pub fn stats(&self) -> Stats {
        Stats {
            tcp: self.0.peers.stats(),
            udp: self.0.datagrams.queue().stats(),
            inbound: self.0.shared.accounts.stats(),
            links: self.0.shared.link_stats(self.0.peers.len()),
        }
    }

    /// Returns a snapshot of one peer's counters; none if it is not known, or forgotten.
    pub fn peer_stats(&self, addr: SocketAddr) -> Option<PeerStats> {
        self.0.peers.peer_stats(addr)
    }

    /// Stops the transport and says what was left undelivered.
    ///
    /// From the moment of the call nothing new is taken to be sent. When it returns, the port is
    /// free, no task or thread of the transport is left, and the counters are final, but for what is
    /// with your actors: after [`Shutdown::Now`], or a drain that came to its limit, an [`Inbound`]
    /// that is in a mailbox or in a handler is counted when it goes. Calling it again, from any handle,
    /// waits for the same end and returns the same report; the first call that is not cancelled decides
    /// how. A cancelled one leaves the transport sealed or, after [`Shutdown::Now`], ended: call it
    /// again.
    ///
    /// After the time that it is given it takes some more, for its tasks and threads to end, and up to
    /// 50 ms for subscribers to read the last news.
    ///
    /// Connections are closed, on both sides of which bytes may be under way: what the kernel took
    /// from a writer counts as written, and what a reader had not read is lost to its sender, who
    /// has sent at most once.
    pub async fn stop(&self, how: Shutdown) -> StopReport {
        self.0
            .stopped
            .get_or_init(|| self.0.stop(how))
            .await
            .clone()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transport")
            .field(&self.0.shared.local)
            .finish()
    }
}

/// How [`Transport::stop`] stops.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum Shutdown {
    /// Without delay: what is queued is dropped and counted.
    Now,
    /// When the queues are empty and what was received by then is handled, but no later than this.
    /// Frames are received as long as the queues are not empty.
    Drain(Duration),
}

/// What a stop left undone.
#[derive(Debug, Clone, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StopReport {
    /// Frames that were accepted, and then neither written nor dropped before the end (for their age,
    /// say), by peer; peers without any are left out.
    pub undelivered: Vec<(SocketAddr, Count)>,
    /// Datagrams that were accepted and not sent.
    pub datagrams: Count,
}
