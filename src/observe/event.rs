//! `PeerEvent`: what a transport tells its subscribers.
//!
//! Owns the public types. How they wait for a slow subscriber is in `event_queue`, who is subscribed
//! in `subscribers`.

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::{fmt, io, net::SocketAddr};

use actix::Message;

use crate::{
    ids::{GroupId, Incarnation, NodeId},
    lane::Lane,
    net::{names::NameError, time::SystemTime, utc::Utc},
    observe::stats::{DropReason, Receipt},
    peer_addr::PeerAddr,
    wire::{control::refused::RefusedReason, count::Count},
};
#[cfg(feature = "tls")]
use crate::{net::tls::Certificate, tls_error::TlsError};

/// An event of the transport: about one of its peers, or about the transport itself.
///
/// Subscribe with [`Transport::subscribe`](crate::Transport::subscribe). Events about one peer come in
/// order; the next is sent when the subscriber has handled the one before. For a slow subscriber, events
/// of the same kind about the same peer or actor merge: it gets the latest, with the counts of dropped
/// frames and of frames in doubt added up. Drops of received frames merge by their reason only, for all senders
/// and groups. At most 16,384 events wait for a subscriber. If there are more, the oldest are discarded, and
/// [`Missed`](PeerEvent::Missed) says how many. When the transport stops, subscribers have 50 ms to handle what is
/// left. At most 16,384 more events are then queued, added up over all subscribers; of the others each subscriber
/// gets only the number, as `Missed`.
///
/// An event displays as one line for a log, such as `peer 10.0.0.2:7000 is unreachable since
/// 2025-03-01T12:00:00Z, after 3 failed dials: connection refused`. Times are in UTC.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerEvent {
    /// Frames can leave for the peer on a lane: a connection has been made, or one that the peer made is used. If
    /// frames wait for the peer's answer to a `Hello`, it has answered; see [`Sessions`](crate::Sessions).
    Up {
        /// What the peer is called: its name and port, or its ip and port.
        peer: PeerAddr,
        /// The lane.
        lane: Lane,
        /// The ip and port that the connection leads to.
        addr: SocketAddr,
        /// The number of the node at the other end, if it has answered a `Hello` by now.
        node: Option<NodeId>,
        /// The number of this connection, counted from 1 since the peer became known. It starts over when
        /// the peer was forgotten and becomes known again.
        epoch: u64,
    },
    /// The connection of a lane to the peer has ended.
    Down {
        /// What the peer is called.
        peer: PeerAddr,
        /// The lane.
        lane: Lane,
        /// The ip and port that the connection led to.
        addr: SocketAddr,
        /// The number of the node at the other end, if it had answered a `Hello` when the connection came up.
        node: Option<NodeId>,
        /// The number of the connection that ended.
        epoch: u64,
        /// Why it ended.
        reason: DownReason,
        /// How many of the frames written on it the other side's system had acknowledged, and how many are
        /// in doubt. `None` where the system does not tell (it does on Linux), and if no frame could be
        /// sent because the peer was refused. If the subscriber was slow, and events about several
        /// connections merged, this is their sum.
        receipt: Option<Receipt>,
    },
    /// Connecting to the peer failed, at all addresses that its name has. Its frames wait in the queue and may
    /// go stale.
    Unreachable {
        /// What the peer is called.
        peer: PeerAddr,
        /// The lane.
        lane: Lane,
        /// When the first of these consecutive tries failed.
        since: SystemTime,
        /// How many consecutive tries have failed.
        failures: u32,
        /// How the last one failed.
        error: io::ErrorKind,
        /// What is wrong with the peer's name, if there was no address to dial.
        name: Option<NameError>,
    },
    /// A node has introduced itself on a connection that it made. If frames wait for it, it is dialled at
    /// once, or they leave on that connection.
    Heard {
        /// Which node.
        node: NodeId,
        /// Which life of the node.
        incarnation: Incarnation,
        /// Where it is reached; see [`Sender::addr`](crate::Sender::addr).
        addr: PeerAddr,
    },
    /// A node has said that it stops. Its connections end as [`DownReason::Left`].
    Goodbye {
        /// Which node.
        node: NodeId,
        /// Which life of the node.
        incarnation: Incarnation,
    },
    /// Frames from a node are missing: it accepted them for sending, and they will not come. They went
    /// stale, had to make room, or were lost with a connection. [`Inbound::gap`](crate::Inbound::gap) is set
    /// in the first batch that follows for each group.
    Gap {
        /// Which node sent them.
        node: NodeId,
        /// Which life of the node.
        incarnation: Incarnation,
        /// The lane that they were sent on.
        lane: Lane,
        /// Where the connection comes from.
        from: SocketAddr,
        /// How many, since the last event of this kind that the subscriber handled.
        lost: u64,
    },
    /// The node at the other end of a new connection has shown this certificate. Told when it is heard of, and when
    /// frames can leave for it.
    #[cfg(feature = "tls")]
    Certified {
        /// What the peer is called.
        peer: PeerAddr,
        /// The ip and port that the connection leads to.
        addr: SocketAddr,
        /// The number of the node.
        node: Option<NodeId>,
        /// Its certificate.
        certificate: Arc<Certificate>,
    },
    /// Other keys are in use from now on.
    #[cfg(feature = "tls")]
    TlsReloaded {
        /// The certificate of this node.
        certificate: Arc<Certificate>,
    },
    /// The files with the keys were read again and cannot be used. The former keys remain in use.
    #[cfg(feature = "tls")]
    TlsNotReloaded {
        /// What is wrong.
        error: TlsError,
    },
    /// The certificate of this node expires within 14 days, or within a third of the time for which it is valid,
    /// if that is less. Told once a day.
    #[cfg(feature = "tls")]
    CertificateExpires {
        /// The certificate.
        certificate: Arc<Certificate>,
    },
    /// Accepting connections paused after an error of the listening socket: there are no free descriptors
    /// or memory, the system denies it, or the socket was broken from outside. Told again for each
    /// further try that fails; the pauses last 100 ms to 1 s.
    NotAccepting {
        /// Where the transport listens.
        addr: SocketAddr,
        /// How the last try failed.
        error: io::ErrorKind,
    },
    /// The listening socket was broken from outside and has been bound again at the same address.
    /// Connections that had not been accepted are lost; their peers dial again.
    Rebound {
        /// Where the transport listens.
        addr: SocketAddr,
    },
    /// One of the transport's own actors ended unexpectedly and was started again. Queues, counters and
    /// registrations are kept. A `Reader` loses its connections, whose peers then
    /// dial again; with sessions, whoever has something to send does. A `Reader` and the `UdpActor` also lose the
    /// frames that they had read and not delivered; these are counted as [`DropReason::ActorGone`].
    Restarted {
        /// Which actor.
        component: Component,
    },
    /// One of the transport's own actors ended unexpectedly more often than
    /// [`Config::restart_limit`](crate::Config::restart_limit) allows. It is started again after
    /// [`Config::failed_retry`](crate::Config::failed_retry).
    Failed {
        /// Which actor.
        component: Component,
    },
    /// Frames were lost after they had been accepted or received.
    Dropped {
        /// The peer that the frames were for. `None` for received frames, and for datagrams.
        peer: Option<PeerAddr>,
        /// The lane that they were to be sent on. `None` where `peer` is.
        lane: Option<Lane>,
        /// Who sent the frames, if they were received; see [`Inbound::from`](crate::Inbound::from).
        /// `None` for frames that were to be sent. Also `None` if the subscriber was slow, and events
        /// about several senders were merged.
        from: Option<SocketAddr>,
        /// The group of the received frames. `None` for frames that were to be sent, and if the event is
        /// about frames of several groups: one read gives one event for each reason. Also `None` for those of a
        /// [`catch_all_in_order`](crate::Transport::catch_all_in_order) actor.
        group: Option<GroupId>,
        /// Why they were dropped.
        reason: DropReason,
        /// How many, since the last event of this kind that the subscriber handled.
        count: Count,
    },
    /// This subscriber was so slow that events had to be discarded, or too many came at once when the
    /// transport stopped.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Message for PeerEvent {
    type Result = ();
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEvent::Up { .. } | PeerEvent::Down { .. } | PeerEvent::Unreachable { .. } => {
                self.write_of_peer(f)
            }
            PeerEvent::Heard { .. } | PeerEvent::Goodbye { .. } | PeerEvent::Gap { .. } => {
                self.write_of_node(f)
            }
            #[cfg(feature = "tls")]
            PeerEvent::Certified {
                peer,
                addr,
                node,
                certificate,
            } => {
                write_peer(f, peer, *addr, *node)?;
                write!(f, " has the certificate {certificate}")
            }
            #[cfg(feature = "tls")]
            PeerEvent::TlsReloaded { certificate } => {
                write!(f, "uses the certificate {certificate}")
            }
            #[cfg(feature = "tls")]
            PeerEvent::TlsNotReloaded { error } => write!(f, "the keys were not changed: {error}"),
            #[cfg(feature = "tls")]
            PeerEvent::CertificateExpires { certificate } => {
                write!(
                    f,
                    "the own certificate has expired, or will soon: {certificate}"
                )
            }
            PeerEvent::NotAccepting { addr, error } => {
                write!(f, "cannot accept connections on {addr}: {error}")
            }
            PeerEvent::Rebound { addr } => {
                write!(
                    f,
                    "the listening socket on {addr} was broken and is bound again"
                )
            }
            PeerEvent::Restarted { component } => {
                write!(f, "{component} ended unexpectedly and was restarted")
            }
            PeerEvent::Failed { component } => {
                write!(f, "{component} ended unexpectedly too often and is paused")
            }
            PeerEvent::Dropped {
                peer,
                lane,
                from,
                group,
                reason,
                count,
            } => {
                write!(f, "dropped {count}")?;
                write_known(f, " for peer ", peer.as_ref())?;
                write_lane(f, lane.unwrap_or_default())?;
                write_known(f, " from ", *from)?;
                write_known(f, " for group ", *group)?;
                write!(f, ": {reason}")
            }
            PeerEvent::Missed { events } => {
                write!(f, "missed {events} events: the subscriber is too slow")
            }
        }
    }
}

