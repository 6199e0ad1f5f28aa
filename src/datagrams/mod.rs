//! Datagrams, out and in: one socket on the number of the TCP port, one frame in each datagram.
//!
//! Datagrams that are sent wait in a [`SendQueue`](crate::send::queue::SendQueue) like frames for a peer,
//! with the same kind of bounds, ages and counters. Those that arrive are delivered like frames from a
//! connection. Nothing that arrives is ever answered here.

mod actor;
mod outgoing;
mod receiving;
mod sending;

pub(crate) use self::{actor::UdpActor, outgoing::Outgoing};
