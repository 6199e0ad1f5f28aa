//! What most programs need, for a glob import next to `actix::prelude::*`.
//!
//! ```
//! use actix::prelude::*;
//! use actix_transport::prelude::*;
//!
//! fn not_sent(err: TransportSendError<Vec<u8>>) -> Vec<u8> {
//!     err.into_payload()
//! }
//! ```
//!
//! actix' prelude has a `SendError` of its own, so ours is called `TransportSendError` here. No other
//! name is in both.

pub use crate::{
    BindError, Builder, Call, CallError, Config, Count, DownReason, DropReason, GroupId,
    GroupOverflow, Identity, Inbound, Incarnation, Node, NodeId, Overflow, Payload, Peer, PeerAddr,
    PeerError, PeerEvent, Placement, RefusedReason, Register, RegisterAll, RegisterError, Replace,
    SendError as TransportSendError, SendFrame, ServeCalls, Sessions, Shutdown, Stats, StopReport,
    Subscribe, Transport, Unregister, UnserveCalls, Via,
};
#[cfg(feature = "remote")]
pub use crate::{RemoteAddr, RemoteError, RemoteMessage, RemoteRecipient, Serve, Unserve};