impl PeerEvent {
    /// Writes an event about the links to a peer.
    fn write_of_peer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEvent::Up {
                peer,
                lane,
                addr,
                node,
                epoch,
            } => {
                write_peer(f, peer, *addr, *node)?;
                write_lane(f, *lane)?;
                write!(f, " is up (connection {epoch})")
            }
            PeerEvent::Down {
                peer,
                lane,
                addr,
                node,
                epoch,
                reason,
                receipt,
            } => {
                write_peer(f, peer, *addr, *node)?;
                write_lane(f, *lane)?;
                write!(f, " is down (connection {epoch}): {reason}")?;
                write_known(f, "; ", *receipt)
            }
            PeerEvent::Unreachable {
                peer,
                lane,
                since,
                failures,
                error,
                name,
            } => {
                write!(f, "peer {peer}")?;
                write_lane(f, *lane)?;
                write!(f, " is unreachable since {}, ", Utc(*since))?;
                write!(f, "after {failures} failed dials: ")?;
                match name {
                    Some(name) => write!(f, "{name}"),
                    None => write!(f, "{error}"),
                }
            }
            _ => Ok(()),
        }
    }

    /// Writes an event about another node.
    fn write_of_node(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEvent::Heard {
                node,
                incarnation,
                addr,
            } => write!(
                f,
                "heard of node {node} (incarnation {incarnation}) at {addr}"
            ),
            PeerEvent::Goodbye { node, incarnation } => {
                write!(f, "node {node} (incarnation {incarnation}) stops")
            }
            PeerEvent::Gap {
                node,
                incarnation,
                lane,
                from,
                lost,
            } => {
                write!(f, "missed {lost} frames of node {node} ")?;
                write!(f, "(incarnation {incarnation}) from {from}")?;
                write_lane(f, *lane)
            }
            _ => Ok(()),
        }
    }
}

