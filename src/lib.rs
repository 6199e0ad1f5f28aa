//! Sends messages between the nodes of a cluster: a message goes to the address of a node and a group index,
//! and the actix actor that serves that group on the other node gets it, in order. Memory is bounded on both
//! sides, and every message that a transport drops is counted and reported with a reason.
//!
//! ```
//! use actix::prelude::*;
//! use actix_transport::{GroupId, Inbound, Transport};
//!
//! struct Replica;
//!
//! impl Actor for Replica {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Inbound> for Replica {
//!     type Result = ();
//!
//!     fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
//!         for payload in inbound {
//!             println!("{} bytes", payload.len());
//!         }
//!         System::current().stop();
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::new();
//! let transport = system.block_on(async {
//!     let transport = Transport::builder()
//!         .register(GroupId::new(3), Replica.start().recipient())
//!         .bind("127.0.0.1:0")?;
//!     let peer = transport.peer(transport.local_addr())?; // this node itself, for the example
//!     peer.send(GroupId::new(3), "hello").await?;
//!     Ok::<_, Box<dyn std::error::Error>>(transport)
//! })?;
//! system.run()?; // until the handler stops it
//! assert_eq!(transport.stats().inbound.received.frames, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Start with [`Transport`]. A group's actor receives [`Inbound`]; [`Peer::call`] asks another node, whose handler receives
//! a [`Call`]; a subscriber receives [`PeerEvent`];
//! [`Stats`] are the counters; [`Config`] has the settings. How to do common things is in [`guide`], and
//! what happens when a node restarts in [`guide::restarts`]. [`prelude`] is for a glob import beside
//! actix' own, which has another `SendError`.
//!
//! # The way of a message
//!
//! ```text
//! out  Peer::try_send ─► SendQueue ─(doorbell, only while the writer sleeps)─► PeerWriter ─► one vectored write
//!      send/peer         send/queue: bounds, age, bytes as on the wire         send/writer   send/link
//!
//! in   Listener ─► Reader ─► Connection ─► Deliverer ─► mailbox of the group's actor, awaited
//!      receive/listener      receive/connection         receive/inbound: payloads cut when taken
//!                                   └ receive/grouping: one batch for each actor and group out of one read
//! ```
//!
//! Actix messages, allocations and system calls happen per batch, not per frame. A small frame is encoded
//! into the queue's open buffer when it is pushed, and cut out of the received buffer when the actor takes
//! it. Where frames come one at a time, the thread that sends a frame also writes it
//! (`send/direct_write`), because waking the writer would take longer than writing.
//!
//! # The source
//!
//! A file imports only from its own folder and from folders further down in this list.
//!
//! ```text
//! remote/     typed messages: how they are encoded, and which actor gets them
//! api/        what users call: transport, builder, node; how a transport starts and stops
//! datagrams/  sending and receiving over UDP
//! receive/    receiving: listener, admission, reader, connection, grouping, delivery, groups, inbound
//! send/       sending: peers, peer, calls, queue/, writer, link, direct writes
//! session/    who is at the other end: identity, handshake, known nodes, links with them, numbers of frames
//! calls/      calls that wait for their answers: how each ends, deadlines, bounds
//! runtime/    arbiters, supervision, the end of a transport, failpoints
//! observe/    counters, receive accounts, events, logs, traces
//! net/        sockets, TLS, time and random numbers: no other folder asks the operating system for them
//! config/     the settings and their bounds
//! wire/       bytes without I/O: frame, control frames, payload
//! error.rs, call_error.rs, ids.rs, lane.rs, peer_addr.rs   words that every folder uses
//! ```
//!
//! # The actors
//!
//! | actor | how many | does |
//! |---|---|---|
//! | `Listener` | one | accepts connections, gives each to the Reader that has the fewest |
//! | `Reader` | one per reading arbiter | owns connections as tasks, turns bytes into frames |
//! | [`Node`] | one | offers registering, subscribing and sending as actix messages |
//! | `PeerWriter` | one per lane of a peer that is not idle | connects, writes what is queued, reconnects |
//! | `UdpActor` | one | sends and receives datagrams, on the number of the TCP port |
//!
//! An actor that ends unexpectedly is started again, after a wait and within a budget; actix' own
//! `Supervisor` does not do that after a panic. What must survive an actor lives outside of it: queues,
//! counters, registrations, sockets.
//!
//! # The wire
//!
//! The format is that of PhxPaxos' network module. TCP: `length: u32 big-endian, counting itself`,
//! `group: u32 little-endian`, `payload`. UDP: the same without the length, one frame per datagram. Without
//! sessions, the node that dials a connection writes on it, the node that accepts it only reads, and to
//! answer, a node sends to the address that the other node listens on.
//!
//! Nodes with an [`Identity`] introduce themselves first ([`Sessions`]): the node that dials says `Hello`, and
//! the node that accepts answers `Welcome`, or refuses. Then a receiver knows the [`Sender`] of each
//! [`Inbound`], and can answer it on the same connection: a node that has something to send uses a connection
//! that is there, whoever dialled it, and dials only if there is none. The frames of a queue are numbered, so
//! a receiver knows which are missing ([`Inbound::gap`]). All of this is said in frames of
//! [`GroupId::RESERVED`], which PhxPaxos nodes ignore; `wire/control` has their layout. A message longer than a frame
//! ([`Peer::send_large`]) travels in parts on that group, too; `wire/part` has theirs. So do calls ([`Peer::call`]) and
//! their answers; `wire/call` has theirs. Each [`Lane`] of a peer is a
//! connection and a queue of its own.
//!
//! # Threads
//!
//! [`Transport`] and [`Peer`] can be used from any thread. With [`Placement::Dedicated`] the transport's
//! actors run on arbiters of their own; with [`Placement::Current`] all of them run on the arbiter that
//! called [`Builder::bind`]. The actors that serve groups run wherever their users started them. One more
//! thread waits for the end of those arbiters. In a program without an actix `System` it also runs one.
//!
//! # Features
//!
//! - `tls`: connections can be encrypted, and nodes prove who they are by certificates: `Tls`, `Builder::tls`.
//! - `remote`: typed messages: `RemoteMessage`, `Transport::serve`, `Peer::recipient`.
//! - `opentelemetry`: the spans of calls are parts of the traces of `tracing-opentelemetry`, across nodes.
//! - `serde`: [`Config`] can be read and written, and [`Stats`] and [`PeerStats`] can be written.
//! - `failpoints`: tests can make the transport's actors panic. Not for production.
//! - `test-internals`: parts of the mechanism for this crate's own benchmarks and fuzzers. May change in
//!   any release.

