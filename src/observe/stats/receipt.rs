//! [`Receipt`]: what the other side's system confirmed of the frames written on a connection.

use std::{fmt, ops::AddAssign};

use crate::wire::count::Count;

/// What is known, when a connection has ended, about the frames that were written on it. Their sum is what
/// was written whole on that connection.
///
/// **Confirmed** means that the system of the other machine has acknowledged every byte of the frame. It
/// does not mean that the process there read the frame, and even less that an actor handled it: what a
/// process had not read when it died is confirmed and lost. Only an answer of the receiver tells more.
///
/// **In doubt** means that the frame may have arrived or may have been lost: its acknowledgement had not
/// come when the connection ended. A system may wait 40 ms before it acknowledges, and what it took in
/// that time stays in doubt if the connection is reset. If this node ends a connection, its system goes on
/// sending what it still holds, and mostly delivers it; that is in doubt as well.
///
/// Frames in doubt are not sent again. Whoever does that must expect to deliver some of them twice.
///
/// The split is exact to the frame, as long as the system holds no more than 65,536 unacknowledged frames
/// of changing length. Of more than that, the oldest count as in doubt until all of them are
/// acknowledged.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Receipt {
    /// Frames that the other side's system has acknowledged to the last byte.
    pub confirmed: Count,
    /// Frames that were written, and of which that is not known.
    pub in_doubt: Count,
}

impl AddAssign for Receipt {
    fn add_assign(&mut self, other: Receipt) {
        self.confirmed += other.confirmed;
        self.in_doubt += other.in_doubt;
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Receipt {
            confirmed,
            in_doubt,
        } = self;
        write!(f, "{confirmed} confirmed, {in_doubt} in doubt")
    }
}
