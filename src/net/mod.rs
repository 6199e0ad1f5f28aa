//! Sockets, time and chance: the only room that asks the operating system for them.
//!
//! Everything above uses the types of this room. A TLS stream, a simulated network, a paused clock or
//! a seeded random source can therefore be put in here, and nothing above changes.
//!
//! A tokio socket belongs to the runtime that it was registered with. What crosses from one arbiter to
//! another is therefore a *detached* socket, and the arbiter that receives it attaches it again.

pub(crate) mod addr;
pub(crate) mod bind;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod random;
pub(crate) mod tcp;
pub(crate) mod time;
pub(crate) mod udp;
