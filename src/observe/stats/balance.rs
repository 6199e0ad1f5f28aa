//! Checks equations between counters.

use crate::wire::count::Count;

/// Two totals of counters that must be equal and are not.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{counters}: {sum} does not hold: {left} is not {right}")]
pub struct Imbalance {
    /// Whose counters they are: `tcp`, `lane`, `udp`, `inbound`, `peer` or `group`.
    counters: &'static str,
    sum: &'static str,
    left: Count,
    right: Count,
}

/// Returns an error if the two sides of `sum` differ.
pub(super) fn check(
    counters: &'static str,
    sum: &'static str,
    left: Count,
    right: Count,
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
