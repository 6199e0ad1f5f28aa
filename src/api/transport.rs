//! [`Transport`]: the handle that users hold. Every method passes the call on to the part that does it.

use std::{fmt, net::SocketAddr, sync::Arc};

use actix::{Addr, ArbiterHandle, Recipient};

use crate::{
    api::{
        node::Node,
        running::Running,
        shutdown::{Shutdown, StopReport},
    },
    config::Config,
    error::{PeerError, SendError},
    ids::{GroupId, NodeId},
    net::udp_buffers::DatagramBuffers,
    observe::{
        event::PeerEvent,
        stats::{GroupStats, PeerStats, Stats},
    },
    peer_addr::PeerAddr,
    send::peer::Peer,
    wire::payload::Payload,
};

/// A handle to a transport, which sends frames to other nodes and delivers received frames to actors.
///
/// Cheap to clone: hand a clone to every thread or actor that needs it. Several transports may live in one
/// process; they share nothing. Dropping the last handle stops the transport like [`Shutdown::Now`], but
/// without waiting: the port is free and the threads end within about 50 ms. Subscribers may then not
/// hear of the frames that a writer was just writing; these are counted all the same. A [`Peer`] does not
/// keep the transport alive.
///
/// ```
/// use actix_transport::{GroupId, Shutdown, Transport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// actix::System::new().block_on(async {
///     let transport = Transport::builder().bind("127.0.0.1:0")?;
///     let somewhere: std::net::SocketAddr = "127.0.0.1:9".parse()?;
///     transport.try_send(somewhere, GroupId::new(3), "anybody there?")?;
///     let report = transport.stop(Shutdown::Now).await;
///     assert!(transport.stats().balance().is_ok());
///     # let _ = report;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Transport(pub(super) Arc<Running>);

impl Transport {
    /// Returns the address that the transport listens on, for connections and datagrams, with the port
    /// that the system chose for port 0. Other nodes send to it, unless it stands for all addresses of
    /// the machine (`0.0.0.0`). A transport that listens nowhere
    /// ([`Builder::connect_only`](crate::Builder::connect_only)) has the port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Returns the configuration the transport was made with.
    pub fn config(&self) -> &Config {
        &self.0.receive.config
    }

    /// Returns the sizes that the system reports for the buffers of the UDP socket. They may differ from
    /// [`Config::udp_receive_buffer`] and [`Config::udp_send_buffer`]: the system may give less, and Linux
    /// gives and reports twice what it is asked for. `None` if datagrams are switched off, and after the
    /// transport has stopped.
    pub fn datagram_buffers(&self) -> Option<DatagramBuffers> {
        self.0.outgoing.buffers()
    }

    /// Returns the address of the [`Node`], an actor that offers some of these methods as actix messages.
    /// Returns `None` for a moment at the start and while the actor is being restarted, and after the
    /// transport has stopped.
    pub fn node(&self) -> Option<Addr<Node>> {
        self.0.node.lock().clone().filter(Addr::connected)
    }

    /// Returns an arbiter on which you can start actors: with
    /// [`Placement::Current`](crate::Placement::Current) the one that called
    /// [`Builder::bind`](crate::Builder::bind), otherwise the first of the actix `System` that the transport
    /// runs in. Where no `System` ran on the thread that called `bind`, the transport started one on a
    /// thread of its own: a program on plain tokio can start its actors there, with
    /// [`Actor::start_in_arbiter`](actix::Actor::start_in_arbiter). That `System`, and the actors on it,
    /// end with the transport: such an actor that awaits [`stop`](Transport::stop) ends before it returns.
    pub fn arbiter(&self) -> ArbiterHandle {
        self.0.arbiters.home.clone()
    }

    /// Returns the arbiter on which the transport receives, the first one if there are several. A group's actor
    /// that is started there, with [`Actor::start_in_arbiter`](actix::Actor::start_in_arbiter), gets its messages
    /// without the wake-up of another thread, which shortens a round trip. While its handler runs, nothing else is
    /// received on that arbiter, so it must be quick and must not block. The actor ends with the transport, except with
    /// [`Placement::Current`](crate::Placement::Current): then this is the arbiter that called `bind`.
    pub fn receiving_arbiter(&self) -> ArbiterHandle {
        self.0.arbiters.first.clone()
    }

