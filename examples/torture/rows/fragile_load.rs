//! What fragile nodes send: frames of all sizes, stamped.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_transport::{GroupId, Peer, Transport};

use crate::{
    stamp::Stamp,
    traffic::{Offer, Offering, Pace, offer, said},
};

/// Whose frames they are.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Load {
    pub(crate) incarnation: u32,
    pub(crate) group: u32,
}

impl Load {
    fn payload(self, sequence: u64, len: usize) -> Vec<u8> {
        let stamp = Stamp {
            sender: 1,
            incarnation: self.incarnation,
            group: self.group,
            sequence,
        };
        stamp.payload(len)
    }
}

/// 5,000 frames a second.
const FRAMES: Pace = Pace::Each(Duration::from_millis(2), 10);

const DATAGRAMS: Pace = Pace::Each(Duration::from_millis(1), 1);

/// Mostly small ones, behind one another as bytes. In every thousand, eighty that are chained and one
/// that is large.
fn len(sequence: u64) -> usize {
    match sequence % 1_000 {
        0 => 256 << 10,
        1..=80 => 12 << 10,
        rest => 32 + rest as usize,
    }
}

/// A frame of which the kernel takes a part, and then waits for the other side.
const PLUG: usize = 16 << 20;

/// The longest of all these.
pub(crate) const LONGEST: usize = PLUG + 8;

/// The hand on all load of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    going: AtomicBool,
    plug: AtomicBool,
}

impl Hand {
    pub(crate) fn go(&self, going: bool) {
        self.0.going.store(going, Relaxed);
    }

    /// Has the next frame, whoever's it is, be a plug.
    pub(crate) fn plug(&self) {
        self.0.plug.store(true, Relaxed);
    }
}

/// Sends frames to `peer`, while going.
pub(crate) fn frames(load: Load, peer: Peer, hand: &Hand) -> Offering {
    let Hand(hand) = hand.clone();
    Offering::start(FRAMES, move |sequence| {
        if !hand.going.load(Relaxed) {
            return Offer::Full;
        }
        let len = match hand.plug.swap(false, Relaxed) {
            true => PLUG,
            false => len(sequence),
        };
        offer(&peer, load.group, load.payload(sequence, len))
    })
}

/// The same with datagrams.
pub(crate) fn datagrams(load: Load, node: &Transport, to: SocketAddr, hand: &Hand) -> Offering {
    let (node, Hand(hand)) = (node.clone(), hand.clone());
    Offering::start(DATAGRAMS, move |sequence| {
        if !hand.going.load(Relaxed) {
            return Offer::Full;
        }
        let payload = load.payload(sequence, 100);
        said(node.send_datagram(to, GroupId::new(load.group), payload))
    })
}
