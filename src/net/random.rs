//! Random numbers.

/// Draws a number evenly from 0 to 1.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}

/// Draws an odd number: a factor that maps no two numbers to the same product (modulo 2⁶⁴).
pub(crate) fn odd_factor() -> u64 {
    fastrand::u64(..) | 1
}
