//! Random numbers.

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
