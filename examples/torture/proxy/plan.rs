//! Describes what the proxy does to a connection.

use std::time::Duration;

/// What the proxy does to one connection.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) on_accept: OnAccept,
    pub(crate) cut: Option<Cut>,
    pub(crate) pace: Pace,
    /// The bit to flip, counted from the lowest bit of the first byte.
    pub(crate) flip: Option<u64>,
    /// After this many bytes the proxy reads and forwards nothing more: a black hole.
    pub(crate) black_hole: Option<u64>,
    pub(crate) hold: Option<Hold>,
}

/// Bytes that reach the receiver late: after the sender has seen the end, and has perhaps made another
/// connection. Only for a plan with a cut, which bounds them.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Hold {
    /// Bytes from here on are held back.
    pub(crate) from: u64,
    /// How long after the cut they are forwarded.
    pub(crate) time: Duration,
}

/// What happens to a new connection.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) enum OnAccept {
    /// It is forwarded to the receiver.
    #[default]
    Forward,
    /// It is closed as soon as it is accepted.
    Close,
}

/// How a connection is cut.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Cut {
    /// After this many forwarded bytes.
    pub(crate) after: u64,
    pub(crate) ending: Ending,
    pub(crate) side: Side,
}

/// How the chosen side sees the end.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Ending {
    Fin,
    Rst,
}

/// The side that is cut. The other side sees an orderly end:
///
/// | cut | sender sees | receiver sees |
/// |---|---|---|
/// | sender, FIN | FIN; the proxy reads and discards the rest | FIN |
/// | sender, RST | RST; bytes in the kernel are lost | FIN |
/// | receiver, FIN | a close, which is an RST if it had written more | FIN |
/// | receiver, RST | FIN; the proxy reads and discards the rest | RST; unread bytes are lost |
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// All four combinations.
pub(crate) const CUTS: [(Ending, Side); 4] = [
    (Ending::Fin, Side::Sender),
    (Ending::Rst, Side::Sender),
    (Ending::Fin, Side::Receiver),
    (Ending::Rst, Side::Receiver),
];

/// How fast bytes are forwarded.
#[derive(Debug, Copy, Clone, Default, PartialEq)]
pub(crate) enum Pace {
    /// As they arrive.
    #[default]
    Free,
    /// One byte at a time, each with its own write.
    OneByOne,
    /// At most this many bytes a second.
    Throttle(u32),
    /// Each piece waits for a random time up to this; the random seed is the connection's number.
    Jitter(Duration),
}