/// Writes who is at the other end of a connection. The address of a peer that has no name is not repeated.
fn write_peer(
    f: &mut fmt::Formatter<'_>,
    peer: &PeerAddr,
    addr: SocketAddr,
    node: Option<NodeId>,
) -> fmt::Result {
    write!(f, "peer {peer}")?;
    match (peer.host(), node) {
        (Some(_), Some(node)) => write!(f, " ({addr}, node {node})"),
        (Some(_), None) => write!(f, " ({addr})"),
        (None, Some(node)) => write!(f, " (node {node})"),
        (None, None) => Ok(()),
    }
}

/// Writes the lane, unless it is the normal one.
fn write_lane(f: &mut fmt::Formatter<'_>, lane: Lane) -> fmt::Result {
    match lane {
        Lane::NORMAL => Ok(()),
        lane => write!(f, " on lane {lane}"),
    }
}

/// Writes `before` and the value, if there is one.
fn write_known(
    f: &mut fmt::Formatter<'_>,
    before: &str,
    value: Option<impl fmt::Display>,
) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{before}{value}"))
}

/// Why a connection on which this node sent to a peer ended.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The peer closed it.
    Closed,
    /// The operating system reported an error on it.
    Lost(io::ErrorKind),
    /// The peer wrote on a connection that only we write on, or what it wrote are no frames, so it does not
    /// speak this protocol.
    Spoke,
    /// Nothing was sent for [`Config::idle_timeout`](crate::Config::idle_timeout); with sessions, in neither
    /// direction. The end that dialled ends it.
    Idle,
    /// The two nodes introduced themselves, and one of them does not want to talk to the other. The peer is
    /// dialled again after a long wait; its frames wait in the queue. No [`PeerEvent::Up`] came before this
    /// if frames wait for the answer; see [`Sessions`](crate::Sessions).
    Refused(RefusedReason),
    /// A later incarnation of the node at the other end has introduced itself.
    Superseded,
    /// The node at the other end stops, and said so.
    Left,
    /// The TLS keys or rules of this node have changed: the certificate of the node at the other end is not accepted
    /// any more, or the connection is not encrypted and must be now. Only with the feature `tls`.
    Untrusted,
    /// A certificate of the connection has expired. The node that noticed it later may see [`DownReason::Closed`]
    /// instead. Nothing is lost; the next connection needs certificates
    /// that are valid. Only with the feature `tls`.
    Expired,
    /// This node has another certificate by now, and the next connection is made with that. Nothing is lost. Only
    /// with the feature `tls`.
    Renewed,
    /// There is a better connection to the same node: when two nodes dial each other at the same time, the
    /// one that the node with the lower number dialled remains, and of several the latest. Nothing is lost.
    Replaced,
    /// This node ended it: the transport stopped, the peer was forgotten, the actor that wrote on it ended,
    /// or what came back on it was given up.
    Ended,
}

