//! Actor-model message transport on actix: a message goes to an ip:port and a group index, and the
//! actor that serves that group on the other node gets it, in order, with bounded memory and with a
//! word about every message that did not make it.
//!
//! Start with [`Transport`]; what a group's actor gets is [`Inbound`]; what is told is [`PeerEvent`];
//! what is counted is [`Stats`]; what can be set is [`Config`].
//!
//! # The way of a message
//!
//! ```text
//! out  Peer::send ─► SendQueue ─(doorbell, only when the writer sleeps)─► PeerWriter ─► one vectored write
//!      peer          queue: bound, age, bytes as on the wire               writer       link: a batch
//!
//! in   Listener ─► Reader: read, decode ─► by group ─► mailbox of the group's actor, awaited
//!      listener    reader, connection      grouping    deliver, inbound: payloads cut when they are taken
//! ```
//!
//! For a frame there is no actix message, no allocation of the transport's own and no system call:
//! all three are for a batch. Small frames are bytes as early as possible, encoded into the queue's
//! open buffer when they are pushed, and as late as possible, cut out of the received buffer when
//! the actor takes them. One that comes alone, for a link that rests, is written at once by whoever
//! sends it: to wake the writer would take longer than to write.
//!
//! # The actors
//!
//! | actor | how many | does |
//! |---|---|---|
//! | `Listener` | one | accepts connections, gives each to the Reader with the fewest |
//! | `Reader` | one for each reading arbiter | owns connections as tasks, turns bytes into frames |
//! | [`Node`] | one | changes the table of groups for those who hold only actix types |
//! | `PeerWriter` | one for each ip:port sent to | connects, drains its queue into the socket, reconnects |
//! | `UdpActor` | one | sends and receives datagrams, on the number of the TCP port |
//!
//! Each is started anew when it ends unasked, after a wait and within a budget; actix' own
//! `Supervisor` does not do that after a panic. What must not be lost with an actor lives outside of
//! it: queues, counters, registrations, sockets.
//!
//! # The wire
//!
//! That of PhxPaxos' network module. TCP: `length: u32 big-endian, counting itself`,
//! `group: u32 little-endian`, `payload`. UDP: the same without the length, one frame for each
//! datagram. Who dials, writes; who accepts, only reads: a node answers by sending to where the other
//! listens.
//!
//! # Threads
//!
//! [`Transport`] and [`Peer`] can be used from any thread. With [`Placement::Dedicated`] the actors
//! have arbiters of their own; with [`Placement::Current`] all of it runs on the arbiter that called
//! [`Builder::bind`]. The actors that serve groups run wherever their users started them.
//!
//! # Features
//!
//! - `serde`: [`Config`] can be read and written.
//! - `failpoints`: tests can make the transport's actors panic. Not for production.
//! - `test-internals`: parts of the mechanism, for this crate's benchmarks and fuzzers. No promises.

mod api;
mod config;
mod datagrams;
mod error;
mod ids;
mod net;
mod observe;
mod receive;
mod runtime;
mod send;
mod wire;

#[cfg(feature = "test-internals")]
#[doc(hidden)]
pub use crate::api::test_internals;
pub use crate::{
    api::{
        node::{Node, Register, Replace, SendFrame, Subscribe, Unregister},
        transport::{Builder, Shutdown, StopReport, Transport},
    },
    config::{Config, Overflow, Placement},
    error::{BindError, ConfigError, PeerError, QueueLimit, RegisterError, SendError},
    ids::GroupId,
    observe::{
        event::{Component, DownReason, PeerEvent},
        stats::{
            DatagramErrors, DropReason, Dropped, Imbalance, LinkStats, PeerStats, ReceiveStats,
            Rejected, SendStats, Stats, Undelivered,
        },
    },
    receive::{
        groups::GroupOverflow,
        inbound::{Inbound, Via},
    },
    send::peer::Peer,
    wire::{count::Count, payload::Payload},
};

#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use crate::runtime::failpoints::{Failpoint, Failpoints};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
