//! Every setting: meaning, default, bounds, and what it costs.
//!
//! One table below makes the struct, its defaults and its setters, so that none of the three can
//! forget a field. Owns the validation too; it does not know what the fields are used for.

use std::time::Duration;

use crate::error::ConfigError;

/// What a full send queue does with one frame more.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Overflow {
    /// Refuses it; the sender gets it back and decides.
    #[default]
    RejectNewest,
    /// Drops the oldest frames that wait, as many as it takes, and counts them. Frames that are
    /// being written are not dropped: if they alone fill the queue, the newest is refused.
    DropOldest,
}

/// Where the transport's own actors run.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Placement {
    /// On threads of their own: `readers` arbiters for the `Reader`s, the `Listener`, the `Node` and
    /// the `UdpActor`, and `writers` arbiters among which the peers are spread. 1 to 1024 of each.
    Dedicated {
        /// Threads that read.
        readers: usize,
        /// Threads that write.
        writers: usize,
    },
    /// All on the arbiter that calls `bind`. A message then crosses no thread inside the transport:
    /// the shortest round trip, and the whole transport shares one core with whatever else runs
    /// there. The transport ends when that arbiter does.
    Current,
}

impl Default for Placement {
    /// A quarter of the cores reads and a quarter writes, at least one thread each.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let quarter = (cores / 4).max(1);
        Placement::Dedicated {
            readers: quarter,
            writers: quarter,
        }
    }
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
        /// "PhxPaxos" beside a default means that the number is that library's. Values are checked
        /// by [`Builder::bind`](crate::Builder::bind), which names the field that it cannot use.
        ///
        /// With the `serde` feature, durations are read and written as `"5s"`, `"200ms"`; a field
        /// left out has its default, an unknown one is an error.
        #[derive(Debug, Clone, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $doc])+ $(#[cfg_attr($($attr)+)])? pub $field: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)+ }
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
    /// The longest frame, in bytes, header of eight included, sent or taken. Default 10 MiB
    /// (PhxPaxos), 64 B to 1 GiB. Both ends must agree: a longer frame closes the connection it came
    /// on. Datagrams are held to it as well as to `max_datagram`.
    max_frame: usize = 10 << 20;

    /// Frames that one peer's queue holds, those being written included. Default 10 240 (PhxPaxos),
    /// 1 to 2³² − 1.
    queue_frames: usize = 10_240;

    /// Bytes that one peer's queue holds, headers and frames being written included. Default 200 MiB
    /// (PhxPaxos), at least `max_frame`. Worst case this much memory per peer that does not read,
    /// and up to a seventh more and 2 MiB for frames that are short.
    queue_bytes: usize = 200 << 20;

    /// What a peer's full queue does. Default [`Overflow::RejectNewest`], as the queue of datagrams
    /// always has it.
    overflow: Overflow = Overflow::RejectNewest;

    /// How long a frame may wait to be written before it is dropped and counted. Default 5 s
    /// (PhxPaxos), 1 ms to a day. A frame of which a part is on the wire is always finished, whatever
    /// its age. Ages go by the system's coarse clock, in steps of 1 to 10 ms: a frame may be dropped
    /// one step early, so a limit as short as that drops frames that hardly waited.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    stale_after: Duration = Duration::from_secs(5);

    /// How long a link with nothing to send stays open. A peer nobody holds a handle to is forgotten
    /// when it has been without a link for as long again. Default 60 s (PhxPaxos), 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    idle_timeout: Duration = Duration::from_secs(60);

    /// How long a connection may take to be made. Default 3 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    connect_timeout: Duration = Duration::from_secs(3);

    /// The bound of the first wait after a failed or lost connection; the waits after it double, and
    /// each is drawn evenly from nothing to its bound. Default 200 ms (PhxPaxos), 1 ms to a day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    redial_first: Duration = Duration::from_millis(200);

    /// The bound that those waits do not exceed. Default 5 s, `redial_first` to a day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    redial_max: Duration = Duration::from_secs(5);

    /// How long a link must live for the waits to start over. Default 1 s, at most a day. Lower, and a
    /// peer that accepts and hangs up at once is dialled in a hurry.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    stable_after: Duration = Duration::from_secs(1);

    /// Connections being made at the same time, over all peers. Default 64, at least 1. Peers that do
    /// not answer each hold one of them for up to `connect_timeout`, while the others wait in turn.
    max_dials: usize = 64;

    /// Peers known at the same time. Default 4 096, at least 1. One more is refused.
    max_peers: usize = 4_096;

    /// Whether small writes go out at once instead of waiting for an acknowledgement (`TCP_NODELAY`).
    /// Default true. Frames are batched before they are written, so this costs nothing under load.
    nodelay: bool = true;

    /// How long a connection is quiet before the system probes whether the other side is still
    /// there; it is probed every third of that, three times. Default 15 s, 1 s to an hour; systems
    /// count it in whole seconds, and what is over is left away.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    keepalive: Duration = Duration::from_secs(15);

    /// How long written bytes may go unacknowledged before the link is given up
    /// (`TCP_USER_TIMEOUT`, where the system has it). Default 10 s, 1 ms to 24 days.
    ///
    /// Linux counts the time in which the other side has no room for more, too: a receiver whose
    /// handlers hold a connection back for longer loses it, with what was on its way, and is dialled
    /// anew. Raise this above the longest time a handler may take.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    user_timeout: Duration = Duration::from_secs(10);

    /// Connections waiting to be accepted (`listen`'s backlog). Default 1 024, 1 to 65 535. The
    /// system may lower it.
    backlog: u32 = 1_024;

    /// Incoming connections open at the same time. Default 16 384, at least 1. One more is closed
    /// at once and counted.
    max_connections: usize = 16_384;

    /// The same from one remote ip. Default 16 384, at least 1: no bound of its own. A connection that
    /// says nothing is kept for as long as its system answers keepalives, so where one machine is not
    /// to shut out all others, set this to what one may need.
    max_connections_per_ip: usize = 16_384;

    /// How long a frame may take from its first byte to its last while its connection is being
    /// waited for. Default 30 s, 1 ms to 30 days. A slower one costs its connection.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    frame_timeout: Duration = Duration::from_secs(30);

    /// The rate, in bytes a second, that gives a large frame more time than `frame_timeout`: its
    /// length divided by this. Default 64 KiB/s, at least 1.
    frame_floor: usize = 64 << 10;

    /// Whether a UDP socket is bound beside the TCP one. Default true.
    udp: bool = true;

    /// The longest payload of a datagram, in bytes. Default 4 096 (PhxPaxos), 1 to 65 503, which
    /// with the group is what IPv4 carries (65 507). Above what the path carries, a datagram is cut
    /// into IP fragments and the loss of one loses all. Also the size up to which `send_auto` uses
    /// UDP (PhxPaxos).
    max_datagram: usize = 4_096;

    /// Datagrams that wait to be sent. Default 10 240 (PhxPaxos), at least 1.
    udp_queue_frames: usize = 10_240;

    /// Bytes of the datagrams that wait to be sent, 8 more counted for each. Default 40 MiB, at least
    /// `max_datagram` and 8.
    udp_queue_bytes: usize = 40 << 20;

    /// How often one of the transport's own actors may be started anew within `restart_window`.
    /// Default 10, 0 to 2²⁰; with 0 its first end is one too many. Beyond it the part is reported as
    /// failed and tried again after `failed_retry`.
    restart_limit: usize = 10;

    /// The time that `restart_limit` is about. Default 60 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    restart_window: Duration = Duration::from_secs(60);

    /// The bound of the first wait before an actor is started anew; it doubles up to a second, each
    /// drawn evenly from nothing to its bound. Default 10 ms, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    restart_first: Duration = Duration::from_millis(10);

    /// How long a part that used up its restarts rests. Default 30 s, 1 ms to 30 days.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    failed_retry: Duration = Duration::from_secs(30);

    /// Where the transport's own actors run. Default [`Placement::Dedicated`] with a quarter of the
    /// cores for each way.
    placement: Placement = Placement::default();
}

