//! The bounds of every setting, and the check that a configuration keeps them.
//!
//! Owns the bounds only. What the settings mean and their defaults are left to the table in
//! [`config`](super).

use std::{fmt, ops::RangeInclusive, time::Duration};

use crate::{
    config::{Config, Placement},
    error::ConfigError,
    lane::Lane,
    wire::frame::HEADER,
};

/// The longest payload of a datagram: what IPv4 carries in one, less the 4 bytes of the group.
const MAX_DATAGRAM: usize = 65_507 - 4;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const MIN: Duration = Duration::from_millis(1);

impl Config {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    ///
    /// Names a field that is out of its bounds, its value and the bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_numbers()?;
        self.validate_times()?;
        check_share(self.group_share)?;
        self.validate_lanes()?;
        self.validate_placement()
    }

    fn validate_numbers(&self) -> Result<(), ConfigError> {
        const MAX: usize = u32::MAX as usize;

        let backlog = self.backlog as usize;
        // Saturating, because `max_datagram` itself may be out of its bounds.
        let datagram = self.max_datagram.saturating_add(HEADER);
        let inbound = (4 << 20).max(self.max_frame.saturating_mul(2));
        check([
            ("max_frame", self.max_frame, 64..=1 << 30),
            ("queue_frames", self.queue_frames, 1..=MAX),
            ("queue_bytes", self.queue_bytes, self.max_frame..=usize::MAX),
            ("max_dials", self.max_dials, 1..=MAX),
            ("max_peers", self.max_peers, 1..=MAX),
            ("backlog", backlog, 1..=65_535),
            ("max_connections", self.max_connections, 1..=MAX),
            (
                "max_connections_per_ip",
                self.max_connections_per_ip,
                1..=MAX,
            ),
            ("inbound_bytes", self.inbound_bytes, inbound..=usize::MAX),
            ("frame_floor", self.frame_floor, 1..=MAX),
            ("batch_frames", self.batch_frames, 1..=MAX),
            ("max_message", self.max_message, 0..=1 << 30),
            ("peer_calls", self.peer_calls, 1..=MAX),
            ("peer_call_bytes", self.peer_call_bytes, 1..=MAX),
            ("max_calls", self.max_calls, 1..=MAX),
            ("max_call_bytes", self.max_call_bytes, 1..=MAX),
            (
                "served_call_bytes",
                self.served_call_bytes,
                1 << 10..=usize::MAX,
            ),
            ("max_datagram", self.max_datagram, 1..=MAX_DATAGRAM),
            ("udp_queue_frames", self.udp_queue_frames, 1..=MAX),
            (
                "udp_queue_bytes",
                self.udp_queue_bytes,
                datagram..=usize::MAX,
            ),
            (
                "udp_receive_buffer",
                self.udp_receive_buffer,
                4 << 10..=1 << 30,
            ),
            ("udp_send_buffer", self.udp_send_buffer, 4 << 10..=1 << 30),
            (
                "udp_group_bytes",
                self.udp_group_bytes,
                self.max_datagram.saturating_add(1 << 10)..=usize::MAX,
            ),
            ("restart_limit", self.restart_limit, 0..=1 << 20),
        ])
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let max = 30 * DAY;
        check([
            ("stale_after", self.stale_after, MIN..=DAY),
            ("idle_timeout", self.idle_timeout, MIN..=max),
            ("connect_timeout", self.connect_timeout, MIN..=max),
            ("redial_first", self.redial_first, MIN..=DAY),
            ("redial_max", self.redial_max, self.redial_first..=DAY),
            ("stable_after", self.stable_after, Duration::ZERO..=DAY),
            ("keepalive", self.keepalive, SECOND..=HOUR),
            ("user_timeout", self.user_timeout, MIN..=24 * DAY),
            ("frame_timeout", self.frame_timeout, MIN..=max),
            ("handover_wait", self.handover_wait, MIN..=DAY),
            ("call_deadline", self.call_deadline, MIN..=max),
            ("restart_window", self.restart_window, MIN..=max),
            ("restart_first", self.restart_first, MIN..=max),
            ("failed_retry", self.failed_retry, MIN..=max),
        ])
    }

    fn validate_lanes(&self) -> Result<(), ConfigError> {
        let err = |problem| {
            Err(ConfigError {
                field: "lanes",
                problem,
            })
        };
        if self.lanes.contains_key(&Lane::NORMAL) {
            let text = "has `normal`, whose bounds are the fields of the same names beside `lanes`";
            return err(text.to_owned());
        }
        for &lane in self.lanes.keys() {
            let bounds = self.bounds_of(lane);
            let numbers = check([
                ("queue_frames", bounds.queue_frames, 1..=u32::MAX as usize),
                ("queue_bytes", bounds.queue_bytes, 64..=usize::MAX),
            ]);
            let age = ("stale_after", bounds.stale_after, MIN..=DAY);
            if let Err(ConfigError { field, problem }) = numbers
                .and_then(|()| check([age]))
                .and_then(|()| check_share(bounds.group_share))
            {
                return err(format!("has `{lane}` with a `{field}` that {problem}"));
            }
        }
        Ok(())
    }

    fn validate_placement(&self) -> Result<(), ConfigError> {
        let threads: &[_] = match self.placement {
            Placement::Dedicated { readers, writers } => {
                &[("readers", readers), ("writers", writers)]
            }
            Placement::Shared { arbiters } => &[("arbiters", arbiters)],
            Placement::Current => &[],
        };
        for &(threads, number) in threads {
            if !(1..=1024).contains(&number) {
                return Err(ConfigError {
                    field: "placement",
                    problem: format!("has {number} {threads}, but must have 1 to 1024"),
                });
            }
        }
        Ok(())
    }
}

