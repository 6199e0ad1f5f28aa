//! The settings of a transport: meaning, default, bounds and cost of each.
//!
//! One table makes the struct, its defaults and its setters, so that none of the three can miss a field.
//! Leaves the check of the bounds to `validate`, and the use of the settings to all other folders.

#[cfg(feature = "serde")]
mod file;
mod lane;
mod placement;
mod sessions;
mod validate;

use std::{collections::BTreeMap, time::Duration};

#[cfg(feature = "serde")]
pub use self::file::NodeConfig;
#[cfg(feature = "serde")]
use self::file::{Setting, Value};
pub use self::{lane::LaneConfig, placement::Placement, sessions::Sessions};
#[cfg(feature = "serde")]
use crate::error::ConfigError;
use crate::{lane::Lane, wire::frame::PREFIX};

/// What a full send queue does with a new frame.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Overflow {
    /// Refuses the new frame. The sender gets the payload back.
    #[default]
    RejectNewest,
    /// Drops and counts the oldest queued frames, as many as needed. Frames that are being written
    /// cannot be dropped: if they alone fill the queue, it refuses the new frame.
    DropOldest,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $(#[cfg_attr($($attr:tt)+)])? $field:ident: $type:ty = $default:expr;)+) => {
        /// The settings of a transport.
        ///
        /// ```
        /// use std::time::Duration;
        /// use actix_transport::{Config, Placement};
        ///
        /// let config = Config::default()
        ///     .stale_after(Duration::from_secs(2))
        ///     .placement(Placement::Current);
        /// assert_eq!(config.queue_frames, 10_240);
        /// ```
        ///
        /// A default marked "PhxPaxos" is PhxPaxos' own. [`Builder::bind`](crate::Builder::bind) checks
        /// all values, and its error names a field that is out of its bounds.
        ///
        /// With the `serde` feature, settings are read from files in formats that describe themselves, such
        /// as TOML, JSON and YAML. Times are written like `"5s"` or `"200ms"`. Sizes are written like
        /// `4096`, `"64kB"` (64,000 bytes) or `"10MiB"` (10 × 1,048,576 bytes). `placement` is
        /// `"dedicated"` for the default, `"current"`, or `{ dedicated = { readers = 2 } }`. A missing
        /// field gets its default. An error names the field and the value; an unknown field is an error.
        /// `NodeConfig` reads a whole node from one file.
        #[derive(Debug, Clone, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $doc])+ $(#[cfg_attr($($attr)+)])? pub $field: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)+ }
            }
        }

        #[cfg(feature = "serde")]
        impl Config {
            /// Sets the field of this name. Returns `None` if there is no such field.
            fn read_field(&mut self, name: &str, value: &Value) -> Option<Result<(), ConfigError>> {
                match name {
                    $(stringify!($field) => {
                        let field = stringify!($field);
                        let read = Setting::read(field, value).map(|read| self.$field = read);
                        Some(read.map_err(|problem| ConfigError { field, problem }))
                    })+
                    _ => None,
                }
            }
        }

        impl Config {
            $(
                #[doc = concat!("Sets [`Config::", stringify!($field), "`](#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

settings! {
    /// The longest frame that is sent or accepted, in bytes, including its header of 8 bytes: the length
    /// on the wire. Default 10 MiB and 4 bytes, 64 B to 1 GiB. PhxPaxos' limit is 10 MiB, and does not
    /// count the 4 bytes of the length. Use the same value on all nodes: a node that receives a longer
    /// frame closes the connection. Also limits datagrams, together with `max_datagram`.
    max_frame: usize = (10 << 20) + PREFIX;

    /// The most frames in one peer's queue, including those being written. Default 10 240 (PhxPaxos),
    /// 1 to 2³² − 1.
    queue_frames: usize = 10_240;

    /// The most bytes in one peer's queue, including headers and frames being written. Default 200 MiB
    /// (PhxPaxos), at least `max_frame`. Each peer that does not read can cost this much memory. If its
    /// frames are short, it can cost up to a seventh more, plus 2 MiB.
    queue_bytes: usize = 200 << 20;

    /// What a peer's queue does with a further frame when it is full. Default
    /// [`Overflow::RejectNewest`]. The queue of datagrams always rejects the newest.
    overflow: Overflow = Overflow::RejectNewest;

    /// The part of a peer's queue that the frames of one group may fill, so that a noisy group leaves room for the
    /// others. Above 0, up to 1. Default 1: all of it. Holds for `queue_frames` and for `queue_bytes` (rounded, at
    /// least one frame), on each lane; frames that are being written count. The queue of datagrams has no shares.
    ///
    /// A frame of a group that has used up its share is refused
    /// ([`QueueLimit::GroupShare`](crate::QueueLimit::GroupShare)), or waits until frames of its own group have
    /// left, while others go on. With [`Overflow::DropOldest`], the oldest frames of its own group make way for it.
    /// A frame that is longer than the share may enter when nothing else of its group is in the queue. Calls and
    /// the parts of [`Peer::send_large`](crate::Peer::send_large) count for the group that they are for; the answers to
    /// calls are together a group of their own.
    ///
    /// Several noisy groups together can still fill the queue: with a share of 0.25 it takes four. Below 1, frames
    /// are counted by group in a hash table, which costs 40 to 150 ns for each frame. A queue with `DropOldest` then
    /// keeps frames of different groups in buffers of their own, which takes more memory and makes smaller writes.
    group_share: f64 = 1.0;

    /// How long a frame may wait to be written. After that it is dropped and counted. Default 5 s
    /// (PhxPaxos), 1 ms to a day. A frame that has been written in part is always finished, whatever
    /// its age. Ages are measured by the system's coarse clock, in steps of 1 to 10 ms, and a frame may
    /// be dropped one step early: a limit of a few milliseconds drops frames that hardly waited.
    ///
    /// On Linux and Android, the time in which the machine sleeps (suspend) counts: what was queued before
    /// a long sleep is dropped after it, and not sent hours late. Bytes that the kernel took before the
    /// sleep are still sent. On other systems it depends on their monotonic clock whether sleep counts.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    stale_after: Duration = Duration::from_secs(5);

    /// How long an outgoing connection with nothing to send stays open; with sessions, with nothing in either
    /// direction. Default 60 s (PhxPaxos), 1 ms to 30 days. After the same time again without a connection, a peer
    /// is forgotten, unless somebody holds a [`Peer`](crate::Peer) handle to it.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    idle_timeout: Duration = Duration::from_secs(60);

    /// How long connecting to a peer may take. For a peer that is called by a name, this includes resolving the
    /// name and trying all its addresses. Default 3 s, 1 ms to 30 days. While more peers wait to be
    /// dialled than `max_dials` allows, a dial without an answer ends earlier. With [`Sessions`], each end of
    /// a new connection waits as long again for what the other says of itself. With TLS, the TLS handshake may
    /// take as long again, too.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    connect_timeout: Duration = Duration::from_secs(3);

    /// The upper bound of the first wait before a peer is dialled again, after a connection failed or was
    /// lost. The bound doubles with each further failure, up to `redial_max`. Each wait is drawn evenly
    /// between zero and its bound. Default 200 ms (PhxPaxos), 1 ms to a day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    redial_first: Duration = Duration::from_millis(200);

    /// The longest wait between two dials of a peer. The wait for a place in `max_dials` comes on top.
    /// Default 5 s, `redial_first` to a day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    redial_max: Duration = Duration::from_secs(5);

    /// How long an outgoing connection must live for the waits between dials to start over at
    /// `redial_first`. Default 1 s, at most a day. With a low value, a peer that accepts connections and
    /// closes them at once is dialled again and again with short waits.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    stable_after: Duration = Duration::from_secs(1);

    /// How many connections may be dialled at the same time, for all peers together; each address of a name
    /// counts, and a name that is being resolved counts as one. Default 64, 1 to
    /// 2³² − 1. Further dials wait for their turn. New peers, and peers that answered their last dial, go
    /// first. A dial that has had no answer for 50 ms ends when one of those waits. Dials of peers that
    /// did not answer before give way to each other after 200 ms, and after 800 ms from then on.
    max_dials: usize = 64;

    /// How many peers may be known at the same time. Default 4 096, 1 to 2³² − 1. For a further peer, the
    /// one that has been without a connection for longest is forgotten, unless somebody holds a
    /// [`Peer`](crate::Peer) handle to it. Idle peers come first, then peers that cannot be reached; the
    /// frames waiting for those are dropped and counted. If there is neither, the further peer is refused.
    max_peers: usize = 4_096;

    /// Whether small writes are sent at once (`TCP_NODELAY`), without waiting for an acknowledgement of
    /// earlier ones. Default true. Frames are batched before they are written, so this costs nothing
    /// under load.
    nodelay: bool = true;

    /// How long a connection may be quiet before the system probes whether the other side is still
    /// there. It probes three times, each a third of this time apart, but at least 1 s. Default 15 s, 1 s to
    /// an hour. Fractions of a second are dropped.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    keepalive: Duration = Duration::from_secs(15);

    /// How long written bytes may stay unacknowledged before the link is given up (`TCP_USER_TIMEOUT`,
    /// on systems that have it). Default 10 s, 1 ms to 24 days.
    ///
    /// Linux also counts the time in which the receiver has no room for more bytes. So a receiver whose
    /// handlers hold back a connection for longer than this loses the connection and the frames on
    /// their way, and is dialled again. Raise this above the longest time that the handlers may take for
    /// all frames of one read, which are up to `batch_frames`; see
    /// [`GroupOverflow::Wait`](crate::GroupOverflow::Wait).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    user_timeout: Duration = Duration::from_secs(10);

    /// How many connections may wait to be accepted (the backlog of `listen`). Default 1 024, 1 to
    /// 65 535. The system may lower it.
    backlog: u32 = 1_024;

    /// How many incoming connections may be open at the same time. Default 16 384, 1 to 2³² − 1. A
    /// further connection is closed at once and counted.
    ///
    /// On Linux and Android this is lowered to three quarters of the descriptors that the process may
    /// have (`ulimit -n`) when [`bind`](crate::Builder::bind) is called, so that the rest of the
    /// process can still open files. `bind` logs that at `info`, and
    /// [`LinkStats::connection_limit`](crate::LinkStats::connection_limit) shows the number.
    ///
    /// There too, `bind` has the system enlarge its table of descriptors for this many connections and a
    /// quarter more, at 8 B each. A thread waits for that, and ends soon. Otherwise the table would grow step
    /// by step while connections come, and each step would stop the arbiter that accepts: usually for 10 to
    /// 25 ms, on a busy machine for seconds.
    max_connections: usize = 16_384;

    /// How many incoming connections from one IP address may be open at the same time. Default 2 048,
    /// 1 to 2³² − 1. Where descriptors limit the connections, also at most half of them. In IPv6, all
    /// addresses of one network of 64 bits count together, because one machine can have all of them.
    /// A connection that sends nothing stays open for as long as its system answers keepalive probes:
    /// this limit keeps one machine from shutting out all others. Raise it if more nodes than this
    /// share an address.
    max_connections_per_ip: usize = 2_048;

    /// How much memory all connections that frames come in on may hold together, in bytes: frames that are arriving,
    /// and frames that wait for their group's actor, with what a batch costs beside its frames. Default
    /// 256 MiB, at least 4 MiB and twice `max_frame`.
    ///
    /// When it is used up, connections read less at a time, and those with a long unfinished frame
    /// wait. The largest unfinished frames are given up for those that wait: their connections are
    /// closed and counted as [`ReceiveStats::given_up`](crate::ReceiveStats::given_up). Short frames
    /// still get through, since each connection may always hold 4 KiB, and an eighth of the budget is
    /// kept for connections that hold at most 16 KiB.
    ///
    /// Not counted: payloads that the program keeps after its handler has returned, what groups hold
    /// that have a bound of their own ([`GroupOverflow::Drop`](crate::GroupOverflow::Drop)), and up to
    /// 64 MiB for each address of what it sent before it closed connections whose handlers are busy.
    inbound_bytes: usize = 256 << 20;

    /// How long a frame may take to arrive, from its first byte to its last. Default 30 s, 1 ms to
    /// 30 days. A slower frame costs its connection. If the transport stops reading because handlers
    /// are busy, an incomplete frame gets its full time again afterwards.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    frame_timeout: Duration = Duration::from_secs(30);

    /// How long a connection of a node that has introduced itself still waits for bytes when a later
    /// connection brings the frames of the same queue. Default 200 ms, 1 ms to 1 day. Frames of the later
    /// one are delivered when the former one has been read to its end, or this time is over; what has not
    /// come by then is a gap ([`Inbound::gap`](crate::Inbound::gap)). A connection on which bytes never stop
    /// ends `connect_timeout` later at the latest. The time that handlers take does not count.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    handover_wait: Duration = Duration::from_millis(200);

    /// The slowest rate at which a large frame may arrive, in bytes per second. Default 64 KiB/s, 1 to
    /// 2³² − 1. If a frame needs longer than `frame_timeout` at this rate, it gets that longer time.
    frame_floor: usize = 64 << 10;

    /// The most frames of one connection that are with handlers at the same time. Default 16 384, 1 to
    /// 2³² − 1. The transport reads a connection again when all frames that it has handed over have been
    /// handled, and it hands over what one read brought, up to this many frames: up to 512 KiB, or one
    /// longer frame. If a handler needs long for each frame, lower this so that the handlers need less
    /// than the sender's `user_timeout` for this many frames. Low values make small frames slower.
    batch_frames: usize = 16_384;

    /// The longest message that is received in parts ([`Peer::send_large`](crate::Peer::send_large)), in bytes of its
    /// payload. Default 256 MiB, 0 to 1 GiB; with 0, none is. It is put together within `inbound_bytes`, so the
    /// longest is three quarters of those less 1 MiB, if that is less: 191 MiB with the default. Senders are told.
    /// Needs [`Sessions`].
    ///
    /// All messages of one node together that are not whole or not handled are no longer than this, over all its
    /// connections. If a further one does not fit, its connection is not read until it does. After `frame_timeout`, or if
    /// others need the memory, it is dropped as [`DropReason::Incomplete`](crate::DropReason::Incomplete).
    max_message: usize = 256 << 20;

    /// How long a call ([`Peer::call`](crate::Peer::call)) waits for its answer, unless the caller says otherwise. Default
    /// 5 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    call_deadline: Duration = Duration::from_secs(5);

    /// How many calls may wait for answers on one lane of a peer. Default 1 024, 1 to 2³² − 1. Further calls wait, or
    /// are refused ([`CallError::Full`](crate::CallError::Full)).
    peer_calls: usize = 1_024;

    /// How many bytes the calls may have together that wait for answers on one lane of a peer. Default 32 MiB, 1 to
    /// 2³² − 1. A call that is longer than that waits until it is the only one.
    peer_call_bytes: usize = 32 << 20;

    /// How many calls may wait for answers altogether. Default 16 384, 1 to 2³² − 1.
    max_calls: usize = 16_384;

    /// How many bytes the calls may have together that wait for answers, of all peers. Default 128 MiB, 1 to 2³² − 1. As
    /// many bytes of answers may wait for callers that do not look; a call whose answer would be more is
    /// [`CallError::Lost`](crate::CallError::Lost).
    max_call_bytes: usize = 128 << 20;

    /// How many bytes the calls of one group may have together that are with its handler or wait for it. Each call
    /// counts as its payload and 1 KiB. Default 64 MiB, at least 1 KiB: 65 536 short calls. Further ones are refused
    /// ([`CallError::Refused`](crate::CallError::Refused)). Each sender has a share, so that one who calls too much has
    /// its own calls refused and not those of others: a connection may hold four fifths of it at most, so a longer call is
    /// always refused; see [`GroupOverflow::Drop`](crate::GroupOverflow::Drop).
    served_call_bytes: usize = 64 << 20;

    /// Whether a UDP socket is bound on the port of the TCP socket. Default true. With TLS, datagrams must also
    /// be allowed (`Tls::allow_datagrams`).
    udp: bool = true;

    /// The longest payload of a datagram, in bytes. Default 4 096 (PhxPaxos), 1 to 65 503: IPv4 carries
    /// 65 507, and the group takes 4. The system cuts a datagram that is longer than the path carries
    /// into IP fragments, and loses it if it loses one of them.
    /// [`Transport::send_auto`](crate::Transport::send_auto) uses UDP up to this length, as PhxPaxos
    /// does.
    max_datagram: usize = 4_096;

    /// The most datagrams in the send queue, including those being sent. Default 10 240 (PhxPaxos), 1 to
    /// 2³² − 1.
    udp_queue_frames: usize = 10_240;

    /// The most bytes of datagrams in the send queue; each datagram counts as its payload and 8 bytes
    /// more. Default 40 MiB, at least `max_datagram` + 8.
    udp_queue_bytes: usize = 40 << 20;

    /// How much room the system is asked for, in bytes, for datagrams that have arrived and have not been
    /// read. Default 8 MiB, 4 KiB to 1 GiB. The system may give less (on Linux `net.core.rmem_max` is the
    /// limit): [`Transport::datagram_buffers`](crate::Transport::datagram_buffers) tells what it gave.
    /// What does not fit is lost, and counted where the system tells:
    /// [`LinkStats::datagrams_lost`](crate::LinkStats::datagrams_lost). Linux counts some 700 bytes beside
    /// each datagram and gives twice the number asked for, so the default holds 20 000 short datagrams.
    udp_receive_buffer: usize = 8 << 20;

    /// How much room the system is asked for, in bytes, for datagrams that were sent and have not left.
    /// Default 1 MiB, 4 KiB to 1 GiB. The system may give less (on Linux `net.core.wmem_max` is the
    /// limit). Datagrams in this buffer count as written and do not go stale, so a large one can make
    /// them late.
    udp_send_buffer: usize = 1 << 20;

    /// The most bytes of received datagrams that one group with
    /// [`GroupOverflow::Wait`](crate::GroupOverflow::Wait) may hold unhandled: frames with 8 bytes of
    /// header, and 256 bytes for each batch. What does not fit is dropped and counted. Default 4 MiB,
    /// at least `max_datagram` + 1 KiB. Each group whose actor is slow can cost this much memory; all
    /// groups that only the catch-all actor serves share one such bound.
    udp_group_bytes: usize = 4 << 20;

    /// Whether nodes introduce themselves to each other, and whether they must. Default
    /// [`Sessions::Auto`]: they must if this node has an [`Identity`](crate::Identity), and do not if it
    /// has none. `Optional` and `Required` need an identity. With sessions, `max_frame` must be at least
    /// 4 096, so that it holds the longest introduction.
    sessions: Sessions = Sessions::Auto;

    /// The bounds of the lanes other than the normal one, as far as they differ from the defaults; see
    /// [`LaneConfig`] and [`Config::lane`](Config::lane()). Default: none differ. In a file, a table by the names
    /// `control`, `bulk` and `lane-3` to `lane-7`, such as `lanes.control = { stale_after = "300ms" }`.
    lanes: BTreeMap<Lane, LaneConfig> = BTreeMap::new();

    /// Whether a node that names a lane which this release does not know is refused
    /// ([`RefusedReason::Lane`](crate::RefusedReason::Lane)). Default false: its frames are taken as on the normal
    /// lane.
    refuse_unknown_lanes: bool = false;

    /// How often one of the transport's own actors may be restarted within `restart_window`. Default 10,
    /// 0 to 2²⁰. If it ends unexpectedly once more, [`PeerEvent::Failed`](crate::PeerEvent::Failed)
    /// reports it, and it is restarted only after `failed_retry`. With 0 that happens each time.
    restart_limit: usize = 10;

    /// The time within which `restart_limit` counts restarts. Default 60 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    restart_window: Duration = Duration::from_secs(60);

    /// The upper bound of the first wait before an actor is restarted. The bound doubles with each further
    /// restart, up to 1 s. Each wait is drawn evenly between zero and its bound. Default 10 ms, 1 ms to
    /// 30 days. A value of 1 s or more is the bound of every wait.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    restart_first: Duration = Duration::from_millis(10);

    /// How long an actor that used up its restarts is paused. Default 30 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    failed_retry: Duration = Duration::from_secs(30);

    /// Where the transport's own actors run. Default [`Placement::Dedicated`] with a quarter of the
    /// cores for reading and a quarter for writing, at least one thread each.
    placement: Placement = Placement::default();
}

impl Config {
    /// Returns the longest message in parts that this node can receive. 0: none.
    pub(crate) fn longest_message(&self) -> usize {
        let room = (self.inbound_bytes / 4 * 3).saturating_sub(1 << 20);
        self.max_message.min(room)
    }

    /// Returns PhxPaxos' settings for messages of many megabytes: frames up to 50 MiB and 4 bytes, 1 024 of
    /// them in a queue, stale after 20 s, links idle for at most 600 s.
    pub fn large_messages() -> Self {
        Config {
            max_frame: (50 << 20) + PREFIX,
            queue_frames: 1_024,
            stale_after: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(600),
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_large_messages_have_the_numbers_of_phxpaxos() {
        let config = Config::default();
        assert_eq!(
            (config.max_frame, config.queue_frames),
            ((10 << 20) + 4, 10_240)
        );
        let large = Config::large_messages();
        assert_eq!(
            (large.max_frame, large.queue_frames),
            ((50 << 20) + 4, 1_024)
        );
        assert_eq!(large.stale_after, Duration::from_secs(20));
        assert_eq!(large.idle_timeout, Duration::from_secs(600));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn fields_missing_from_a_file_get_their_defaults_and_unknown_ones_are_errors() {
        let config: Config = toml::from_str(
            "stale_after = \"2s\"\noverflow = \"drop_oldest\"\nplacement = \"current\"\n",
        )
        .expect("valid");
        let expected = Config::default()
            .stale_after(Duration::from_secs(2))
            .overflow(Overflow::DropOldest)
            .placement(Placement::Current);
        assert_eq!(config, expected);
        let text = toml::to_string(&config).expect("plain values");
        assert_eq!(toml::from_str::<Config>(&text), Ok(config));
        let err = toml::from_str::<Config>("stale = 1").expect_err("unknown");
        assert!(err.to_string().contains("stale"), "{err}");
    }
}