impl Config {
    /// The settings for messages of many megabytes, as PhxPaxos has them: frames up to 50 MiB,
    /// 1 024 of them in a queue, stale after 20 s, links idle for 600 s.
    pub fn large_messages() -> Self {
        Config {
            max_frame: 50 << 20,
            queue_frames: 1_024,
            stale_after: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(600),
            ..Config::default()
        }
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);

        between("max_frame", self.max_frame, 64, 1 << 30)?;
        between("queue_frames", self.queue_frames, 1, u32::MAX as usize)?;
        between("queue_bytes", self.queue_bytes, self.max_frame, usize::MAX)?;
        between("stale_after", Show(self.stale_after), Show(MS), Show(DAY))?;
        for (field, time) in [
            ("idle_timeout", self.idle_timeout),
            ("connect_timeout", self.connect_timeout),
            ("frame_timeout", self.frame_timeout),
            ("restart_window", self.restart_window),
            ("restart_first", self.restart_first),
            ("failed_retry", self.failed_retry),
        ] {
            between(field, Show(time), Show(MS), Show(30 * DAY))?;
        }
        let most = Duration::from_secs(24 * 24 * 60 * 60);
        between(
            "user_timeout",
            Show(self.user_timeout),
            Show(MS),
            Show(most),
        )?;
        let first = Show(self.redial_first);
        between("redial_first", first, Show(MS), Show(DAY))?;
        between("redial_max", Show(self.redial_max), first, Show(DAY))?;
        let none = Show(Duration::ZERO);
        between("stable_after", Show(self.stable_after), none, Show(DAY))?;
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        between("keepalive", Show(self.keepalive), Show(second), Show(hour))?;
        for (field, number) in [
            ("max_dials", self.max_dials),
            ("max_peers", self.max_peers),
            ("max_connections", self.max_connections),
            ("max_connections_per_ip", self.max_connections_per_ip),
            ("frame_floor", self.frame_floor),
            ("udp_queue_frames", self.udp_queue_frames),
        ] {
            between(field, number, 1, u32::MAX as usize)?;
        }
        between("backlog", self.backlog, 1, 65_535)?;
        between("max_datagram", self.max_datagram, 1, MAX_DATAGRAM)?;
        let datagram = self.max_datagram + crate::wire::frame::HEADER;
        between(
            "udp_queue_bytes",
            self.udp_queue_bytes,
            datagram,
            usize::MAX,
        )?;
        between("restart_limit", self.restart_limit, 0, 1 << 20)?;
        if let Placement::Dedicated { readers, writers } = self.placement {
            between("placement", readers, 1, 1024)?;
            between("placement", writers, 1, 1024)?;
        }
        Ok(())
    }
}