mod api;
mod call_error;
mod calls;
mod config;
mod datagrams;
mod error;
pub mod guide;
mod ids;
mod lane;
mod net;
mod observe;
mod peer_addr;
pub mod prelude;
mod receive;
#[cfg(feature = "remote")]
mod remote;
mod runtime;
mod send;
mod session;
#[cfg(feature = "tls")]
mod tls_error;
mod wire;

#[cfg(feature = "remote")]
pub use actix_transport_derive::RemoteMessage;

#[cfg(feature = "test-internals")]
#[doc(hidden)]
pub use crate::api::test_internals;
#[cfg(feature = "serde")]
pub use crate::config::NodeConfig;
#[cfg(feature = "tls")]
pub use crate::net::tls::{
    Certificate, FailedHandshakes, HandshakeFailure, HandshakeFailures, Tls, TlsMode, TlsStats,
};
#[cfg(feature = "remote")]
pub use crate::remote::{
    addr::RemoteAddr,
    blob::Blob,
    codec::{Codec, CodecError},
    error::{RemoteError, RemoteSendError},
    message::RemoteMessage,
    postcard::Postcard,
    recipient::RemoteRecipient,
    request::RemoteRequest,
    serve_messages::{Serve, Unserve},
    traced::Traced,
};
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use crate::runtime::failpoints::{Failpoint, Failpoints};
#[cfg(feature = "tls")]
pub use crate::tls_error::{PemFile, TlsError};
pub use crate::{
    api::{
        builder::Builder,
        node::{
            Node, Register, RegisterAll, Replace, SendFrame, ServeCalls, Subscribe, Unregister,
            UnserveCalls,
        },
        shutdown::{Shutdown, StopReport},
        streams::Streamed,
        transport::Transport,
    },
    call_error::{CallError, CallPart, NotUnderstood},
    config::{Config, LaneConfig, Overflow, Placement, Sessions},
    error::{
        BindError, ConfigError, IdentityError, LargeError, PeerError, QueueLimit, RegisterError,
        SendError,
    },
    ids::{GroupId, Incarnation, NodeId},
    lane::Lane,
    net::{
        names::{NameError, Resolve, Resolving},
        udp_buffers::DatagramBuffers,
    },
    observe::{
        event::{Component, DownReason, PeerEvent},
        stats::{
            CallFailures, CallStats, DatagramErrors, DropReason, Dropped, GroupStats, Imbalance,
            LinkState, LinkStats, PeerStats, Receipt, ReceiveStats, Rejected, SendStats,
            ServedStats, Stats, Undelivered,
        },
        trace::call_span::CallSpan,
    },
    peer_addr::{PeerAddr, PeerAddrError},
    receive::{
        call::Call,
        groups::GroupOverflow,
        inbound::{Inbound, Via},
        origin::Origin,
        sender::Sender,
    },
    send::{call::CallFuture, options::SendOptions, peer::Peer, send_all_error::SendAllError},
    session::{identity::Identity, inbound_stream::Gap},
    wire::{
        control::refused::RefusedReason,
        count::Count,
        payload::Payload,
        trace_context::{TraceContext, TraceContextError},
    },
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
