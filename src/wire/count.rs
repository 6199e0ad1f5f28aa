//! [`Count`]: frames and their bytes, counted together.

use std::{
    fmt,
    ops::{Add, AddAssign, SubAssign},
};

/// How many frames, and how many bytes they have, headers included.
#[derive(Debug, Copy, Clone, Default, Eq, PartialEq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Count {
    /// Frames.
    pub frames: u64,
    /// Bytes of the payloads, plus 8 per frame for the header. A datagram counts 8 as well, although
    /// only 4 of them are sent.
    pub bytes: u64,
}

impl Count {
    /// No frames and no bytes.
    pub const ZERO: Count = Count {
        frames: 0,
        bytes: 0,
    };

    pub(crate) fn new(frames: usize, bytes: usize) -> Self {
        Count {
            frames: frames as u64,
            bytes: bytes as u64,
        }
    }

    pub(crate) fn one(bytes: usize) -> Self {
        Count::new(1, bytes)
    }

    /// Returns whether there are no frames and no bytes.
    pub fn is_zero(self) -> bool {
        self == Count::ZERO
    }
}

impl Add for Count {
    type Output = Count;

    #[inline]
    fn add(self, other: Count) -> Count {
        Count {
            frames: self.frames + other.frames,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Count {
    #[inline]
    fn add_assign(&mut self, other: Count) {
        *self = *self + other;
    }
}

impl SubAssign for Count {
    #[inline]
    fn sub_assign(&mut self, other: Count) {
        self.frames -= other.frames;
        self.bytes -= other.bytes;
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::ZERO, Add::add)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = if self.frames == 1 { "frame" } else { "frames" };
        write!(f, "{} {frames} ({} bytes)", self.frames, self.bytes)
    }
}