/// Returns an error for the first of these fields whose value is out of its bounds.
fn check<T, const N: usize>(
    fields: [(&'static str, T, RangeInclusive<T>); N],
) -> Result<(), ConfigError>
where
    T: PartialOrd + fmt::Debug,
{
    for (field, value, bounds) in fields {
        if !bounds.contains(&value) {
            let (min, max) = bounds.into_inner();
            return Err(ConfigError {
                field,
                // `Debug` prints a duration as people write it: `200ms`.
                problem: format!("is {value:?}, but must be between {min:?} and {max:?}"),
            });
        }
    }
    Ok(())
}

/// Checks a part of a whole. It may be tiny, but not nothing, so its lower bound is not one of the values.
fn check_share(share: f64) -> Result<(), ConfigError> {
    match share > 0.0 && share <= 1.0 {
        true => Ok(()),
        false => Err(ConfigError {
            field: "group_share",
            problem: format!("is {share}, but must be above 0 and at most 1"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LaneConfig;

    #[test]
    fn default_settings_and_those_for_large_messages_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(Config::large_messages().validate(), Ok(()));
    }

    #[test]
    fn the_error_names_the_field_that_is_out_of_its_bounds() {
        let threads = |readers, writers| Placement::Dedicated { readers, writers };
        let shared = |arbiters| Placement::Shared { arbiters };
        let bad = [
            ("max_frame", Config::default().max_frame(8)),
            ("queue_frames", Config::default().queue_frames(0)),
            ("queue_bytes", Config::default().queue_bytes(1 << 20)),
            ("stale_after", Config::default().stale_after(Duration::ZERO)),
            ("group_share", Config::default().group_share(0.0)),
            ("group_share", Config::default().group_share(-0.5)),
            ("group_share", Config::default().group_share(1.01)),
            ("group_share", Config::default().group_share(f64::NAN)),
            ("redial_max", Config::default().redial_max(Duration::ZERO)),
            ("max_peers", Config::default().max_peers(0)),
            ("backlog", Config::default().backlog(0)),
            ("max_datagram", Config::default().max_datagram(65_504)),
            ("max_datagram", Config::default().max_datagram(usize::MAX)),
            ("udp_queue_bytes", Config::default().udp_queue_bytes(16)),
            ("udp_group_bytes", Config::default().udp_group_bytes(16)),
            ("placement", Config::default().placement(threads(0, 1))),
            ("placement", Config::default().placement(threads(1, 0))),
            ("placement", Config::default().placement(shared(0))),
            ("placement", Config::default().placement(shared(1025))),
        ];
        for (field, config) in bad {
            let err = config.validate().expect_err(field);
            assert_eq!(err.field, field);
            assert!(err.to_string().contains(field), "{err}");
        }
    }

    #[test]
    fn the_error_names_the_value_and_the_bounds() {
        let text = |config: Config| config.validate().expect_err("too small").to_string();
        assert_eq!(
            text(Config::default().redial_first(Duration::ZERO)),
            "config field `redial_first` is 0ns, but must be between 1ms and 86400s"
        );
        assert_eq!(
            text(Config::default().group_share(1.5)),
            "config field `group_share` is 1.5, but must be above 0 and at most 1"
        );
        let bulk = LaneConfig::new().group_share(0.0);
        assert_eq!(
            text(Config::default().lane(Lane::BULK, bulk)),
            "config field `lanes` has `bulk` with a `group_share` that is 0, but must be above 0 and at most 1"
        );
        let none = Placement::Dedicated {
            readers: 1,
            writers: 0,
        };
        assert_eq!(
            text(Config::default().placement(none)),
            "config field `placement` has 0 writers, but must have 1 to 1024"
        );
    }
}
