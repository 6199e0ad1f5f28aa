//! What fragile nodes send: frames of all sizes in bursts, stamped.

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

/// 5,000 frames a second, a hundred at a time.
const FRAMES: Pace = Pace::Each(Duration::from_millis(20), 100);

const DATAGRAMS: Pace = Pace::Each(Duration::from_millis(1), 1);

/// Mostly small ones, behind one another as bytes. In every thousand, eighty that are chained, more
/// than fit into one write, and one that is large.
fn len(sequence: u64) -> usize {
    match sequence % 1_000 {
        0 => 256 << 10,
        1..=80 => 12 << 10,
        rest => 32 + rest as usize,
    }
}

/// Sends frames to `peer`, while not paused.
pub(crate) fn frames(load: Load, peer: Peer, paused: &Arc<AtomicBool>) -> Offering {
    let paused = paused.clone();
    Offering::start(FRAMES, move |sequence| {
        if paused.load(Relaxed) {
            return Offer::Full;
        }
        offer(&peer, load.group, load.payload(sequence, len(sequence)))
    })
}

/// The same with datagrams.
pub(crate) fn datagrams(
    load: Load,
    node: &Transport,
    to: SocketAddr,
    paused: &Arc<AtomicBool>,
) -> Offering {
    let (node, paused) = (node.clone(), paused.clone());
    Offering::start(DATAGRAMS, move |sequence| {
        if paused.load(Relaxed) {
            return Offer::Full;
        }
        let payload = load.payload(sequence, 100);
        said(node.send_datagram(to, GroupId::new(load.group), payload))
    })
}