impl DownReason {
    pub(crate) fn lost(err: &io::Error) -> Self {
        DownReason::Lost(err.kind())
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Closed => f.write_str("closed by the peer"),
            DownReason::Lost(error) => write!(f, "lost: {error}"),
            DownReason::Spoke => f.write_str("the peer wrote what it may not write"),
            DownReason::Idle => f.write_str("idle"),
            DownReason::Refused(reason) => write!(f, "refused: {reason}"),
            DownReason::Superseded => f.write_str("a later incarnation of the node has come"),
            DownReason::Left => f.write_str("the node stops"),
            DownReason::Untrusted => f.write_str("not accepted any more by the TLS keys in use"),
            DownReason::Expired => f.write_str("a certificate has expired"),
            DownReason::Renewed => f.write_str("made again with the new certificate of this node"),
            DownReason::Replaced => f.write_str("replaced by another connection to the same node"),
            DownReason::Ended => f.write_str("ended by this node"),
        }
    }
}

/// One of the transport's own actors.
#[derive(Debug, Clone, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Component {
    /// The actor that accepts connections.
    Listener,
    /// One of the actors that read connections, by its index.
    Reader(usize),
    /// The actor that offers methods of the transport as messages, [`Node`](crate::Node).
    Node,
    /// The actor that writes to this peer on this lane.
    PeerWriter {
        /// What the peer is called.
        peer: PeerAddr,
        /// The lane.
        lane: Lane,
    },
    /// The actor that sends and receives datagrams.
    UdpActor,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Listener => f.write_str("listener"),
            Component::Reader(index) => write!(f, "reader {index}"),
            Component::Node => f.write_str("node"),
            Component::PeerWriter { peer, lane } => {
                write!(f, "writer of {peer}")?;
                write_lane(f, *lane)
            }
            Component::UdpActor => f.write_str("udp actor"),
        }
    }
}