    // ---- sending -----------------------------------------------------------------------------------

    /// Returns a handle to the peer at `addr`, to send many frames with one look-up. Does not connect: the
    /// first frame does, and [`Peer::connect`].
    ///
    /// `addr` is a `SocketAddr`, a [`PeerAddr`], or a text: `"10.0.0.2:7000"`, `"[::1]:7000"` or
    /// `"node-3.svc:7000"`. A name is not looked up here, but at each dial, off the threads that write, with all
    /// of the dial within [`Config::connect_timeout`]. All addresses of a name are tried, up to 16: the next one
    /// 250 ms after one that does not answer, and at once after one that refuses (RFC 8305). The first that
    /// connects wins. So frames that wait for a name go to where it leads by then.
    ///
    /// A name that leads nowhere, or to this node itself, is reported as
    /// [`PeerEvent::Unreachable`] with a [`NameError`](crate::NameError), and dialled again after the usual wait.
    /// To send to this node itself, use its [`local_addr`](Transport::local_addr), or say with
    /// [`Builder::peer`](crate::Builder::peer) that the name is its own. Who gives addresses for names can be
    /// chosen with [`Builder::resolver`](crate::Builder::resolver).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// # let transport = actix_transport::Transport::builder().bind("127.0.0.1:0")?;
    /// let peer = transport.peer("node-3.svc:7000")?;
    /// assert_eq!(peer.addr().host(), Some("node-3.svc"));
    ///
    /// let err = transport.peer("node-3.svc").unwrap_err();
    /// assert!(err.to_string().contains("node-3.svc"));
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is no address, or the address is unusable; or if the peer is not known yet, and
    /// [`Config::max_peers`](Config::max_peers) are known or the transport has stopped.
    pub fn peer<A>(&self, addr: A) -> Result<Peer, PeerError>
    where
        A: TryInto<PeerAddr>,
        PeerError: From<A::Error>,
    {
        Ok(self.0.peers.get(&addr.try_into()?)?)
    }

    /// Returns a handle to the peer that is this node, at the address that
    /// [`Builder::peer`](crate::Builder::peer) was given for it. No other node gets its frames.
    ///
    /// ```
    /// use actix_transport::{Identity, NodeId, PeerError, Transport};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// let transport = Transport::builder()
    ///     .identity(Identity::new(NodeId::new(2)))
    ///     .peer(NodeId::new(3), "node-3.svc:7000")
    ///     .bind("127.0.0.1:0")?;
    /// let peer = transport.peer_of(NodeId::new(3))?;
    /// assert_eq!(peer.addr().to_string(), "node-3.svc:7000");
    ///
    /// let err = transport.peer_of(NodeId::new(4)).unwrap_err();
    /// assert_eq!(err, PeerError::UnknownNode(NodeId::new(4)));
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the builder was given no address for this node, and as for [`peer`](Transport::peer).
    pub fn peer_of(&self, node: NodeId) -> Result<Peer, PeerError> {
        let sessions = self.0.receive.sessions.as_ref();
        let addr = sessions.and_then(|sessions| sessions.addr_of(node));
        self.peer(addr.ok_or(PeerError::UnknownNode(node))?)
    }

    /// Sends a frame to `group` of the peer at `to`, a `SocketAddr` or a [`PeerAddr`], if there is room for it
    /// now; see [`Peer::try_send`].
    ///
    /// # Errors
    ///
    /// Those of [`Peer::try_send`] and of [`peer`](Transport::peer). Each gives the payload back.
    pub fn try_send<P: Payload>(
        &self,
        to: impl Into<PeerAddr>,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.peers.try_send(&to.into(), group, payload)
    }

    /// Sends a frame to `group` of the peer at `to`, a `SocketAddr` or a [`PeerAddr`], as soon as there is room
    /// for it; see [`Peer::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Peer::send`] and of [`peer`](Transport::peer). Each gives the payload back.
    pub async fn send<P: Payload>(
        &self,
        to: impl Into<PeerAddr>,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.peers.send(&to.into(), group, payload).await
    }