/// What IPv4 carries in one UDP datagram, less the group.
const MAX_DATAGRAM: usize = 65_507 - 4;

/// A duration that prints as `Debug` prints it: `200ms`.
#[derive(Copy, Clone, PartialEq, PartialOrd)]
struct Show(Duration);

impl std::fmt::Display for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn between<T>(field: &'static str, value: T, least: T, most: T) -> Result<(), ConfigError>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    if value >= least && value <= most {
        return Ok(());
    }
    Err(ConfigError {
        field,
        problem: format!("is {value}, which is not between {least} and {most}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_phxpaxos_numbers() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!((config.max_frame, config.queue_frames), (10 << 20, 10_240));
        let large = Config::large_messages();
        assert_eq!(large.validate(), Ok(()));
        assert_eq!((large.max_frame, large.queue_frames), (50 << 20, 1_024));
        assert_eq!(large.stale_after, Duration::from_secs(20));
        assert_eq!(large.idle_timeout, Duration::from_secs(600));
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_field() {
        let bad = [
            ("max_frame", Config::default().max_frame(8)),
            ("queue_frames", Config::default().queue_frames(0)),
            ("queue_bytes", Config::default().queue_bytes(1 << 20)),
            ("stale_after", Config::default().stale_after(Duration::ZERO)),
            ("redial_max", Config::default().redial_max(Duration::ZERO)),
            ("max_peers", Config::default().max_peers(0)),
            ("backlog", Config::default().backlog(0)),
            ("max_datagram", Config::default().max_datagram(65_504)),
            ("udp_queue_bytes", Config::default().udp_queue_bytes(16)),
            (
                "placement",
                Config::default().placement(Placement::Dedicated {
                    readers: 0,
                    writers: 1,
                }),
            ),
        ];
        for (field, config) in bad {
            let err = config.validate().expect_err(field);
            assert_eq!(err.field, field);
            assert!(err.to_string().contains(field), "{err}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn is_read_from_a_file_with_defaults_for_what_is_left_out() {
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
