//! Checks equations between counters.

use std::fmt;

use crate::wire::count::Count;

/// Two totals of counters that must be equal and are not.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{counters}: {sum} does not hold: {left} is not {right}")]
pub struct Imbalance {
    /// Whose counters they are: `tcp`, `lane`, `udp`, `inbound`, `peer`, `group`, `calls` or `served calls`.
    counters: &'static str,
    sum: &'static str,
    left: Total,
    right: Total,
}

/// Frames, or a number of something else.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum Total {
    Frames(Count),
    Number(u64),
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Total::Frames(count) => count.fmt(f),
            Total::Number(number) => number.fmt(f),
        }
    }
}

/// Returns an error if the two sides of `sum` differ.
pub(super) fn check(
    counters: &'static str,
    sum: &'static str,
    left: Count,
    right: Count,
) -> Result<(), Imbalance> {
    check_totals(counters, sum, Total::Frames(left), Total::Frames(right))
}

/// The same for numbers of something else than frames.
pub(super) fn check_number(
    counters: &'static str,
    sum: &'static str,
    left: u64,
    right: u64,
) -> Result<(), Imbalance> {
    check_totals(counters, sum, Total::Number(left), Total::Number(right))
}

fn check_totals(
    counters: &'static str,
    sum: &'static str,
    left: Total,
    right: Total,
) -> Result<(), Imbalance> {
    if left == right {
        return Ok(());
    }
    Err(Imbalance {
        counters,
        sum,
        left,
        right,
    })
}
