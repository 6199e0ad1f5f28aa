//! What is to be carried in one run: the same for all contestants.

use std::hint::black_box;

use bytes::BufMut;
use clap::ValueEnum;

use crate::{node::Where, payload::NUMBER};

/// Bytes of a frame before its payload.
pub(super) const HEADER: usize = 8;

/// Bytes of a frame before its group.
pub(super) const PREFIX: usize = 4;

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(super) enum Task {
    /// Frames over connections, as fast as they go.
    Stream,
    /// Datagrams, as fast as they go.
    Datagrams,
    /// One frame there and back, again and again.
    RoundTrip,
    /// The same, but the plain program, too, has a connection for each direction.
    OneWayRoundTrip,
    /// Connections on which nothing happens.
    Idle,
}

#[derive(Clone, clap::Args)]
pub(super) struct Work {
    #[arg(long, value_enum)]
    pub(super) task: Task,
    /// Bytes of a payload.
    #[arg(long)]
    pub(super) size: usize,
    /// Frames, datagrams, round trips or connections.
    #[arg(long)]
    pub(super) frames: u64,
    /// Who send, side by side.
    #[arg(long)]
    pub(super) producers: u64,
    /// Groups sent to, in turns.
    #[arg(long)]
    pub(super) groups: u32,
    /// Addresses sent to, in turns.
    #[arg(long)]
    pub(super) peers: usize,
    /// Where the actors of our transport run.
    #[arg(long, value_enum)]
    pub(super) placement: Where,
}

/// Where a frame goes.
#[derive(Copy, Clone)]
pub(super) struct Route {
    /// Which of the addresses.
    pub(super) peer: usize,
    pub(super) group: u32,
}

impl Work {
    /// Returns the command line that says this.
    pub(super) fn to_args(&self) -> Vec<String> {
        let task = value_name(&self.task);
        let placement = value_name(&self.placement);
        vec![
            format!("--task={task}"),
            format!("--size={}", self.size),
            format!("--frames={}", self.frames),
            format!("--producers={}", self.producers),
            format!("--groups={}", self.groups),
            format!("--peers={}", self.peers),
            format!("--placement={placement}"),
        ]
    }

    /// Returns the numbers of the frames that one of the producers sends, and where to.
    pub(super) fn frames_of(&self, producer: u64) -> impl Iterator<Item = (u64, Route)> {
        let numbers =
            self.frames * producer / self.producers..self.frames * (producer + 1) / self.producers;
        let peers = self.peers;
        let groups = 0..self.groups;
        let routes = groups.flat_map(|group| (0..peers).map(move |peer| Route { peer, group }));
        let routes: Vec<_> = routes.collect();
        let mut next = 0;
        numbers.map(move |number| {
            let route = routes[next];
            next += 1;
            if next == routes.len() {
                next = 0;
            }
            (number, route)
        })
    }
}

/// Appends a payload, in the form of `payload.rs`, to what is written once and given away.
pub(super) fn append(frame: &mut impl BufMut, size: usize, number: u64) {
    let mut rest = size;
    if size >= NUMBER {
        frame.put_u64_le(number);
        rest -= NUMBER;
    }
    frame.put_bytes(number as u8, rest);
}

/// Returns the eight bytes before a payload.
pub(super) fn header(group: u32, size: usize) -> [u8; HEADER] {
    let length = (HEADER + size) as u32;
    let mut header = [0; HEADER];
    header[..PREFIX].copy_from_slice(&length.to_be_bytes());
    header[PREFIX..].copy_from_slice(&group.to_le_bytes());
    header
}

/// Looks at a payload as little as anybody would who has a use for it: it has to come to this core.
#[inline]
pub(super) fn touch(payload: &[u8]) {
    black_box((payload.first().copied(), payload.last().copied()));
}

/// Returns the name by which clap knows a value.
pub(super) fn value_name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_string())
}
