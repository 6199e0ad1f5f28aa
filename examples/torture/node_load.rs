//! What a named node sends: numbered frames to each peer, at a rate that changes.

use actix_transport::{GroupId, Peer, SendError, Transport};
use serde_json::{Value, json};

use crate::{
    named_node::Args, numbered_log::group_for, row::Failure, sink::print_line, stamp::Stamp,
};

/// How many frames more the row is told of at once.
const STEP: u64 = 500;

/// How many milliseconds a rate lasts.
const PHASE: u64 = 256;

/// The most milliseconds that are caught up with, after the process was paused.
const CATCH_UP: u64 = 50;

const LENGTHS: [usize; 4] = [32, 60, 200, 1_000];

/// The frames of a node to all its peers.
pub(crate) struct Load {
    targets: Vec<Target>,
    node: u32,
    incarnation: u32,
    pace: u64,
    draw: fastrand::Rng,
    /// When it was offered last, while there is load.
    last: Option<std::time::Instant>,
    /// Milliseconds of load so far.
    time: u64,
    /// Frames in a millisecond now.
    rate: u64,
}

struct Target {
    node: u32,
    peer: Peer,
    sequence: u64,
    /// The row knows that no sequence is higher.
    limit: u64,
}

impl Load {
    pub(crate) fn new(transport: &Transport, args: &Args) -> Result<Self, Failure> {
        let targets = args.peers.iter().map(|&(node, addr)| {
            Ok(Target {
                node,
                peer: transport.peer(addr)?,
                sequence: 0,
                limit: 0,
            })
        });
        let mut draw = fastrand::Rng::with_seed(args.seed);
        Ok(Load {
            targets: targets.collect::<Result<_, Failure>>()?,
            node: args.node,
            incarnation: args.incarnation,
            pace: args.pace,
            rate: draw.u64(1..=args.pace),
            draw,
            last: None,
            time: 0,
        })
    }

    pub(crate) fn begin(&mut self) {
        self.last = Some(std::time::Instant::now());
    }

    pub(crate) fn end(&mut self) {
        self.last = None;
    }

    /// Offers what is due since the last call.
    pub(crate) fn offer(&mut self) -> Result<(), Failure> {
        let Some(last) = &mut self.last else {
            return Ok(());
        };
        let passed = last.elapsed().as_millis() as u64;
        *last += std::time::Duration::from_millis(passed);
        let before = self.time / PHASE;
        self.time += passed;
        if self.time / PHASE > before {
            // Slow enough for frames to go stale, or fast enough for them to be evicted.
            self.rate = match self.draw.u32(..3) {
                0 => 1 + self.draw.u64(..10),
                1 => 1 + self.draw.u64(..self.pace),
                _ => self.pace,
            };
        }
        for _ in 0..passed.min(CATCH_UP) * self.rate.min(self.pace) {
            self.one()?;
        }
        Ok(())
    }

    /// Sends one frame to each peer.
    pub(crate) fn one(&mut self) -> Result<(), Failure> {
        for target in &mut self.targets {
            if target.sequence == target.limit {
                target.limit += STEP;
                print_line(format!("limit {} {}", target.node, target.limit))?;
            }
            let stamp = Stamp {
                sender: self.node,
                incarnation: self.incarnation,
                group: group_for(target.node, target.sequence),
                sequence: target.sequence,
            };
            let payload = stamp.payload(LENGTHS[target.sequence as usize % 7 % 4]);
            match target.peer.try_send(GroupId::new(stamp.group), payload) {
                Ok(()) => target.sequence += 1,
                // All its room is taken by frames that are being written.
                Err(SendError::Full { .. }) => {}
                Err(err) => return Err(Failure::error(err.to_string())),
            }
        }
        Ok(())
    }

    /// Returns what became of the frames for each peer: the peer, accepted, written, stale, evicted, not
    /// written yet.
    pub(crate) fn sent(&self) -> Value {
        let sent = self.targets.iter().map(|target| {
            let frames = target.peer.stats().frames;
            let left = frames.queued + frames.in_flight;
            json!([
                target.node,
                frames.accepted.frames,
                frames.written.frames,
                frames.dropped.stale.frames,
                frames.dropped.overflow.frames,
                left.frames,
            ])
        });
        sent.collect()
    }
}
