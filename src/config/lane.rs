//! [`LaneConfig`]: the bounds of one lane.

use std::time::Duration;

use crate::{
    config::{Config, Overflow},
    lane::Lane,
};

/// The bounds of one lane's queue, for each peer. What is not set is as the lane has it by default: on
/// [`Lane::CONTROL`] 1 MiB, stale after 1 s, and the oldest make room for the newest; on [`Lane::BULK`] stale
/// after 60 s; all else as [`Config`] says it for [`Lane::NORMAL`].
#[derive(Debug, Copy, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LaneConfig {
    /// The most frames in the queue, as [`Config::queue_frames`]. 1 to 2³² − 1.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub queue_frames: Option<usize>,
    /// The most bytes in the queue, as [`Config::queue_bytes`]. At least 64. If this is less than
    /// [`Config::max_frame`], it is also the longest frame that can be sent on the lane.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub queue_bytes: Option<usize>,
    /// How long a frame may wait to be written, as [`Config::stale_after`]. 1 ms to a day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub stale_after: Option<Duration>,
    /// What a full queue does with a further frame, as [`Config::overflow`].
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub overflow: Option<Overflow>,
    /// The part of the queue that one group may fill, as [`Config::group_share`]. Above 0, up to 1.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub group_share: Option<f64>,
}

impl LaneConfig {
    /// Returns the defaults of whatever lane it is for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`LaneConfig::queue_frames`](#structfield.queue_frames).
    #[must_use]
    pub fn queue_frames(mut self, frames: usize) -> Self {
        self.queue_frames = Some(frames);
        self
    }

    /// Sets [`LaneConfig::queue_bytes`](#structfield.queue_bytes).
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Sets [`LaneConfig::stale_after`](#structfield.stale_after).
    #[must_use]
    pub fn stale_after(mut self, age: Duration) -> Self {
        self.stale_after = Some(age);
        self
    }

    /// Sets [`LaneConfig::overflow`](#structfield.overflow).
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// Sets [`LaneConfig::group_share`](#structfield.group_share).
    #[must_use]
    pub fn group_share(mut self, share: f64) -> Self {
        self.group_share = Some(share);
        self
    }

    /// Returns what a lane has by default where that differs from the normal lane.
    fn default_of(lane: Lane) -> Self {
        match lane {
            Lane::CONTROL => LaneConfig::new()
                .queue_bytes(1 << 20)
                .stale_after(Duration::from_secs(1))
                .overflow(Overflow::DropOldest),
            Lane::BULK => LaneConfig::new().stale_after(Duration::from_secs(60)),
            _ => LaneConfig::new(),
        }
    }
}

/// The bounds of a lane, with all that was left out.
#[derive(Debug, Copy, Clone, PartialEq)]
pub(crate) struct LaneBounds {
    pub(crate) queue_frames: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) stale_after: Duration,
    pub(crate) overflow: Overflow,
    pub(crate) group_share: f64,
}

impl Config {
    /// Sets the bounds of a lane other than the normal one, whose bounds are the fields of the same names in
    /// this `Config`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use actix_transport::{Config, Lane, LaneConfig};
    ///
    /// let heartbeats = LaneConfig::new().stale_after(Duration::from_millis(300));
    /// let config = Config::default().lane(Lane::CONTROL, heartbeats);
    /// config.validate().unwrap();
    /// ```
    #[must_use]
    pub fn lane(mut self, lane: Lane, bounds: LaneConfig) -> Self {
        self.lanes.insert(lane, bounds);
        self
    }

    pub(crate) fn bounds_of(&self, lane: Lane) -> LaneBounds {
        let set = self.lanes.get(&lane).copied().unwrap_or_default();
        let default = LaneConfig::default_of(lane);
        LaneBounds {
            queue_frames: set
                .queue_frames
                .or(default.queue_frames)
                .unwrap_or(self.queue_frames),
            queue_bytes: set
                .queue_bytes
                .or(default.queue_bytes)
                .unwrap_or(self.queue_bytes),
            stale_after: set
                .stale_after
                .or(default.stale_after)
                .unwrap_or(self.stale_after),
            overflow: set.overflow.or(default.overflow).unwrap_or(self.overflow),
            group_share: set.group_share.unwrap_or(self.group_share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_the_default_of_the_lane_and_then_that_of_the_normal_one() {
        let config = Config::default()
            .queue_frames(7)
            .stale_after(Duration::from_secs(9))
            .group_share(0.5)
            .lane(Lane::CONTROL, LaneConfig::new().queue_bytes(4096))
            .lane(Lane::BULK, LaneConfig::new().group_share(0.25));
        let control = config.bounds_of(Lane::CONTROL);
        assert_eq!((control.queue_frames, control.queue_bytes), (7, 4096));
        let shares = [
            control.group_share,
            config.bounds_of(Lane::BULK).group_share,
        ];
        assert_eq!(shares, [0.5, 0.25]);
        assert_eq!(control.stale_after, Duration::from_secs(1));
        assert_eq!(control.overflow, Overflow::DropOldest);
        let bulk = config.bounds_of(Lane::BULK);
        assert_eq!(bulk.stale_after, Duration::from_secs(60));
        assert_eq!(bulk.overflow, Overflow::RejectNewest);
        let own = Lane::new(5).expect("below eight");
        assert_eq!(config.bounds_of(own), config.bounds_of(Lane::NORMAL));
        assert_eq!(config.bounds_of(own).stale_after, Duration::from_secs(9));
    }
}
