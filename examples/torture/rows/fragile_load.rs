//! The load of fragile nodes: stamped frames of various lengths, and datagrams.

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
    traffic::{Offer, Offering, Pace, offer, outcome},
};

/// The stamp's fields that are the same for all frames of a flow.
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

/// Mostly short frames, which the queue copies. In every thousand there are eighty that it chains,
/// and one large one.
fn len(sequence: u64) -> usize {
    match sequence % 1_000 {
        0 => 256 << 10,
        1..=80 => 12 << 10,
        rest => 32 + rest as usize,
    }
}

/// A frame so large that the kernel takes only a part, so that the writer waits for the other side.
const BLOCKING_FRAME: usize = 16 << 20;

/// The longest frame.
pub(crate) const LONGEST: usize = BLOCKING_FRAME + 8;

/// Controls all load of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadControl(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    running: AtomicBool,
    blocking_frame: AtomicBool,
}

impl LoadControl {
    pub(crate) fn set_running(&self, running: bool) {
        self.0.running.store(running, Relaxed);
    }

    /// Makes the next frame of any flow so large that it blocks the writer.
    pub(crate) fn send_blocking_frame(&self) {
        self.0.blocking_frame.store(true, Relaxed);
    }
}

/// Starts to send frames to `peer` while the load is running.
pub(crate) fn frames(load: Load, peer: Peer, control: &LoadControl) -> Offering {
    let LoadControl(control) = control.clone();
    Offering::start(FRAMES, move |sequence| {
        if !control.running.load(Relaxed) {
            return Offer::Full;
        }
        let len = match control.blocking_frame.swap(false, Relaxed) {
            true => BLOCKING_FRAME,
            false => len(sequence),
        };
        offer(&peer, load.group, load.payload(sequence, len))
    })
}

/// The same with datagrams.
pub(crate) fn datagrams(
    load: Load,
    node: &Transport,
    to: SocketAddr,
    control: &LoadControl,
) -> Offering {
    let (node, LoadControl(control)) = (node.clone(), control.clone());
    Offering::start(DATAGRAMS, move |sequence| {
        if !control.running.load(Relaxed) {
            return Offer::Full;
        }
        let payload = load.payload(sequence, 100);
        outcome(node.send_datagram(to, GroupId::new(load.group), payload))
    })
}
