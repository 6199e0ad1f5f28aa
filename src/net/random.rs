//! Random numbers.

use std::num::{NonZeroU64, NonZeroU128};

/// Draws a number evenly from 0 to 1.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}

/// Draws an odd number: a factor that maps no two numbers to the same product (modulo 2⁶⁴).
pub(crate) fn odd_factor() -> u64 {
    fastrand::u64(..) | 1
}

/// Draws a number from the lower half of all numbers of 64 bits.
pub(crate) fn first_number() -> u64 {
    fastrand::u64(..1 << 63)
}

/// Draws the id of a trace.
pub(crate) fn trace_id() -> NonZeroU128 {
    NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN)
}

/// Draws the id of a span.
pub(crate) fn span_id() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN)
}
