//! What is to happen to a connection.

use std::time::Duration;

/// What is to happen to one connection.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) meet: Meet,
    pub(crate) cut: Option<Cut>,
    pub(crate) pace: Pace,
    /// The bit that is turned over, counted from the first byte's lowest.
    pub(crate) flip: Option<u64>,
    /// After so many bytes nothing more is taken and nothing said: a black hole.
    pub(crate) hole: Option<u64>,
}

/// How a connection begins.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
pub(crate) enum Meet {
    /// It goes through.
    #[default]
    Forward,
    /// It is closed as soon as it was accepted.
    Close,
}

/// How a connection ends before its time.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Cut {
    /// Once so many bytes have been forwarded.
    pub(crate) after: u64,
    pub(crate) ending: Ending,
    pub(crate) side: Side,
}

/// What one side sees of the end.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Ending {
    Fin,
    Rst,
}

/// Whose end of the connection is cut. The other's ends in good order:
///
/// | cut | sender sees | receiver sees |
/// |---|---|---|
/// | sender, FIN | FIN; all that it had written is read, and thrown away | FIN |
/// | sender, RST | RST; what the kernel held is gone | FIN |
/// | receiver, FIN | a close, which is a RST when it had written more | FIN |
/// | receiver, RST | FIN; all that it had written is read, and thrown away | RST; what it had not read is gone |
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// All four.
pub(crate) const CUTS: [(Ending, Side); 4] = [
    (Ending::Fin, Side::Sender),
    (Ending::Rst, Side::Sender),
    (Ending::Fin, Side::Receiver),
    (Ending::Rst, Side::Receiver),
];

/// How fast bytes go through.
#[derive(Debug, Copy, Clone, Default, PartialEq)]
pub(crate) enum Pace {
    /// As they come.
    #[default]
    Free,
    /// One at a time, each a write of its own.
    OneByOne,
    /// So many a second.
    Throttle(u32),
    /// Each piece waits for up to so long, drawn from the connection's number.
    Jitter(Duration),
}
