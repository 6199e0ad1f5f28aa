//! The work of one run: the same for all contestants.

use std::hint::black_box;

use bytes::BufMut;
use clap::ValueEnum;

use crate::{node::Where, payload::NUMBER};

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 8;

/// Bytes of a frame before its group, that is, of its length.
pub(super) const PREFIX: usize = 4;

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(super) enum Task {
    /// Frames over connections, as fast as possible.
    Stream,
    /// Datagrams, as fast as possible.
    Datagrams,
    /// One frame there and back at a time.
    RoundTrip,
    /// The same, but plain tokio also uses one connection for each direction.
    OneWayRoundTrip,
    /// Calls and their answers.
    Call,
    /// Connections that are idle.
    Idle,
}

#[derive(Clone, clap::Args)]
pub(super) struct Work {
    #[arg(long, value_enum)]
    pub(super) task: Task,
    /// Bytes of a payload.
    #[arg(long)]
    pub(super) size: usize,
    /// Frames, datagrams, round trips, calls or connections.
    #[arg(long)]
    pub(super) frames: u64,
    /// Number of senders that work in parallel.
    #[arg(long)]
    pub(super) producers: u64,
    /// Number of groups to send to, in turns.
    #[arg(long)]
    pub(super) groups: u32,
    /// Number of addresses to send to, in turns.
    #[arg(long)]
    pub(super) peers: usize,
    /// Number of frames that our sender gives to the transport in one call.
    #[arg(long)]
    pub(super) burst: usize,
    /// Number of calls that are under way at a time.
    #[arg(long)]
    pub(super) in_flight: usize,
    /// Where the actors of our transport run.
    #[arg(long, value_enum)]
    pub(super) placement: Where,
    /// Whether both our nodes introduce themselves, so that they use one connection.
    #[arg(long)]
    pub(super) sessions: bool,
    /// Whether our nodes encrypt. Set by the contestant, not by the case.
    #[arg(skip)]
    pub(super) tls: bool,
}

/// The destination of a frame.
#[derive(Copy, Clone)]
pub(super) struct Route {
    /// Index into the addresses.
    pub(super) peer: usize,
    pub(super) group: u32,
}

impl Work {
    /// Returns the command-line arguments for this work.
    pub(super) fn to_args(&self) -> Vec<String> {
        let task = value_name(&self.task);
        let placement = value_name(&self.placement);
        let mut args = vec![
            format!("--task={task}"),
            format!("--size={}", self.size),
            format!("--frames={}", self.frames),
            format!("--producers={}", self.producers),
            format!("--groups={}", self.groups),
            format!("--peers={}", self.peers),
            format!("--burst={}", self.burst),
            format!("--in-flight={}", self.in_flight),
            format!("--placement={placement}"),
        ];
        if self.sessions {
            args.push("--sessions".to_string());
        }
        args
    }

    /// Returns the numbers of the frames that one producer sends, with their routes.
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

/// Appends a payload in the format of `payload.rs`, for a buffer that is then given away.
pub(super) fn append(frame: &mut impl BufMut, size: usize, number: u64) {
    let mut rest = size;
    if size >= NUMBER {
        frame.put_u64_le(number);
        rest -= NUMBER;
    }
    frame.put_bytes(number as u8, rest);
}

/// Returns the header of a frame.
pub(super) fn header(group: u32, size: usize) -> [u8; HEADER] {
    let length = (HEADER + size) as u32;
    let mut header = [0; HEADER];
    header[..PREFIX].copy_from_slice(&length.to_be_bytes());
    header[PREFIX..].copy_from_slice(&group.to_le_bytes());
    header
}

/// Reads a little of a payload, as any real program would, so that its bytes come to this core.
#[inline]
pub(super) fn touch(payload: &[u8]) {
    black_box((payload.first().copied(), payload.last().copied()));
}

/// Returns the name that clap uses for a value.
pub(crate) fn value_name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_string())
}
