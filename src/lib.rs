//! Actor-model message transport on actix.

mod backoff;
mod clock;
mod config;
mod dispatch;
mod error;
mod event;
mod fault;
mod frame;
mod groups;
mod inbound;
mod listener;
mod load;
mod net;
mod node;
mod payload;
mod peer;
mod peers;
mod pool;
mod queue;
mod reader;
mod shared;
mod stats;
mod supervise;
mod transport;
mod udp;

pub use crate::{
    config::{Config, Overflow, Placement},
    error::{BindError, ConfigError, PeerError, QueueLimit, RegisterError, SendError},
    event::{DownReason, Part, PeerEvent},
    frame::GroupId,
    groups::GroupOverflow,
    inbound::{Inbound, Via},
    node::{Node, Register, Replace, SendFrame, Subscribe, Unregister},
    payload::Payload,
    peers::Peer,
    stats::{
        Count, DatagramErrors, DropReason, Dropped, Imbalance, LinkStats, PeerStats, ReceiveStats,
        Rejected, SendStats, Stats, Undelivered,
    },
    transport::{Builder, Shutdown, StopReport, Transport},
};

#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use crate::fault::{Faults, Point};
