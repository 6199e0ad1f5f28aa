//! [`Lane`]: a kind of traffic to one peer. [`PeerLane`]: one lane of one peer.

use std::fmt;

use crate::peer_addr::PeerAddr;

/// A kind of traffic to a peer. Each lane has a connection, a queue and bounds of its own, so that what waits
/// on one does not wait behind another. Order holds within a lane.
///
/// There are eight, by their numbers. What is not sent on a certain lane is sent on [`NORMAL`](Lane::NORMAL). A
/// lane that nobody sends on costs nothing. How they differ is said by
/// [`Config::lane`](crate::Config::lane); [`Peer::lane`](crate::Peer::lane) sends on one.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Lane(u8);

impl Lane {
    /// The lane of all that is not sent on another one. Number 0.
    pub const NORMAL: Lane = Lane(0);

    /// For what is short and urgent, such as heartbeats and votes. Number 1.
    pub const CONTROL: Lane = Lane(1);

    /// For what is long and can wait, such as checkpoints. Number 2.
    pub const BULK: Lane = Lane(2);

    /// How many lanes there are.
    pub const COUNT: usize = 8;

    /// Returns the lane of this number: 0 to 7. Those from 3 on have no meaning but what their users give them.
    pub const fn new(number: u8) -> Option<Self> {
        match (number as usize) < Self::COUNT {
            true => Some(Lane(number)),
            false => None,
        }
    }

    /// Returns its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the lane that displays as this name: `normal`, `control`, `bulk`, or `lane-3` to `lane-7`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|lane| lane.to_string() == name)
    }

    /// Returns all lanes, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Lane> {
        (0..Self::COUNT as u8).map(Lane)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Lane::NORMAL => f.write_str("normal"),
            Lane::CONTROL => f.write_str("control"),
            Lane::BULK => f.write_str("bulk"),
            Lane(number) => write!(f, "lane-{number}"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Lane {
    /// As its name.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One lane of one peer: where frames go.
#[derive(Debug, Clone, Eq, PartialEq, Hash)]
pub(crate) struct PeerLane {
    pub(crate) peer: PeerAddr,
    pub(crate) lane: Lane,
}

impl PeerLane {
    /// What is sent to the peer and names no lane.
    pub(crate) fn normal(peer: PeerAddr) -> Self {
        let lane = Lane::NORMAL;
        PeerLane { peer, lane }
    }
}

impl fmt::Display for PeerLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerLane { peer, lane } = self;
        match *lane {
            Lane::NORMAL => write!(f, "{peer}"),
            lane => write!(f, "{peer} ({lane})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_a_number_below_eight_and_a_name() {
        let names: Vec<_> = Lane::all().map(|lane| lane.to_string()).collect();
        assert_eq!(names[..4], ["normal", "control", "bulk", "lane-3"]);
        assert_eq!(names.len(), Lane::COUNT);
        assert_eq!(Lane::new(2), Some(Lane::BULK));
        assert_eq!(Lane::new(8), None);
        assert_eq!(Lane::from_name("lane-7"), Lane::new(7));
        assert_eq!(Lane::from_name("lane-8"), None);
    }
}