    /// Sends a frame as a datagram, if there is room for it now. The network may lose, duplicate or
    /// reorder it and nobody is told; the receiving node drops it if the group there is too slow
    /// ([`Config::udp_group_bytes`]). What is lost on this side is counted.
    ///
    /// # Errors
    ///
    /// Gives the payload back if the queue of datagrams is full, the payload is longer than
    /// [`Config::max_datagram`], the address is unusable or of the other ip version, the group is
    /// reserved, datagrams are switched off, or the transport has stopped.
    pub fn send_datagram<P: Payload>(
        &self,
        to: SocketAddr,
        group: GroupId,
        payload: P,
    ) -> Result<(), SendError<P>> {
        self.0.outgoing.send(to, group, payload)
    }

    /// Sends a frame as a datagram if its payload is at most [`Config::max_datagram`] long, and over a
    /// connection if it is longer, as PhxPaxos does. Also uses a connection where no datagram can go:
    /// datagrams are switched off, or this node has an IPv4 address and `to` is an IPv6 address. Sends
    /// now or not at all. Frames sent so arrive in any order.
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
        if self.0.outgoing.reaches(to) && payload.byte_len() <= self.config().max_datagram {
            return self.send_datagram(to, group, payload);
        }
        self.try_send(to, group, payload)
    }

    // ---- watching and stopping ---------------------------------------------------------------------

    /// Sends `subscriber` the events that happen from now on, until it or the transport ends; see
    /// [`PeerEvent`]. After the transport has stopped there are no events.
    pub fn subscribe(&self, subscriber: Recipient<PeerEvent>) {
        let sending = self.0.reporter.subscribers.add(subscriber);
        self.0.arbiters.readers[0].spawn_untracked(sending);
    }

    /// Returns a snapshot of all counters. The counters of frames always balance; see
    /// [`Stats::balance`].
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Returns a snapshot of the counters of a group's received frames, or `None` if no actor is
    /// registered for the group. They count from the group's registration on; a replacing actor goes on
    /// with them.
    pub fn group_stats(&self, group: GroupId) -> Option<GroupStats> {
        self.0.receive.groups.stats(group)
    }

    /// Returns a snapshot of the counters of a peer's normal lane, found by a `SocketAddr` or a [`PeerAddr`]. `None` if
    /// nothing was sent on that lane lately. [`peers`](Transport::peers) has all lanes.
    pub fn peer_stats(&self, addr: impl Into<PeerAddr>) -> Option<PeerStats> {
        self.0.peers.peer_stats(&addr.into())
    }

    /// Returns a snapshot of each lane in use of each peer that is known now, ordered by address, with those that have
    /// a name at the end: its connection and its counters. A peer is known from the first send to it until it is forgotten
    /// ([`Config::idle_timeout`](Config::idle_timeout)).
    pub fn peers(&self) -> Vec<PeerStats> {
        self.0.peers.all_stats()
    }

    /// Stops the transport and reports what was left undelivered.
    ///
    /// May be awaited on any thread, with any executor. It needs no new thread.
    ///
    /// Once the returned future has been polled, no frame is accepted for sending. When it returns, the
    /// port is free and no task or thread of the transport is left, except for threads that wait for the
    /// system to resolve a name: nothing can end such a wait, so `stop` does not wait for it. The counters are final then, except for
    /// frames that are with your actors: after [`Shutdown::Now`], or a drain that reached its limit, an
    /// [`Inbound`](crate::Inbound) in a mailbox or in a handler is counted when it is dropped.
    ///
    /// Calling it again, from any handle, waits for the same end and returns the same report; the first
    /// call that is not cancelled decides how the transport stops. A cancelled call leaves the transport
    /// stopping: it accepts no more frames. Call `stop` again to wait for the end.
    ///
    /// It takes somewhat longer than the given limit: tasks and threads must end, and subscribers have
    /// up to 50 ms to handle the last events.
    ///
    /// Connections are closed while bytes may be on their way. What the kernel took from a writer counts
    /// as written. Bytes that this node has not read are lost, and their sender does not send them again.
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
        f.debug_tuple("Transport").field(&self.0.local).finish()
    }
}
